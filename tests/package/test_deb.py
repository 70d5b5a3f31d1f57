"""The Debian package in the life of a machine: installed, configured, in use, upgraded, removed, purged.

A booted systemd of the tests' own gets the package by dpkg, and everything after that is what an operator types. The
tests go through that life in the order in which they stand.
"""

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.package.conftest import ROOT
from tests.support.booted_systemd import BootedSystemd, boot
from tests.systemd.booted import SOCKETS
from tests.systemd.perimeter import (
    COORDINATOR_TOML,
    NODE_TOML,
    SERVICES,
    make_tpms,
    read_ek_certificate,
    wait_until,
)
from tests.test_documents import other_commands

TYPED: set[str] = set()
UNITS = sorted(path.name for path in (ROOT / "systemd").iterdir() if path.suffix in {".service", ".socket"})
BUSY_S = 200
# Shown to be typed, and not typed here, because:
NOT_TYPED = {
    "make deb": "it is the fixture of that name",
    "make demo": "tests/system/test_demo.py",
    "make test": "it is this",
    "sudo apt install ./build/dist/tccp_0.1.0_amd64.deb": "it asks an index; dpkg installs the same file here",
    "sudoedit /etc/tccp/coordinator.toml": "it is for a person; the file is written here",
    "sudo python3 -m venv /opt/tccp": "tests/package/test_wheel.py, where no index is asked",
    "sudo /opt/tccp/bin/pip install build/dist/tccp-0.1.0-cp311-abi3-linux_x86_64.whl": "likewise",
    "sudo ln -s /opt/tccp/bin/tccp* /usr/bin/": "likewise",
    ".venv/bin/tccp --help": "tests/test_docs.py",
    ".venv/bin/tccp doctor --help": "likewise",
    ".venv/bin/tccp-coordinator --help": "likewise",
    ".venv/bin/tccp-node --help": "likewise",
}
DESK = "/run/desk"  # where it is typed
WEBHOOK = '[webhook]\nurl = "http://127.0.0.1:9/"\n'
USERS = ("tccp-coordinator", "tccp-node", "tccp-witness", "tccp-feeder", "tccp-notifier")


def inside(path: Path) -> str:
    """Where the booted machine has a file of the tree."""
    return f"/opt/tccp/{path.relative_to(ROOT)}"


def dpkg(machine: BootedSystemd, *words: str) -> str:
    """What it said. It writes three thousand files, on a machine that does other things, too."""
    return machine.run("dpkg", "--no-triggers", *words, timeout_s=BUSY_S)


def install(machine: BootedSystemd, package: Path) -> str:
    return dpkg(machine, "--install", inside(package))


def enable(machine: BootedSystemd, name: str) -> None:
    machine.run("systemctl", "enable", "--now", *SOCKETS[name], SERVICES[name], timeout_s=BUSY_S)


def type_(machine: BootedSystemd, command: str) -> str:
    """Type a command as a document shows it, as root; what it printed."""
    assert command in other_commands(), "no document shows this"
    TYPED.add(command)
    tpm = "TPM2TOOLS_TCTI=swtpm:path=/run/tpm-alpha"
    script = f"mkdir -p {DESK}; cd {DESK}; {command.replace('sudo ', '')}"
    return machine.run("env", tpm, "bash", "-euc", script, timeout_s=BUSY_S)


@pytest.fixture(scope="module")
def newer(deb: Path) -> Path:
    """The next version, with another text in it."""
    folder = ROOT / "build" / "deb-newer"
    subprocess.run(["rm", "-rf", folder], check=True)
    subprocess.run(["dpkg-deb", "-R", deb, folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*", "Version: 99", control.read_text(), flags=re.MULTILINE))
    (folder / "usr" / "share" / "doc" / "tccp" / "NEW").write_text("new")
    made = ROOT / "build" / "tccp_99.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", folder, made], check=True, capture_output=True)
    subprocess.run(["rm", "-rf", folder], check=True)
    return made


@pytest.fixture(scope="module")
def machine(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSystemd]:
    with boot(tmp_path_factory.mktemp("machine")) as machine:
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")  # with which images of containers forbid packages to start
        install(machine, deb)
        yield machine


def tccp(machine: BootedSystemd, *words: str) -> Any:
    return json.loads(machine.run("tccp", *words, "--json"))


def test_every_file_is_there_as_it_was_packed(machine: BootedSystemd) -> None:
    assert machine.run("dpkg", "--verify", "tccp") == ""
    assert machine.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "tccp") == "ii "


