"""Lists of handles come page by page, and end, whatever a TPM says."""

import pytest
import trio
from trio.testing import memory_stream_pair

from tccp.errors import TpmError
from tccp.tpm.channel import Channel
from tccp.tpm.constants import Capability, HandleRange
from tccp.tpm.marshal import u8, u32
from tccp.tpm.nv import list_indexes
from tccp.tpm.tcti import StreamConnection
from tests.tpm.fake_tpm import answering, response, serve

FIRST = int(HandleRange.NV_INDEX)
LAST = 0xFFFF_FFFF


def page(*handles: int, more: bool, capability: int = Capability.HANDLES) -> bytes:
    """The answer to TPM2_GetCapability (Part 3, 30.2)."""
    listed = b"".join(u32(handle) for handle in handles)
    return response(u8(more) + u32(capability) + u32(len(handles)) + listed)


async def listed(*pages: bytes) -> list[int]:
    """What a TPM that answers these has for indices."""
    ours, theirs = memory_stream_pair()
    channel = Channel(StreamConnection(ours), timeout_s=90)
    outcome: list[int] | TpmError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answering(*pages))
        try:
            outcome = await list_indexes(channel)
        except TpmError as error:
            outcome = error
        await channel.aclose()
        nursery.cancel_scope.cancel()
    if isinstance(outcome, TpmError):
        raise outcome
    return outcome


async def test_the_pages_of_a_list_become_one() -> None:
    assert await listed(page(FIRST, FIRST + 1, more=True), page(FIRST + 7, more=False)) == [FIRST, FIRST + 1, FIRST + 7]


@pytest.mark.parametrize(
    "pages",
    [
        [page(more=True)],
        [page(FIRST, more=True), page(FIRST, more=True)],
        [page(FIRST - 1, more=True)],
        [page(LAST, more=True)],
        [page(FIRST, more=False, capability=Capability.PCRS)],
    ],
    ids=["nothing and more", "the same again", "before the first", "behind the last", "another capability"],
)
async def test_a_list_that_does_not_get_further_is_refused(pages: list[bytes]) -> None:
    with pytest.raises(TpmError, match="tpm_malformed_response"):
        await listed(*pages)


async def test_a_list_that_goes_on_and_on_is_cut() -> None:
    pages = [page(*range(start, start + 254), more=True) for start in range(FIRST, FIRST + 10 * 254, 254)]

    assert len(await listed(*pages)) == 5 * 254
