"""A perimeter of real parts: a coordinator and nodes, each a daemon process of its own with its own software TPM.

For system tests, the demo and benchmarks; nothing here knows pytest.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from tccp.control.client import ControlClient
from tccp.coordinator.custody.key_set import KeySet
from tccp.errors import TccpError
from tccp.protocol import control as c
from tests.support.coordinator_keys import make_keys
from tests.support.reserved import free_port, free_users
from tests.support.soft_tpm import EkAuthority, SoftTpm
from tests.support.tpm_relay import TpmRelay

DEADLINE_S = 30.0
ZERO_PCR = "00" * 32
SCRIPTS = Path(sys.executable).parent


class Daemon:
    """One of our daemons as a process; its log goes to a file."""

    def __init__(self, command: str, config: Path, control: Path) -> None:
        self.config, self.control = config, control
        self.log_path = config.with_suffix(".log")
        self.program = [str(SCRIPTS / command)]
        self._status = c.CoordinatorStatus if "coordinator" in command else c.NodeStatus
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start, and wait until its control socket answers."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.program, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is for whoever started it
            )
        if wait:
            self.wait_until(self._answers, "it answers")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def ask(self, request: object, answer: type) -> object:
        """One request on its control socket."""
        with ControlClient(self.control) as client:
            return client.ask(request, answer)  # type: ignore[arg-type]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)

    def wait(self, patience_s: float | None = DEADLINE_S) -> int:
        """Its exit code, when it ends by itself; None waits for as long as that takes."""
        assert self._process is not None
        return self._process.wait(patience_s)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until *condition* holds; the log is shown when it does not come about."""
        wait_until(lambda: not self.running or condition(), what, log=self.log_path)
        assert self.running, f"{self.program[0]} ended:\n{self.log_path.read_text()[-4000:]}"

    def _answers(self) -> bool:
        try:
            with ControlClient(self.control) as client:
                client.ask(c.GetStatus(), self._status)
        except TccpError:
            return False
        return True


class Node:
    """A host: its TPM behind a resource manager, and its daemon."""

    def __init__(self, name: str, tpm: SoftTpm, relay: TpmRelay, daemon: Daemon) -> None:
        self.name, self.tpm, self.relay, self.daemon = name, tpm, relay, daemon

    def status(self) -> c.NodeStatus:
        """What its daemon says."""
        answer = self.daemon.ask(c.GetStatus(), c.NodeStatus)
        assert isinstance(answer, c.NodeStatus)
        return answer

    def wait_for_state(self, state: str) -> c.NodeStatus:
        """Until the daemon says that it is *state*."""
        self.daemon.wait_until(lambda: self.status().state == state, f"{self.name} is {state}")
        return self.status()

    def extend_pcr(self, index: int) -> None:
        """What an attacker on the host does: something else was booted, a PCR says so."""
        self.relay.extend_pcr(index, "sha256", b"\xab" * 32)


