"""What the coordinator measures, and when it is well and ready: `tccp.transport.metrics.Report`."""

import itertools
from collections.abc import Iterable, Sequence

import trio
from prometheus_client.core import Metric

from tccp.coordinator.services import Services
from tccp.systemd import Heartbeat
from tccp.transport.metrics import (
    build_info,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    tpm_durations,
)


class CoordinatorReport:
    """Numbers of the whole perimeter; none is about one node, tenant or VM.

    Args:
        store_answers: Beats as long as the store's thread does.
    """

    def __init__(self, services: Services, store_answers: Heartbeat) -> None:
        self._services, self._store_answers = services, store_answers

    async def families(self) -> Iterable[Metric]:
        """Every number.

        Raises:
            StoreError: The store cannot be read.
        """
        parts = (self._since_the_start(), await self._stored(), self._shadows(), self._log(), self._witnesses())
        return [build_info(), *itertools.chain.from_iterable(parts)]

    async def ailments(self) -> Sequence[str]:
        """A store that is silent for long is not coming back."""
        return [] if self._store_answers.alive() else ["store_silent"]

    async def hindrances(self) -> Sequence[str]:
        """Why nodes cannot be admitted."""
        services = self._services
        found = []
        if not services.policies.any_in_force:
            found.append("no_policy")
        if services.log.problem is not None:
            found.append(f"log_not_written: {services.log.problem.reason}")
        if services.evidence.tpm.closed:
            found.append("tpm_gone")
        return found

    def _since_the_start(self) -> Iterable[Metric]:
        services, counted = self._services, self._services.sessions.counters
        started_s = services.started_ms / 1000
        yield gauge("tccp_coordinator_start_time_seconds", "When the coordinator started, in Unix time.", started_s)
        yield gauge("tccp_nodes_connected", "Admitted nodes with a connection.", len(services.sessions))
        yield counter("tccp_registrations", "Nodes that were admitted.", counted.registrations)
        yield counter("tccp_renewals", "Leases that were renewed on fresh evidence.", counted.renewals)
        yield counter("tccp_leases_lapsed", "Leases that ended because they were not renewed in time.", counted.lapses)
        yield counter("tccp_worker_ends", "Workers that ended and were started again.", counted.worker_ends)
        yield counters("tccp_refusals", "Refusals of nodes.", "reason", counted.refusals.by_name)
        what = "Connections that were closed because there were too many from their address."
        yield counters("tccp_connections_refused", what, "port", counted.too_many.by_name)
        yield counters("tccp_revocations_told", "Nodes told that they are revoked.", "heard", counted.told.by_name)
        yield counter("tccp_key_releases", "Keys of VMs given to nodes.", counted.releases)
        yield counters("tccp_key_refusals", "Refusals to give a VM's keys.", "reason", counted.key_refusals.by_name)
        ahead_s = services.clock.ahead_of_host_s()
        yield gauge("tccp_clock_ahead_seconds", "How far tccp's clock is ahead of the host's.", ahead_s)
        what = "Time to make a group of transactions durable, with its fsync, in seconds."
        yield histogram("tccp_store_commit_duration_seconds", what, services.store.commits)
        yield tpm_durations(services.evidence.tpm.durations)

    async def _stored(self) -> Iterable[Metric]:
        counts, log_size = await self._services.store.counts(), self._services.log.size
        return [
            gauge("tccp_nodes_enrolled", "Nodes in the perimeter record, with those that are revoked.", counts.nodes),
            gauge("tccp_nodes_revoked", "Nodes that are revoked.", counts.revoked_nodes),
            gauge("tccp_leases_open", "Leases that hold now, or have just run out.", counts.open_leases),
            gauge("tccp_policies", "Policies in force.", counts.policies),
            gauge("tccp_store_size_bytes", "Size of the database.", counts.database_bytes),
            gauge("tccp_log_backlog_entries", "Events whose entry is not durable yet.", counts.last_seq - log_size),
        ]

    def _shadows(self) -> Iterable[Metric]:
        counts = {shadow.policy.name: shadow.counts for shadow in self._services.shadows}
        for verdict, name in (("accepted", "accepted"), ("refused", "refused"), ("no_answer", "silent")):
            what = f"Nodes of which the version in the shadow of a policy says last: {verdict}."
            found = {policy: float(count[verdict]) for policy, count in counts.items()}
            yield gauges(f"tccp_shadow_{name}", what, "policy", found)

    def _log(self) -> Iterable[Metric]:
        published = self._services.log
        yield gauge("tccp_log_entries", "Entries of the log that are durable under its checkpoint.", published.size)
        age_s = max(trio.current_time() - published.committed_at, 0.0)
        what = "Time since the newest checkpoint was signed, or since the start; it grows while nothing happens."
        yield gauge("tccp_log_checkpoint_age_seconds", what, age_s)

    def _witnesses(self) -> Iterable[Metric]:
        seen = self._services.cosignatures.seen()
        what = "Size of the newest checkpoint that a witness of the configuration cosigned; 0: none since the start."
        yield gauges("tccp_witness_entries", what, "witness", {name: size for name, (size, _) in seen.items()})
        now_s = self._services.clock.now_ms() / 1000
        what = "How old the newest cosignature of a witness is, in seconds; none before its first."
        ages = {name: max(now_s - at_s, 0.0) for name, (_, at_s) in seen.items() if at_s}
        yield gauges("tccp_witness_cosignature_age_seconds", what, "witness", ages)
