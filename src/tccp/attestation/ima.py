"""What a running system opened and executed, as IMA measured it into PCR 10.

    claimed list --- prove_measurements, by a quoted PCR 10 ---> ProvedMeasurements
                 --- ImaPolicy.judge ---> AcceptedMeasurements

The list grows for as long as the host runs, so each step begins where the last one ended: an `ImaProgress` of a few
bytes is all that is kept of a node, and only what is new is sent, replayed and judged. A host reads its list *after*
it quotes; the prefix that leads to the quoted value counts, and what was measured since waits for the next quote. So
an honest host is never refused for a race, and one that leaves an entry out leads to no quoted value.

Of an entry, its fields are proved, and neither its template nor, of a violation, anything.

Source: Linux, Documentation/security/IMA-templates.rst; security/integrity/ima.
"""

import enum
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from tccp.attestation.ima_rules import BANK_NUMBERS
from tccp.core.ima import AGGREGATE_BYTES, Bytes, CompiledPolicy, ReplayedList, ima_from_text, ima_judge, ima_replay
from tccp.errors import ImaError, PolicyError
from tccp.model import IMA_PCR, PcrBank, PcrValues

BANKS = (PcrBank.SHA256, PcrBank.SHA1)
# In which bytes the template digest of an entry is given: by /sys/kernel/security/ima/binary_runtime_measurements 20.
COLUMN_BYTES = 20
SHOWN_REFUSALS = 5
SHOWN_PATH_BYTES = 512
_BANK_NAMES = {number: bank.hash_name for bank, number in BANK_NUMBERS.items()}
_MADE = object()


class Template(enum.IntEnum):
    """What an entry's fields are: ``tccp_ima_template`` in csrc/tccp_ima.h."""

    OTHER = 0
    IMA = 1
    IMA_NG = 2
    IMA_SIG = 3
    IMA_BUF = 4
    IMA_MODSIG = 5


class Verdict(enum.IntEnum):
    """What a policy says of an entry: ``tccp_ima_verdict`` in csrc/tccp_ima.h."""

    LISTED = 0
    SIGNED = 1
    EXCLUDED = 2
    BOOT_AGGREGATE = 3
    BUFFER = 4
    VIOLATION_ALLOWED = 5
    NOT_LISTED = 16
    BAD_SIGNATURE = 17
    WEAK_DIGEST = 18
    VIOLATION = 19
    WRONG_AGGREGATE = 20
    BUFFER_NOT_LISTED = 21
    BUFFER_ALTERED = 22
    UNKNOWN_TEMPLATE = 23
    OTHER_PCR = 24

    @property
    def refuses(self) -> bool:
        """Whether the host is refused for it."""
        return self >= Verdict.NOT_LISTED


WHAT_TO_DO = {
    Verdict.NOT_LISTED: "list its digest if the file is one of this platform's, or find out who put it there",
    Verdict.BAD_SIGNATURE: "add the signer's key to the keyring, or the file's digest to the list",
    Verdict.WEAK_DIGEST: "boot with ima_hash=sha256: SHA-1 can be made to collide",
    Verdict.VIOLATION: "a file was written while it was measured: keep the kernel's policy from measuring such files",
    Verdict.WRONG_AGGREGATE: "the list is of another boot, or was carried over by kexec",
    Verdict.BUFFER_NOT_LISTED: "add the buffer's digest to the list, or its name if any contents will do",
    Verdict.BUFFER_ALTERED: "the list was altered after it was measured",
    Verdict.UNKNOWN_TEMPLATE: "boot with ima_template=ima-ng, ima-sig, ima-buf or ima-modsig",
    Verdict.OTHER_PCR: "take pcr= out of the kernel's IMA policy",
}