class Perimeter:
    """A coordinator, and the nodes that are added to it.

    Args:
        directory: Where everything lives; the path is short, or the Unix sockets do not fit.
        lease_s: How long a lease holds.
        evidence_age_s: How old the evidence of a node may be that asks for keys.
    """

    def __init__(
        self, directory: Path, *, lease_s: int = 60, authority: EkAuthority | None = None, evidence_age_s: int = 0
    ) -> None:
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self._ended = ExitStack()
        self.keys: KeySet | None = None  # once they were made
        self.authority = authority or EkAuthority(directory / "ca")
        self.tpm = SoftTpm(self.authority, directory / "tc")
        self.port, self.tenants_port, self.log_port = free_port(), free_port(), free_port()
        self.config = directory / "coordinator.toml"
        self.control = directory / "tc.sock"
        self._write_config(lease_s, evidence_age_s)
        self.coordinator = Daemon("tccp-coordinator", self.config, self.control)

    def _write_config(self, lease_s: int, evidence_age_s: int) -> None:
        authorities = self.directory / "ek-authorities"
        authorities.mkdir(exist_ok=True)
        for number, certificate in enumerate(self.authority.certificates):
            (authorities / f"{number}.der").write_bytes(certificate)
        self.config.write_text(
            f'state_directory = "{self.directory}/state"\n'
            f'[listen]\naddress = "127.0.0.1"\nport = {self.port}\n'
            f'[tenants]\naddress = "127.0.0.1"\nport = {self.tenants_port}\n'
            f'[log_server]\naddress = "127.0.0.1"\nport = {self.log_port}\n'
            f'[control]\nsocket = "{self.control}"\n'
            f'[tpm]\ntcti = "{self.tpm.tcti}"\n'
            f'[enrolment]\nek_authorities = "{authorities}"\n'
            f"[leases]\nseconds = {lease_s}\n[releases]\nevidence_age_s = {evidence_age_s}\n"
            f'[log]\nformat = "console"\n'
        )

    def __enter__(self) -> Self:
        """Start the coordinator."""
        with ExitStack() as stack:
            stack.callback(self.tpm.stop)
            self.tpm.start()
            if not (self.directory / "state" / "keys").exists():
                self.keys, _ = trio.run(make_keys, self.directory / "state", self.tpm.tcti)
            stack.callback(self.coordinator.kill)
            self.coordinator.start()
            self._ended = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        self._ended.close()

    def ask(self, request: object, answer: type) -> object:
        """One request on the coordinator's control socket."""
        return self.coordinator.ask(request, answer)

    def add_policy(self, name: str, pcrs: dict[int, str], *, version: int = 1) -> None:
        """A policy with one allowed value for each PCR."""
        lines = [f'name = "{name}"', f"version = {version}", "[pcrs]"]
        lines += [f'{index} = ["{value}"]' for index, value in pcrs.items()]
        self.ask(c.AddPolicy(body="\n".join(lines).encode()), c.PolicyInfo)

    def make_node(self, name: str, *, enrol: bool = True, policy: str = "tvmm", vms: bool = False) -> Node:
        """A node with a new TPM, enrolled by its EK certificate; its daemon is not started yet. *vms*: it runs some."""
        folder = self.directory / name
        folder.mkdir()
        tpm = SoftTpm(self.authority, folder / "t")
        self._ended.callback(tpm.stop)
        tpm.start()
        certificate = ek_certificate(tpm)
        relay = self._ended.enter_context(TpmRelay(tpm))
        if enrol:
            request = c.EnrolNode(name=name, ek_certificate=certificate, ek_public=b"", policy=policy, attributes={})
            self.ask(request, c.NodeInfo)
        trust = folder / "trust.toml"
        answer = self.ask(c.GetTrust(), c.TrustFile)
        assert isinstance(answer, c.TrustFile)
        trust.write_bytes(answer.body)
        config = folder / "node.toml"
        config.write_text(
            f'name = "{name}"\n'
            f'[coordinator]\naddress = "127.0.0.1:{self.port}"\ntrust_file = "{trust}"\n'
            f'[control]\nsocket = "{folder}/node.sock"\n'
            f'[tpm]\ntcti = "{relay.tcti}"\nevent_log = ""\n'
            f"{self._vms(folder) if vms else ''}"
            f'[log]\nformat = "console"\n'
        )
        daemon = Daemon("tccp-node", config, folder / "node.sock")
        self._ended.callback(daemon.kill)
        node = Node(name, tpm, relay, daemon)
        self.nodes[name] = node
        return node

    def _vms(self, folder: Path) -> str:
        """Where a node's VMs live; as root they run as users of their own, who may come as far as that."""
        users = ""
        if os.geteuid() == 0:
            users = f"first_user = {free_users()}\nusers = 100\n"
            for above in (folder, *folder.parents):
                if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
                    above.chmod(above.stat().st_mode | 0o011)
        moves = 'move_address = "127.0.0.1"\nmark_every_s = 1\n'
        return f'[vms]\nrun = "{folder}/run"\nstate = "{folder}/vms"\n{moves}{users}'

    def node_info(self, name: str) -> c.NodeInfo:
        """What the coordinator says of a node."""
        answer = self.ask(c.ShowNode(name=name), c.NodeInfo)
        assert isinstance(answer, c.NodeInfo)
        return answer

    def wait_for(self, name: str, condition: Callable[[c.NodeInfo], bool], what: str) -> c.NodeInfo:
        """Until the coordinator says of a node what is wanted."""
        self.coordinator.wait_until(lambda: condition(self.node_info(name)), f"{name} {what}")
        return self.node_info(name)


def ek_certificate(tpm: SoftTpm) -> bytes:
    """The certificate of the ECC EK that a node shows, read with tpm2-tools, DER."""
    read = ["tpm2_nvread", "-T", tpm.tcti, "-C", "o", "0x1c00016"]
    return subprocess.run(read, check=True, capture_output=True).stdout


def wait_until(condition: Callable[[], bool], what: str, *, log: Path | None = None) -> None:
    """Until *condition* holds.

    Raises:
        TimeoutError: It did not come about; shows the end of *log*.
    """
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            tail = log.read_text(errors="replace")[-4000:] if log else ""
            raise TimeoutError(f"not within {DEADLINE_S:.0f} s: {what}\n{tail}")
        time.sleep(0.02)
