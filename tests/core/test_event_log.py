"""The C core and Python number the same things alike."""

from tccp.attestation.event_log import LogEnding
from tccp.core._lib import lib
from tccp.core.event_log import BANKS, event_log_parse
from tccp.model import PCR_COUNT, PcrBank
from tests.support.event_logs import VECTORS


def test_endings_have_the_numbers_of_the_core() -> None:
    assert {ending.name: ending.value for ending in LogEnding} == {
        ending.name: getattr(lib, f"TCCP_EVENT_LOG_{ending.name}") for ending in LogEnding
    }


def test_banks_and_pcrs_are_as_many_as_in_the_core() -> None:
    assert len(BANKS) == lib.TCCP_EVENT_LOG_BANKS
    assert tuple(PcrBank) == BANKS
    assert lib.TCCP_EVENT_LOG_PCRS == PCR_COUNT


def test_a_parsed_log_outlives_the_bytes_it_was_read_from() -> None:
    log = bytearray((VECTORS / "gce" / "eventlog.bin").read_bytes())

    parsed = event_log_parse(bytes(log), 0x0F)
    log.clear()

    assert parsed.event_count == 44
    assert parsed.pcr(1, 0, 32) == (VECTORS / "gce" / "pcrs_sha256.bin").read_bytes()[:32]
