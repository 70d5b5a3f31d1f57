"""Files of claimed PCR values, as tpm2-tools write them.

- *serialized* (``tpm2_quote -o``): TPML_PCR_SELECTION, a count, and that many TPML_DIGEST, as the C structures lie
  in memory on a little-endian machine: fixed sizes, unused room and all;
- *values* (``-F values``): the values one after another, saying neither which bank nor which PCRs;
- *text* (what ``tpm2_pcrread`` prints): ``sha256:`` and below it ``0 : 0x00..``;
- *JSON*: ``{"sha256": {"0": "00.."}}``, also as ``pcrs`` inside a larger document such as that of
  ``tccp evidence eventlog --json``.

The values are claims: they are worth what a quote or an event log says of them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tccp.errors import EvidenceError
from tccp.model import PCR_COUNT, PcrBank, PcrSelection, PcrValues

PCR_FILE_BYTES_MAX = 65_536

# sizeof() where the file was written, as the TSS lays out TPM 2.0 Library, Part 2, 10.6.2, 10.9.7 and 10.9.8.
SELECTIONS_MAX = 16
SELECTION_BYTES = 8
DIGESTS_AT = 4 + SELECTIONS_MAX * SELECTION_BYTES
DIGEST_BYTES_MAX = 64
LIST_DIGESTS_MAX = 8
LIST_BYTES = 4 + LIST_DIGESTS_MAX * (2 + DIGEST_BYTES_MAX)

BANK_LINE = re.compile(r"\s*(\w+)\s*:\s*")
VALUE_LINE = re.compile(r"\s*(\d{1,2})\s*:\s*(?:0x)?([0-9A-Fa-f]+)\s*")
IGNORED_LINES = frozenset({"", "---", "pcrs:"})

Banks = Mapping[PcrBank, Mapping[int, bytes]]


@dataclass(frozen=True, slots=True)
class PcrFile:
    """The content of one file.

    Args:
        banks: What the file says by bank and index; empty for *values*.
        bare: For *values* all of the file, otherwise empty.
    """

    banks: Banks
    bare: bytes = b""

    def select(self, selection: PcrSelection) -> PcrValues:
        """The values that the file claims for *selection*; a file may hold more than these.

        Raises:
            EvidenceError: It does not hold all of them.
        """
        if self.bare:
            return PcrValues(selection, _cut(self.bare, selection))
        bank = self.banks.get(selection.bank, {})
        missing = [str(index) for index in selection.indexes if index not in bank]
        if missing:
            raise EvidenceError(
                "pcr_value_missing",
                f"the PCR file has no {selection.bank.hash_name} value of PCR {', '.join(missing)}",
                hint="Write the file with the same PCR list as the quote.",
            )
        try:
            return PcrValues(selection, {index: bank[index] for index in selection.indexes})
        except ValueError as error:
            raise EvidenceError("malformed", f"the PCR file: {error}") from error

    def select_all(self, selections: Sequence[PcrSelection]) -> list[PcrValues]:
        """`select` for each of *selections*, which a quote may have several of.

        Raises:
            EvidenceError: Not all are there, or a *values* file would have to be cut without knowing where.
        """
        if self.bare and len(selections) > 1:
            raise EvidenceError(
                "malformed",
                "the PCR file has bare values, and the quote several banks",
                hint="Write it with `-F serialized`, so that it says which PCRs it holds.",
            )
        return [self.select(selection) for selection in selections]

    def whole_bank(self, bank: PcrBank) -> PcrValues:
        """All values of one bank; of *values* files only one that holds all 24 PCRs can be understood.

        Raises:
            EvidenceError: The file holds none of this bank.
        """
        if self.bare:
            return self.select(PcrSelection.of(bank, range(PCR_COUNT)))
        indexes = self.banks.get(bank)
        if not indexes:
            raise EvidenceError("pcr_value_missing", f"the PCR file has no values of bank {bank.hash_name}")
        return self.select(PcrSelection.of(bank, indexes))


def _cut(bare: bytes, selection: PcrSelection) -> dict[int, bytes]:
    size = selection.bank.digest_bytes
    if len(bare) != size * len(selection.indexes):
        raise EvidenceError(
            "malformed",
            f"the PCR file has {len(bare)} bytes where {len(selection.indexes)} values of "
            f"{selection.bank.hash_name} have {size * len(selection.indexes)}",
            hint="Write it with `-F serialized`, so that it says which PCRs it holds.",
        )
    return {index: bare[at * size : (at + 1) * size] for at, index in enumerate(selection.indexes)}


def parse_pcr_file(content: bytes) -> PcrFile:
    """Understand a PCR file in any of its formats, told apart by their shape.

    Raises:
        EvidenceError: It is none of them.
    """
    if not content:
        raise EvidenceError("malformed", "the PCR file is empty")
    if _is_serialized(content):
        return PcrFile(_parse_serialized(content))
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        return PcrFile({}, bare=content)
    if text.lstrip().startswith("{"):
        return PcrFile(_parse_json(text))
    if ":" in text:
        return PcrFile(_parse_text(text))
    return PcrFile({}, bare=content)


def _is_serialized(content: bytes) -> bool:
    lists, rest = divmod(len(content) - DIGESTS_AT - 4, LIST_BYTES)
    return rest == 0 and lists == int.from_bytes(content[DIGESTS_AT : DIGESTS_AT + 4], "little")


def _parse_serialized(content: bytes) -> Banks:
    count = int.from_bytes(content[:4], "little")
    if count > SELECTIONS_MAX:
        raise EvidenceError("malformed", f"the PCR file lists {count} banks")
    digests = _digests(content)
    banks: dict[PcrBank, dict[int, bytes]] = {}
    for at in range(4, 4 + count * SELECTION_BYTES, SELECTION_BYTES):
        algorithm = int.from_bytes(content[at : at + 2], "little")
        selected = int.from_bytes(content[at + 3 : at + 3 + min(content[at + 2], 4)], "little")
        indexes = [index for index in range(32) if selected >> index & 1]
        # A bank that we do not know still has its share of the digests.
        values = {index: next(digests, None) for index in indexes}
        if algorithm not in set(PcrBank) or not indexes:
            continue
        if algorithm in banks:
            raise EvidenceError("malformed", "the PCR file lists a bank twice")
        banks[PcrBank(algorithm)] = _complete(values)
    if next(digests, None) is not None:
        raise EvidenceError("malformed", "the PCR file holds more values than it lists")
    return banks


def _complete(values: Mapping[int, bytes | None]) -> dict[int, bytes]:
    known = {index: value for index, value in values.items() if value is not None}
    if len(known) < len(values):
        raise EvidenceError("malformed", "the PCR file holds fewer values than it lists")
    if max(known) >= PCR_COUNT:
        raise EvidenceError("malformed", f"the PCR file lists PCR {max(known)}")
    return known


def _digests(content: bytes) -> Iterator[bytes]:
    for start in range(DIGESTS_AT + 4, len(content), LIST_BYTES):
        count = int.from_bytes(content[start : start + 4], "little")
        if count > LIST_DIGESTS_MAX:
            raise EvidenceError("malformed", f"the PCR file has a list of {count} values")
        for at in range(start + 4, start + 4 + count * (2 + DIGEST_BYTES_MAX), 2 + DIGEST_BYTES_MAX):
            size = int.from_bytes(content[at : at + 2], "little")
            if size > DIGEST_BYTES_MAX:
                raise EvidenceError("malformed", f"the PCR file has a value of {size} bytes")
            yield content[at + 2 : at + 2 + size]


def _parse_json(text: str) -> Banks:
    try:
        document = json.loads(text)
        document = document.get("pcrs", document)
        entries = [
            (bank, int(index), str(value)) for bank, values in document.items() for index, value in values.items()
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EvidenceError("malformed", f"the PCR file is no JSON of PCR values: {error}") from error
    return _gather(entries)


def _parse_text(text: str) -> Banks:
    bank = ""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if value := VALUE_LINE.fullmatch(line):
            entries.append((bank, int(value[1]), value[2]))
        elif line.strip() in IGNORED_LINES:
            continue
        elif heading := BANK_LINE.fullmatch(line):
            bank = heading[1]
        else:
            raise EvidenceError("malformed", f"line {number} of the PCR file is neither a bank nor a PCR value")
    return _gather(entries)


def _gather(entries: list[tuple[str, int, str]]) -> Banks:
    banks: dict[PcrBank, dict[int, bytes]] = {}
    for name, index, value in entries:
        try:
            bank = PcrBank.from_name(name)
        except ValueError:
            continue  # a bank that nobody can ask for, such as sm3_256
        if not 0 <= index < PCR_COUNT or index in banks.get(bank, {}):
            raise EvidenceError("malformed", f"the PCR file names PCR {index} of {name}, which is none or there twice")
        try:
            banks.setdefault(bank, {})[index] = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            raise EvidenceError("malformed", f"the value of PCR {index} of {name} is not hexadecimal") from None
    if not banks:
        raise EvidenceError("malformed", "the PCR file holds no value of a known bank")
    return banks
