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

UNITS = sorted(path.name for path in (ROOT / "systemd").iterdir() if path.suffix in {".service", ".socket"})
BUSY_S = 200
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
    make_tpms(machine)
    machine.write("/etc/tccp/coordinator.toml", COORDINATOR_TOML)
    machine.run("tccp", "coordinator", "init")
    enable(machine, "coordinator")
    tccp(machine, "coordinator", "policy", "add", "/etc/tccp/tvmm.toml")
    certificate = read_ek_certificate(machine)
    tccp(machine, "coordinator", "enrol", "alpha", "--policy", "tvmm", "--ek-certificate", certificate)
    machine.write("/run/trust.toml", machine.run("tccp", "coordinator", "trust"))
    machine.run("install", "-m", "640", "-g", "tccp-node", "/run/trust.toml", "/etc/tccp/coordinator-trust.toml")
    machine.write("/etc/tccp/node.toml", NODE_TOML)

    assert tccp(machine, "config", "check")["verdict"] != "fail"
    enable(machine, "node")

    wait_until(machine, lambda: tccp(machine, "node", "status")["state"] == "admitted")
    owners = machine.run("find", "/var/lib/tccp/coordinator", "-printf", "%u\n").split()
    assert set(owners) == {"tccp-coordinator"}, "what root made belongs to the daemon"


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
    machine.run("systemctl", "restart", SERVICES["node"])
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
