"""What a VM's processes, or another node, say is shown on the control socket, and ends neither it nor the daemon."""

import pytest

from tccp.errors import HostError
from tccp.node.transfer import Transfer
from tccp.node.vm.qmp import COUNT_MAX, count_of
from tccp.protocol import vm_control as v
from tccp.protocol.encoding import decode, encode
from tccp.protocol.transfer import TransferSent
from tests.node.running import Running
from tests.support.live_node import LiveNode


async def test_a_text_that_no_encoding_has_is_shown_escaped(alpha: LiveNode, running: Running) -> None:
    """JSON may say half a character, and QEMU speaks JSON. Whoever listed VMs then ended the daemon, and all VMs."""
    with pytest.raises(UnicodeEncodeError):
        encode(v.Vms(vms=("\ud800",)))  # type: ignore[arg-type]
    alpha.hypervisor.vms[0].problem = HostError("qmp_refused", "stop: \ud800")

    await alpha.suspend(running.vm.vm_id)

    (info,) = (await alpha.ask(v.ListVms(), v.Vms)).vms
    assert (info.state, info.detail) == ("running", "qmp_refused: stop: \\ud800")


@pytest.mark.parametrize("said", [-1, COUNT_MAX + 1, 1 << 70, "7", 7.5, True, None, [7]])
def test_a_count_that_is_none_is_nonsense(said: object) -> None:
    with pytest.raises(HostError, match="qmp_malformed"):
        count_of(said)


def test_a_count_is_one() -> None:
    assert count_of(COUNT_MAX) == COUNT_MAX


async def test_a_source_that_counts_beyond_all_bounds_can_be_listed() -> None:
    most = (1 << 63) - 1
    transfer = Transfer()
    transfer.hear(TransferSent(most, most, most, most))
    transfer.sent_at -= 1
    transfer.end()

    info = transfer.info()

    assert decode(encode(info), v.VmTransfer) == info
    assert (info.sent_bytes, info.still_ms) == (most, most)
