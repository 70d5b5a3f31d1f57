"""Lists of IMA are replayed as the kernel extended PCR 10, from where the last quote left it and no further."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.ima import (
    ImaProgress,
    ProvedMeasurements,
    Template,
    measurements_from_text,
    prove_measurements,
    replay_measurements,
)
from tccp.core._lib import lib
from tccp.errors import ImaError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.ima_lists import (
    AGGREGATE,
    SHA1,
    SHA256,
    VECTORS,
    Entry,
    buffer,
    field,
    modsig,
    ng,
    plain,
    quoted,
    replay_by_hand,
    signed,
    written,
)

EVERY_KIND = [
    AGGREGATE,
    plain(b"old", b"/usr/bin/with blank"),
    ng(b"one", b"/usr/bin/one"),
    ng(b"long", b"/usr/bin/long", name="sha512"),
    signed(b"two", b"/usr/bin/two", b"\x03\x02\x04 not a signature"),
    signed(b"three", b"/usr/bin/three", b""),
    buffer(b"ro lockdown=integrity", b"kexec-cmdline"),
    modsig(b"module", b"/lib/modules/x.ko", b"appended"),
    modsig(b"module", b"/lib/modules/y.ko", b""),
    ng(b"", b"/var/log/messages", is_violation=True),
    ng(b"elsewhere", b"/x", pcr=11),
    Entry(b"ima-ngv2", field(b"ima:sha256:\0" + bytes(32)) + field(b"/v2\0")),
    Entry(b"ima-ngv2", field(b"verity:sha256:\0" + bytes(32)) + field(b"/verity\0")),
    Entry(b"evm-sig", b"fields of another kernel"),
]


@pytest.mark.parametrize("bank", [SHA256, SHA1])
def test_every_template_is_replayed_as_the_kernel_extends(bank: PcrBank) -> None:
    proved = prove_measurements(written(EVERY_KIND), ImaProgress.start(bank), quoted(EVERY_KIND, bank))

    assert len(proved) == len(EVERY_KIND)
    assert proved.progress.pcr == replay_by_hand(EVERY_KIND, bank)
    assert proved.progress.consumed_bytes == len(written(EVERY_KIND))
    assert [entry.template.name for entry in proved.entries()] == [
        *("IMA_NG", "IMA", "IMA_NG", "IMA_NG", "IMA_SIG", "IMA_SIG", "IMA_BUF", "IMA_MODSIG", "IMA_MODSIG"),
        *("IMA_NG", "IMA_NG", "IMA_NG", "IMA_NG", "OTHER"),
    ]


def test_fields_are_read() -> None:
    entries = list(prove_measurements(written(EVERY_KIND), ImaProgress.start(), quoted(EVERY_KIND)).entries())

    assert entries[1].path == b"/usr/bin/with blank"
    assert (entries[2].digest_name, entries[2].digest) == ("sha256", hashlib.sha256(b"one").digest())
    assert entries[3].digest == hashlib.sha512(b"long").digest()
    assert entries[9].is_violation
    assert entries[10].pcr == 11
    assert entries[11].digest == bytes(32)
    assert entries[12].digest == b""  # of a tree of hashes, not of a file
    assert [entry.number for entry in entries] == list(range(len(EVERY_KIND)))


@pytest.mark.parametrize("cut", range(1, len(EVERY_KIND)))
def test_a_list_that_grows_is_replayed_from_where_it_was(cut: int) -> None:
    data, start = written(EVERY_KIND), ImaProgress.start()
    whole = prove_measurements(data, start, quoted(EVERY_KIND)).progress

    first = prove_measurements(data, start, quoted(EVERY_KIND[:cut])).progress
    second = prove_measurements(data[first.consumed_bytes :], first, quoted(EVERY_KIND))

    # An entry in another PCR changes nothing, so a quote cannot tell whether it was there yet.
    assert first.count == (cut if cut != 11 else 10)
    assert second.first_number == first.count
    assert second.progress == whole


def test_what_was_measured_after_the_quote_waits_for_the_next() -> None:
    data = written(EVERY_KIND)

    proved = prove_measurements(data, ImaProgress.start(), quoted(EVERY_KIND[:4]))
    again = prove_measurements(data[proved.progress.consumed_bytes :], proved.progress, quoted(EVERY_KIND[:4]))

    assert len(proved) == 4
    assert len(again) == 0
    assert again.progress == proved.progress


def test_half_an_entry_behind_the_quoted_ones_is_no_fault() -> None:
    data = written(EVERY_KIND[:3])

    for end in range(len(written(EVERY_KIND[:2])), len(data)):
        assert len(prove_measurements(data[:end], ImaProgress.start(), quoted(EVERY_KIND[:2]))) == 2


def test_a_memoryview_is_replayed_where_it_lies() -> None:
    data = memoryview(b"before" + written(EVERY_KIND))[6:]

    proved = prove_measurements(data, ImaProgress.start(), quoted(EVERY_KIND))

    assert proved.entry(2).path == b"/usr/bin/one"


def test_real_entries_hash_to_what_the_kernel_printed() -> None:
    text = (VECTORS / "rust-keylime" / "ascii_runtime_measurements").read_bytes()
    by_hand = bytes(20)
    for line in text.splitlines():
        printed = bytes.fromhex(line.split()[1].decode())
        by_hand = hashlib.sha1(by_hand + (printed if any(printed) else b"\xff" * 20), usedforsecurity=False).digest()

    measurements, pcr = replay_measurements(measurements_from_text(text), ImaProgress.start(SHA1))

    assert len(measurements) == 826
    assert pcr == by_hand
    assert measurements.entry(1).path == b"/init"


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512", "sm3_256", "unknown"])
def test_lists_of_every_algorithm_are_read(name: str) -> None:
    text = (VECTORS / "keylime" / f"ima-log-{name}").read_bytes()

    measurements, _ = replay_measurements(measurements_from_text(text), ImaProgress.start())

    assert [entry.path for entry in measurements.entries()] == [b"boot_aggregate", b"/data"]
    assert measurements.entry(1).digest_name == (name if name.startswith("sha") else "")


def test_a_list_in_ascii_leads_to_the_same_value() -> None:
    lines = []
    for entry in EVERY_KIND[:11]:
        if entry.template == b"ima":
            fields = entry.data[:20].hex().encode() + b" " + entry.data[24:]
        else:
            fields = b" ".join(_ascii(entry.template, entry.data))
        column = (bytes(20) if entry.is_violation else b"\x01" * 20).hex().encode()
        lines.append(b" ".join((str(entry.pcr).encode(), column, entry.template, fields)))

    measurements, pcr = replay_measurements(measurements_from_text(b"\n".join(lines) + b"\n"), ImaProgress.start())

    assert pcr == replay_by_hand(EVERY_KIND[:11])
    assert len(measurements) == 11


def _ascii(template: bytes, data: bytes) -> list[bytes]:
    fields = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        fields.append(data[4 : 4 + length])
        data = data[4 + length :]
    is_digest = [True, False, False, True, False]
    is_path = [False, True, False, False, False]
    return [
        value.rstrip(b"\0")
        if is_path[at]
        else value.split(b"\0", 1)[0] + value.split(b"\0", 1)[1].hex().encode()
        if is_digest[at] and value
        else value.hex().encode()
        for at, value in enumerate(fields)
    ]


@pytest.mark.parametrize(
    "text",
    [
        (VECTORS / "rust-keylime" / "invalid_ima_log.txt").read_bytes(),
        b"\n",
        b"10 " + b"0" * 40 + b" ima-ng sha256:zz /x\n",
        b"10 " + b"0" * 39 + b" ima-ng sha256:00 /x\n",
        b"10 " + b"0" * 40 + b" ima-ng sha256:00\n",
        b"10 " + b"0" * 40 + b" ima-sig sha256:00 /x 00 00\n",
        b"10 " + b"0" * 40 + b" ima 00 x\n",
        b"100 " + b"0" * 40 + b" ima-ng sha256:00 /x\n",
    ],
)
def test_what_is_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(ImaError, match="malformed"):
        measurements_from_text(text)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    for read in (lambda: replay_measurements(data, ImaProgress.start()), lambda: measurements_from_text(data)):
        try:
            read()
        except ImaError as refusal:
            assert refusal.reason in {"malformed", "truncated"}  # noqa: PT017


def test_a_list_without_its_end_is_told_from_a_whole_one() -> None:
    data = written(EVERY_KIND)

    with pytest.raises(ImaError, match="truncated"):
        replay_measurements(data[:-1], ImaProgress.start())


def test_progress_is_only_kept_in_banks_that_ima_is_replayed_in() -> None:
    with pytest.raises(ValueError, match="sha384"):
        ImaProgress.start(PcrBank.SHA384)
    with pytest.raises(ValueError, match="PCR 10"):
        prove_measurements(b"", ImaProgress.start(), PcrValues(PcrSelection.of(SHA256, [9]), {9: bytes(32)}))


def test_nobody_but_a_proof_makes_proved_measurements() -> None:
    proved = prove_measurements(written(EVERY_KIND), ImaProgress.start(), quoted(EVERY_KIND))
    with pytest.raises(TypeError):
        ProvedMeasurements(b"", 0, proved._replayed, proved.progress, object())


def test_templates_have_the_numbers_of_the_core() -> None:
    assert [Template.IMA, Template.IMA_BUF, Template.IMA_MODSIG] == [
        lib.TCCP_IMA_PLAIN,
        lib.TCCP_IMA_BUF,
        lib.TCCP_IMA_MODSIG,
    ]