@dataclass(frozen=True, slots=True)
class ImaProgress:
    """How far the list of one boot has been accepted: all that is kept of it from quote to quote.

    Args:
        bank: The bank in which PCR 10 is quoted: SHA-256, or SHA-1 where somebody wants to look at old evidence.
        count: Entries so far.
        consumed_bytes: Their length in the kernel's binary list: where a node goes on reading.
        pcr: To what they lead.
    """

    bank: PcrBank
    count: int
    consumed_bytes: int
    pcr: bytes

    @classmethod
    def start(cls, bank: PcrBank = PcrBank.SHA256) -> Self:
        """Of a boot of which nothing was seen yet. A node that reboots starts anew."""
        if bank not in BANKS:
            raise ValueError(f"IMA lists are not replayed in {bank.hash_name}")
        return cls(bank, 0, 0, bytes(bank.digest_bytes))


@dataclass(frozen=True, slots=True)
class ImaEntry:
    """One entry, for showing it."""

    number: int
    pcr: int
    template: Template
    path: bytes
    digest_name: str
    digest: bytes
    is_violation: bool


class Measurements:
    """Entries of a list; proved only in a `ProvedMeasurements`."""

    def __init__(self, data: Bytes, first_number: int, replayed: ReplayedList) -> None:
        self._data = data
        self._replayed = replayed
        self.first_number = first_number

    def __len__(self) -> int:
        """How many entries there are."""
        return self._replayed.count

    def entry(self, at: int) -> ImaEntry:
        """The entry at this place of these measurements, from 0."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        raw = self._replayed.entries[at]
        digest_bytes = _digest_bytes(raw.digest_bank)
        return ImaEntry(
            number=self.first_number + at,
            pcr=raw.pcr,
            template=Template(raw.template_kind),
            path=self._bytes(raw.path_offset, raw.path_len),
            digest_name=_BANK_NAMES.get(raw.digest_bank, ""),
            digest=self._bytes(raw.digest_offset, digest_bytes),
            is_violation=bool(raw.violation),
        )

    def entries(self) -> Iterator[ImaEntry]:
        """All of them, one after the other."""
        return (self.entry(at) for at in range(len(self)))

    def _bytes(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def judge(self, compiled: CompiledPolicy, aggregates: bytes) -> tuple[bytes, int]:
        """A verdict for each entry as a byte, and how many refuse; for `ImaPolicy`."""
        return ima_judge(
            compiled,
            self._data,
            self._replayed,
            first_number=self.first_number,
            pcr=IMA_PCR,
            aggregates=aggregates,
        )


class ProvedMeasurements(Measurements):
    """Entries that lead to a quoted PCR 10. Only `prove_measurements` makes one."""

    def __init__(
        self, data: Bytes, first_number: int, replayed: ReplayedList, progress: ImaProgress, token: object
    ) -> None:
        if token is not _MADE:
            raise TypeError("only prove_measurements makes ProvedMeasurements")
        super().__init__(data, first_number, replayed)
        self.progress = progress


class OpenMeasurements(Measurements):
    """Whole entries of a part of a list that do not lead to a quoted PCR 10 yet; nothing proves them."""

    def __init__(
        self, data: Bytes, first_number: int, replayed: ReplayedList, progress: ImaProgress, *, cut: bool
    ) -> None:
        super().__init__(data, first_number, replayed)
        self.progress, self.cut = progress, cut


def replay_measurements(
    data: Bytes, progress: ImaProgress, *, column_bytes: int = COLUMN_BYTES
) -> tuple[Measurements, bytes]:
    """The entries of a whole list and the PCR value that they lead to, with nothing to confirm it: for showing.

    Raises:
        ImaError: ``malformed``, ``truncated`` or ``too_large``.
    """
    replayed = _replay(data, progress, None, column_bytes)
    if replayed.truncated:
        raise ImaError("truncated", f"the last entry runs past the end, after {replayed.count} whole ones")
    return Measurements(data, progress.count, replayed), replayed.pcr


def prove_measurements(
    data: Bytes, progress: ImaProgress, pcrs: PcrValues, *, column_bytes: int = COLUMN_BYTES
) -> ProvedMeasurements:
    """The entries of *data* that lead from *progress* to the quoted PCR 10; those behind them wait.

    Args:
        data: The kernel's binary list from ``progress.consumed_bytes`` on, read after the quote was made.
        progress: Where the last accepted entry of this boot left PCR 10.
        pcrs: Values that a verified quote covers, PCR 10 among them, in the bank of *progress*.

    Raises:
        ImaError: ``ima_list_mismatch``: no prefix leads to the quoted value, so the list is not what was measured.
            ``malformed``, ``too_large``.
        ValueError: *pcrs* have no PCR 10, or are of another bank.
    """
    measured = prove_part(data, progress, pcrs, column_bytes=column_bytes)
    if isinstance(measured, OpenMeasurements):
        raise list_mismatch(measured)
    return measured


def list_mismatch(measured: OpenMeasurements) -> ImaError:
    """What to say when the list has ended with *measured*."""
    end = ", the last of which is cut" if measured.cut else ""
    return ImaError(
        "ima_list_mismatch",
        f"none of {len(measured)} new entries{end} leads to the quoted PCR {IMA_PCR}",
        hint="A list is read after the quote was made, from where the last accepted entry ended.",
    )


def prove_part(
    data: Bytes, progress: ImaProgress, pcrs: PcrValues, *, column_bytes: int = COLUMN_BYTES
) -> ProvedMeasurements | OpenMeasurements:
    """As `prove_measurements`, of a list that may go on behind *data*: open measurements where it has to.

    Raises:
        ImaError: ``malformed``, ``too_large``.
        ValueError: *pcrs* have no PCR 10, or are of another bank.
    """
    if pcrs.selection.bank is not progress.bank or IMA_PCR not in pcrs.values:
        raise ValueError(f"PCR {IMA_PCR} of the {progress.bank.hash_name} bank is needed")
    replayed = _replay(data, progress, pcrs.values[IMA_PCR], column_bytes)
    after = ImaProgress(
        progress.bank, progress.count + replayed.count, progress.consumed_bytes + replayed.consumed, replayed.pcr
    )
    if not replayed.matched:
        return OpenMeasurements(data, progress.count, replayed, after, cut=replayed.truncated)
    return ProvedMeasurements(data, progress.count, replayed, after, _MADE)


def measurements_from_text(text: Bytes) -> bytes:
    """A list in ASCII (``ascii_runtime_measurements``) in the binary form that all else reads.

    Raises:
        ImaError: ``malformed`` or ``too_large``. A path with a line end in it makes two lines that are no entries.
    """
    return ima_from_text(text)


@dataclass(frozen=True, slots=True)
class AcceptedMeasurements:
    """Entries that a policy accepts, and how far the list is accepted now. Only `ImaPolicy.judge` makes one."""

    progress: ImaProgress
    policy_sha256: bytes
    verdicts: Counter[Verdict]
    _token: object = field(repr=False)

    def __post_init__(self) -> None:
        """Nobody but a policy accepts measurements."""
        if self._token is not _MADE:
            raise TypeError("AcceptedMeasurements are made by ImaPolicy.judge only")


class ImaPolicy:
    """What may be measured: digests, signers and exceptions, compiled; one for all nodes that are judged by it.

    Args:
        file: The compiled policy (`tccp.attestation.ima_rules`), usually a mapped file. Kept; it must not change.
        sha256: What it must hash to.

    Raises:
        ImaError: It is another file, or none.
    """

    def __init__(self, file: Any, sha256: bytes) -> None:
        self._compiled = CompiledPolicy(file, sha256)
        self.sha256 = sha256

    def __len__(self) -> int:
        """How many digests are listed."""
        return self._compiled.records

    def lists(self, bank: PcrBank, digest: bytes, path: bytes) -> bool:
        """Whether this digest of a file is listed for this path.

        Raises:
            ValueError: It is no digest of that kind, or of one that is never listed.
        """
        if bank is PcrBank.SHA1 or len(digest) != bank.digest_bytes:
            raise ValueError(f"no {bank.hash_name} digest that could be listed")
        return self._compiled.find(BANK_NUMBERS[bank], digest, path)

    def verdicts(self, measurements: Measurements, aggregates: bytes = b"") -> bytes:
        """The `Verdict` of each entry, as a byte each; of entries that nothing proved, it proves nothing."""
        return measurements.judge(self._compiled, aggregates)[0]

    def judge(self, proved: ProvedMeasurements, boot: PcrValues | None = None) -> AcceptedMeasurements:
        """Accept the entries, all of them.

        Args:
            boot: Quoted values of PCR 0 to 9 that the boot aggregate must be of. Without them the first entry of a
                boot is taken for it as it stands, and any later one is refused.

        Raises:
            PolicyError: ``ima_entry_refused``; the detail names the first entries, and the hint what to do.
        """
        counted = Counter({Verdict(number): count for number, count in Counter(self.check(proved, boot)).items()})
        return AcceptedMeasurements(proved.progress, self.sha256, counted, _MADE)

    def check(self, measurements: Measurements, boot: PcrValues | None = None) -> bytes:
        """The verdicts of entries of which none is refused; of those that nothing proved, it proves nothing.

        Raises:
            PolicyError: As `judge`.
        """
        aggregates = b"".join(boot_aggregates(boot)) if boot is not None else b""
        verdicts, refused = measurements.judge(self._compiled, aggregates)
        if refused:
            raise self._refusal(measurements, verdicts, refused)
        return verdicts

    def _refusal(self, proved: Measurements, verdicts: bytes, refused: int) -> PolicyError:
        bad = [(at, Verdict(number)) for at, number in enumerate(verdicts) if Verdict(number).refuses]
        told = "; ".join(describe_entry(proved.entry(at), verdict) for at, verdict in bad[:SHOWN_REFUSALS])
        more = f"; and {refused - SHOWN_REFUSALS} more" if refused > SHOWN_REFUSALS else ""
        return PolicyError("ima_entry_refused", f"{told}{more}", hint=WHAT_TO_DO[bad[0][1]])


def describe_entry(entry: ImaEntry, verdict: Verdict) -> str:
    """An entry and what is said of it, in a line; the path, cut where it is long, may hold any character."""
    path = entry.path[:SHOWN_PATH_BYTES].decode("utf-8", "backslashreplace")
    digest = f" {entry.digest_name}:{entry.digest.hex()}" if entry.digest else ""
    return f"entry {entry.number}: {path}{digest}: {verdict.name.lower()}"


def boot_aggregates(pcrs: PcrValues) -> tuple[bytes, ...]:
    """What the boot aggregate may be, given the PCRs that were quoted: for `Measurements.judge`.

    Linux hashes PCR 0 to 9 of a bank with that bank's algorithm (before 5.8, and with SHA-1, PCR 0 to 7).

    Raises:
        ValueError: PCR 0 to 9 are not all there.
    """
    if not set(range(10)) <= set(pcrs.values):
        raise ValueError("a boot aggregate is of PCR 0 to 9")
    bank = pcrs.selection.bank
    made = []
    for last in (9, 7):
        value = b"".join(pcrs.values[index] for index in range(last + 1))
        digest = hashlib.new(bank.hash_name, value).digest()
        made.append((bytes([BANK_NUMBERS[bank]]) + digest).ljust(AGGREGATE_BYTES, b"\0"))
    return tuple(made)


def _digest_bytes(number: int) -> int:
    return 0 if number == 0 else PcrBank.from_name(_BANK_NAMES[number]).digest_bytes


def _replay(data: Bytes, progress: ImaProgress, target: bytes | None, column_bytes: int) -> ReplayedList:
    return ima_replay(
        data, column=column_bytes, bank=int(progress.bank), pcr=IMA_PCR, start=progress.pcr, target=target
    )