def test_an_installation_makes_users_and_starts_nothing(machine: BootedSystemd) -> None:
    for user in USERS:
        machine.run("id", user)
    machine.run("getent", "group", "tccp-admin", "tccp-viewer")
    states = machine.run("systemctl", "is-enabled", *UNITS, check=False).split()
    assert set(states) == {"disabled"}
    assert machine.run("systemctl", "list-units", "--no-legend", "--state=active", "tccp-*") == ""
    assert machine.run("find", "/etc/tccp", "/var/lib/tccp", "-type", "f", check=False).count("/etc/tccp/") == 0


def test_the_commands_run_in_an_environment_that_nobody_else_sees(machine: BootedSystemd) -> None:
    assert machine.run("tccp", "--version").startswith("tccp ")
    machine.run("mkdir", "-p", "/run/evil/tccp")
    machine.write("/run/evil/tccp/__init__.py", "raise SystemExit('evil')")
    assert "evil" not in machine.run("env", "PYTHONPATH=/run/evil", "tccp", "--version")
    assert "evil" in machine.run("env", "PYTHONPATH=/run/evil", "python3", "-c", "import tccp", check=False)
    done = machine.run("/usr/bin/python3", "-c", "import tccp", check=False)
    assert "ModuleNotFoundError" in done


def test_there_is_nothing_to_check_before_there_is_a_configuration(machine: BootedSystemd) -> None:
    assert "no_configuration" in machine.run("tccp", "config", "check", check=False)


def test_manual_pages_and_completion_are_found(machine: BootedSystemd) -> None:
    for page in ("man1/tccp.1", "man8/tccp-node.8", "man5/tccp-node.toml.5", "man1/tccp-vm.1"):
        assert machine.run("zcat", f"/usr/share/man/{page}.gz").startswith('.TH "TCCP')
    loaded = "source /usr/share/bash-completion/completions/tccp-node && complete -p tccp-node"
    assert "tccp-node" in machine.run("bash", "-c", loaded)


def test_the_documents_are_there_with_what_they_point_to(deb: Path) -> None:
    unpack = ["dpkg-deb", "--fsys-tarfile", deb]
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive,
    ):
        packed = {name.removeprefix("./usr/share/doc/tccp/") for name in archive.getnames()}
    assert {"README.md", "docs/OPERATIONS.md", "docs/SCALING.md", "systemd/README.md", "bench/RESULTS.md"} <= packed
    packed |= {name.replace("examples/", "docs/examples/") for name in packed if name.startswith("examples/")}
    dead = [
        f"{name}: {link}"
        for name in packed
        if name.startswith(("docs/", "systemd/")) and name.endswith(".md")
        for link in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
        if os.path.normpath(Path(name).parent / link) not in packed
    ]

    assert not dead


def test_from_the_package_to_the_first_lease(machine: BootedSystemd) -> None:
    """As docs/OPERATIONS.md says it."""
    type_(machine, "sudo mkdir -p /etc/tccp/ek-authorities")
    make_tpms(machine)
    machine.write("/etc/tccp/coordinator.toml", COORDINATOR_TOML + WEBHOOK)
    machine.run("tccp", "coordinator", "init")
    sockets = " ".join(SOCKETS["coordinator"])
    type_(machine, f"sudo systemctl enable --now {sockets} tccp-coordinator.service")
    assert "0 : 0x" in type_(machine, "sudo tpm2_pcrread sha256:0,2,4,7")
    tccp(machine, "coordinator", "policy", "add", "/etc/tccp/tvmm.toml")
    certificate = read_ek_certificate(machine)
    tccp(machine, "coordinator", "enrol", "alpha", "--policy", "tvmm", "--ek-certificate", certificate)
    machine.write(f"{DESK}/coordinator-trust.toml", machine.run("tccp", "coordinator", "trust"))
    machine.write(f"{DESK}/node.toml", NODE_TOML)
    type_(machine, "sudo install -m 644 node.toml /etc/tccp/node.toml")
    type_(machine, "sudo install -m 640 -g tccp-node coordinator-trust.toml /etc/tccp/coordinator-trust.toml")

    assert tccp(machine, "config", "check")["verdict"] != "fail"
    type_(machine, "sudo systemctl enable --now tccp-node.socket tccp-node.service")

    wait_until(machine, lambda: tccp(machine, "node", "status")["state"] == "admitted")
    owners = machine.run("find", "/var/lib/tccp/coordinator", "-printf", "%u\n").split()
    assert set(owners) == {"tccp-coordinator"}, "what root made belongs to the daemon"


def admitted(machine: BootedSystemd) -> bool:
    return bool(tccp(machine, "node", "status")["state"] == "admitted")


def test_the_database_is_copied_and_the_coordinator_restarted(machine: BootedSystemd) -> None:
    type_(machine, 'sudo sqlite3 /var/lib/tccp/coordinator/coordinator.db ".backup coordinator-backup.db"')
    assert machine.run("sqlite3", f"{DESK}/coordinator-backup.db", "select name from node") == "alpha\n"

    type_(machine, "sudo systemctl restart tccp-coordinator")

    wait_until(machine, lambda: admitted(machine))


