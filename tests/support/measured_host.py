"""Hosts whose software TPM has measured a recorded boot, and whatever ran since: their quotes are genuine."""

from collections.abc import Iterable
from pathlib import Path

from tccp.attestation.boot_learn import LEARNED_PCRS, learn_policy
from tccp.attestation.event_log import explain, replay_event_log
from tccp.attestation.ima_rules import ImaRules, ListedDigest, compile_rules
from tccp.model import PcrBank
from tccp.protocol import control as c
from tccp.tpm import Tpm
from tests.support.boots import recorded
from tests.support.ima_lists import AGGREGATE, Entry, ng, sha256, written
from tests.support.live_coordinator import POLICY, HonestNode, LiveCoordinator

LINES = (
    "console=ttyS0 quiet panic=-1 lockdown=integrity module.sig_enforce=1",
    "console=ttyS0 quiet panic=-1 ima_policy=tcb ima_hash=sha256 ima_template=ima-sig lockdown=integrity initrd=initrd",
)
INIT, SHELL, DAEMON = (ng(name.encode(), f"/usr/bin/{name}".encode()) for name in ("init", "sh", "tccp-node"))
EVIL = ng(b"a rootkit", b"/usr/bin/sh")
BOOTED = [AGGREGATE, INIT, SHELL]


def boot_policy(boot: str = "direct", *, version: int = 1, ima: bytes = b"", warn: bool = False) -> bytes:
    """The policy that `tccp policy learn` writes of a recorded boot; with the hash of an IMA policy."""
    log, pcrs = recorded(boot)
    explained = explain(replay_event_log(log, [PcrBank.SHA256]), pcrs, LEARNED_PCRS)
    body = learn_policy([explained], name=POLICY, version=version, command_lines=LINES).body.decode()
    if warn:
        body = body.replace('mode = "enforce"', 'mode = "warn"')
    return (body + (f'\n[ima]\nsha256 = "{ima.hex()}"\n' if ima else "")).encode()


def ima_policy(folder: Path, *entries: Entry) -> bytes:
    """A compiled policy that lists these files, put where the coordinator looks for it; its hash."""
    digests = [ListedDigest(sha256(name.encode()), f"/usr/bin/{name}".encode()) for name in ("init", "sh", "tccp-node")]
    content = compile_rules(ImaRules([*digests, *(ListedDigest(entry.data[12:44]) for entry in entries)]))
    digest = sha256(content)
    (folder / f"{digest.hex()[:8]}.ima").write_bytes(content)
    return digest


async def measure_boot(tpm: Tpm, boot: str = "direct") -> bytes:
    """Have a TPM measure a recorded boot; its log."""
    log, _ = recorded(boot)
    for entry in replay_event_log(log, [PcrBank.SHA256]).events:
        if entry.claimed_type != 3:  # EV_NO_ACTION
            await tpm.extend_pcr(entry.pcr, PcrBank.SHA256, entry.digests[PcrBank.SHA256])
    return log


async def measure(tpm: Tpm, entries: Iterable[Entry]) -> None:
    """Have a TPM measure what IMA would."""
    for entry in entries:
        await tpm.extend_pcr(10, PcrBank.SHA256, sha256(entry.hashed))


class MeasuredNode(HonestNode):
    """A node on a host that has booted as recorded, and measures what it runs."""

    def __init__(self, coordinator: LiveCoordinator, name: str, host: object) -> None:
        super().__init__(coordinator, name, host)  # type: ignore[arg-type]
        self.entries: list[Entry] = []

    async def boot(self, boot: str = "direct", entries: Iterable[Entry] = ()) -> None:
        """Switch it on."""
        self.firmware_log = await measure_boot(self.host.tpm, boot)
        await self.run(*entries)

    async def run(self, *entries: Entry) -> None:
        """The kernel lists a file first, then extends PCR 10."""
        self.entries += entries
        self.ima_list = written(self.entries)
        await measure(self.host.tpm, entries)


async def put_in_force(coordinator: LiveCoordinator, body: bytes) -> c.PolicyInfo:
    """Add a policy of any kind."""
    return await coordinator.ask(c.AddPolicy(body=body), c.PolicyInfo)
