"""What a node measures, and when it is well and ready: `tccp.transport.metrics.Report`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from tccp.transport.metrics import build_info, counter, counters, gauge, gauges, tpm_durations

if TYPE_CHECKING:
    from tccp.node.daemon import Node

VM_STATES = ("checking", "asking", "starting", "running", "stopping", "ended", "failed")


class NodeReport:
    """Numbers of one node; none is about one tenant or VM."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def families(self) -> Iterable[Metric]:
        """Every number."""
        node, lease = self._node, self._node.lease
        states = Counter(vm.state for vm in node.vms.all())
        vms = {state: float(states[state]) for state in (*VM_STATES, *sorted(states.keys() - set(VM_STATES)))}
        return [
            build_info(),
            gauge("tccp_node_start_time_seconds", "When the daemon started, in Unix time.", node.started_ms / 1000),
            gauge("tccp_node_admitted", "1 while the node holds a lease, else 0.", int(lease.holds)),
            gauge("tccp_node_lease_remaining_seconds", "How long the lease holds on.", max(lease.left_s, 0.0)),
            counter("tccp_node_renewals", "How often the lease was renewed.", lease.renewals),
            counter("tccp_node_connections", "Connections to the coordinator that were begun.", node.connections),
            counters("tccp_node_connection_failures", "How they ended.", "reason", node.failures.by_name),
            gauges("tccp_node_vms", "VMs by state; those that are over for a while.", "state", vms),
            tpm_durations(node.host.tpm.durations),
        ]

    async def ailments(self) -> Sequence[str]:
        """Whoever answers this is alive; a daemon whose TPM is gone has ended."""
        return []

    async def hindrances(self) -> Sequence[str]:
        """Why VMs cannot be started here."""
        node = self._node
        if node.lease.holds:
            return []
        return [f"not_admitted: {node.last_problem.reason}" if node.last_problem else f"not_admitted: {node.state}"]
