"""A perimeter of one coordinator and one node in a booted machine, with TPMs of their own; whatever installed them."""

import time
from collections.abc import Callable

from tests.support.booted_systemd import PYTHON, BootedSystemd

DEADLINE_S = 60
COORDINATOR_TOML = """
[tpm]
tcti = "swtpm:path=/run/tpm-coordinator"
[enrolment]
ek_authorities = "/etc/tccp/ek-authorities"
[leases]
seconds = 60
[listen]
workers = 2
"""
NODE_TOML = """
name = "alpha"
[coordinator]
address = "127.0.0.1:7443"
trust_file = "/etc/tccp/coordinator-trust.toml"
[tpm]
tcti = "swtpm:path=/run/tpm-alpha"
event_log = ""
"""
POLICY = f"""
name = "tvmm"
version = 1
[pcrs]
0 = ["{"00" * 32}"]
4 = ["{"00" * 32}"]
"""
MAKE_TPMS = """
from pathlib import Path
from tests.support.soft_tpm import EkAuthority
authority = EkAuthority(Path("/var/lib/tpms/ca"))
for name in ("coordinator", "alpha"):
    authority.manufacture(Path("/var/lib/tpms", name))
for number, certificate in enumerate(authority.certificates):
    Path(f"/etc/tccp/ek-authorities/{number}.der").write_bytes(certificate)
"""
SERVICES = {"coordinator": "tccp-coordinator.service", "node": "tccp-node.service"}


def make_tpms(machine: BootedSystemd) -> None:
    """TPMs for the coordinator and the node alpha, of a maker whom the coordinator's file names."""
    machine.run("mkdir", "-p", "/etc/tccp/ek-authorities", "/var/lib/tpms")
    machine.run(*PYTHON, "-c", MAKE_TPMS)
    for name in ("coordinator", "alpha"):
        start_tpm(machine, name)
    machine.write("/etc/tccp/tvmm.toml", POLICY)


def read_ek_certificate(machine: BootedSystemd) -> str:
    """Where the EK certificate of alpha's TPM is now."""
    certificate = "tpm2_nvread -T swtpm:path=/run/tpm-alpha -C o 0x1c00016 -o /etc/tccp/alpha.der"
    machine.run(*certificate.split())
    return "/etc/tccp/alpha.der"


def start_tpm(machine: BootedSystemd, name: str) -> None:
    """Power on the TPM *name*; root's, and usable by the group tss, as the real device is."""
    socket = f"type=unixio,path=/run/tpm-{name}"
    swtpm = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir=/var/lib/tpms/{name}", "--daemon"]
    swtpm += ["--server", f"{socket},mode=660,gid=tss", "--ctrl", f"{socket}.ctrl,mode=600"]
    swtpm += ["--flags", "not-need-init,startup-clear"]
    group = machine.run("getent", "group", "tss").split(":")[2]
    command = [word.replace("gid=tss", f"gid={group}") for word in swtpm]
    machine.run("systemd-run", "--property=Type=forking", f"--unit=tpm-{name}", *command)


def wait_until(machine: BootedSystemd, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, machine.run("journalctl", "--no-pager", "--lines=60", "--output=cat")