def test_a_notifier_runs_beside_it(machine: BootedSystemd) -> None:
    type_(machine, "sudo systemctl enable --now tccp-notifier.service")

    wait_until(machine, lambda: "starting_here" in type_(machine, "journalctl -u tccp-notifier"))


def test_monitoring_is_switched_on(machine: BootedSystemd) -> None:
    enable_it = "sudo systemctl enable tccp-coordinator-metrics.socket"
    type_(machine, f"{enable_it} && sudo systemctl stop 'tccp-coordinator*'")
    type_(machine, "sudo systemctl start tccp-coordinator-metrics.socket tccp-coordinator.service")

    assert type_(machine, "curl -s http://127.0.0.1:7447/readyz") == "ready\n"
    wait_until(machine, lambda: admitted(machine))


def test_the_configuration_check_knows_what_the_daemons_users_may_read(machine: BootedSystemd) -> None:
    machine.run("chmod", "600", "/etc/tccp/coordinator-trust.toml")
    machine.run("chgrp", "root", "/etc/tccp/coordinator-trust.toml")

    (finding,) = [each for each in tccp_fails(machine) if each["status"] == "fail"]

    assert (finding["key"], finding["line"]) == ("coordinator.trust_file", 5)
    assert "tccp-node may not read" in finding["found"]
    machine.run("systemd-tmpfiles", "--create", "tccp.conf")
    assert tccp(machine, "config", "check")["verdict"] != "fail"


def tccp_fails(machine: BootedSystemd) -> Any:
    return json.loads(machine.run("tccp", "config", "check", "--json", check=False))["findings"]


def test_an_upgrade_restarts_the_coordinator_and_leaves_the_node_to_its_operator(
    machine: BootedSystemd, newer: Path
) -> None:
    before = {name: machine.show(service, "MainPID") for name, service in SERVICES.items()}
    lease = tccp(machine, "node", "status")["lease_id"]

    told = install(machine, newer)

    assert "systemctl restart tccp-node" in told
    assert machine.show(SERVICES["coordinator"], "MainPID") not in {"0", before["coordinator"]}
    assert machine.show(SERVICES["node"], "MainPID") == before["node"]
    machine.run("test", "-f", "/usr/share/doc/tccp/NEW")
    assert [node["name"] for node in tccp(machine, "coordinator", "nodes")["nodes"]] == ["alpha"]
    type_(machine, "sudo systemctl restart tccp-node.service")
    wait_until(machine, lambda: tccp(machine, "node", "status")["state"] == "admitted")
    assert tccp(machine, "node", "status")["lease_id"] != lease


def test_a_removal_stops_everything_and_leaves_state_and_configuration(machine: BootedSystemd) -> None:
    told = dpkg(machine, "--remove", "tccp")

    assert "tccp-node is stopped now" in told
    assert machine.run("systemctl", "list-units", "--no-legend", "--state=active", "tccp-*") == ""
    assert machine.run("find", "/etc/systemd/system", "-name", "tccp-*") == ""
    machine.run("test", "!", "-e", "/usr/lib/tccp")
    machine.run("test", "-f", "/var/lib/tccp/coordinator/coordinator.db", "-a", "-f", "/etc/tccp/node.toml")


def test_a_purge_deletes_no_key_and_says_where_they_are(machine: BootedSystemd) -> None:
    told = dpkg(machine, "--purge", "tccp")

    assert "/var/lib/tccp is left, with keys or state" in told
    assert "/etc/tccp is left, with keys or state" in told
    machine.run("test", "-f", "/var/lib/tccp/coordinator/keys/sealed")
    machine.run("test", "-f", "/etc/tccp/update-authority.key")
    machine.run("test", "!", "-e", "/run/tccp")


def test_a_machine_that_kept_its_state_goes_on_where_it_was(machine: BootedSystemd, deb: Path) -> None:
    install(machine, deb)
    enable(machine, "coordinator")

    assert [node["name"] for node in tccp(machine, "coordinator", "nodes")["nodes"]] == ["alpha"]


def test_a_purge_of_what_was_never_configured_leaves_nothing(machine: BootedSystemd) -> None:
    dpkg(machine, "--remove", "tccp")
    machine.run("rm", "-r", "/var/lib/tccp", "/etc/tccp")
    machine.run("mkdir", "-p", "/var/lib/tccp/notifier", "/etc/tccp/ek-authorities")

    told = dpkg(machine, "--purge", "tccp")

    assert "is left" not in told
    machine.run("test", "!", "-e", "/var/lib/tccp", "-a", "!", "-e", "/etc/tccp")


def test_no_command_of_the_documents_is_left_out() -> None:
    assert other_commands() - TYPED == set(NOT_TYPED)
