"""The store on one SQLite file: opened, and what it does but for VMs (`tccp.store.sqlite_vms`)."""

import contextlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

import trio

from tccp.measures import Durations
from tccp.model import NodeName
from tccp.store import policy_versions, queries, schema, transactions
from tccp.store.errors import ConflictError, errors_of_sqlite
from tccp.store.interface import PAGE_MAX, Store
from tccp.store.records import (
    EVENT_BODY_BYTES_MAX,
    META_BYTES_MAX,
    EventDraft,
    EventRecord,
    LeaseRecord,
    NodeRecord,
    PolicyRecord,
    StoreCounts,
    check_bytes,
    check_text,
    check_time,
)
from tccp.store.renewal import Renewal, renew_leases
from tccp.store.sqlite_vms import SqliteVms
from tccp.store.vm_interface import PAGE

WATCH_PAGE = 256


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Open the database at *path*, make or migrate it first if need be, and shut out whoever opened it before.

    On leaving, the transactions that wait are finished and the write-ahead log is folded into the file.

    Raises:
        ConfigError: ``foreign_database``, ``newer_database``, ``no_write_ahead_log``.
        StoreError: ``damaged``, ``cannot_open``, ``locked``, ``disk_full``, ``read_only``.
    """
    with contextlib.ExitStack() as opened:

        def open_all() -> tuple[sqlite3.Connection, int, sqlite3.Connection, sqlite3.Connection]:
            writing = schema.connect_writer(path)
            opened.callback(writing.close)
            epoch = schema.take_over(writing)
            readers = schema.connect_reader(path), schema.connect_reader(path)
            for reader in readers:
                opened.callback(reader.close)
            return writing, epoch, *readers

        with errors_of_sqlite():
            writing, epoch, keyed, paged = await trio.to_thread.run_sync(open_all)
        store = _SqliteStore(writing, epoch, keyed, paged)
        try:
            yield store
        finally:
            await store.aclose()


class _SqliteStore(SqliteVms, Store):
    @property
    def epoch(self) -> int:
        return self.writer.epoch

    @property
    def commits(self) -> Durations:
        return self.writer.commits

    # ---- nodes ----

    async def enrol_node(self, record: NodeRecord, body: bytes = b"") -> int:
        _check_event(record.enrolled_ms, body)
        return await self.writer.run(transactions.enrol_node, record, body)

    async def import_nodes(self, entries: Sequence[tuple[NodeRecord, bytes]]) -> list[NodeName]:
        for record, body in entries:
            _check_event(record.enrolled_ms, body)
        return await self.writer.run(transactions.import_nodes, entries)

    async def set_node_policy(self, name: NodeName, policy: str, at_ms: int, body: bytes = b"") -> int:
        check_text("policy", policy)
        _check_event(at_ms, body)
        return await self.writer.run(transactions.set_node_policy, name, policy, at_ms, body)

    async def set_attributes(
        self, name: NodeName, said: Mapping[str, str], taken_back: Collection[str], at_ms: int
    ) -> int:
        check_time("at_ms", at_ms)
        return await self.writer.run(transactions.set_attributes, name, said, taken_back, at_ms)

    async def revoke_node(self, name: NodeName, reason: str, at_ms: int, body: bytes = b"") -> int:
        check_text("reason", reason)
        _check_event(at_ms, body)
        return await self.writer.run(transactions.revoke_node, name, reason, at_ms, body)

    async def reinstate_node(self, name: NodeName, at_ms: int, body: bytes = b"") -> int:
        _check_event(at_ms, body)
        return await self.writer.run(transactions.reinstate_node, name, at_ms, body)

    async def remove_node(self, name: NodeName, at_ms: int, body: bytes = b"") -> int:
        _check_event(at_ms, body)
        return await self.writer.run(transactions.remove_node, name, at_ms, body)

    async def node_by_name(self, name: NodeName) -> NodeRecord | None:
        return await self.look_up(queries.node_by_name, name)

    async def node_by_ek(self, ek_id: bytes) -> NodeRecord | None:
        return await self.look_up(queries.node_by_ek, ek_id)

    async def nodes_by_policy(self) -> dict[str, int]:
        return await self.read_page(queries.nodes_by_policy)

    async def list_nodes(self, after: NodeName | None = None, limit: int = PAGE) -> list[NodeRecord]:
        return await self.read_page(queries.nodes, after, min(limit, PAGE_MAX))

    # ---- policies ----

    async def add_policy(self, record: PolicyRecord, body: bytes = b"") -> int:
        _check_event(record.added_ms, body)
        return await self.writer.run(policy_versions.add_policy, record, body)

    async def policies(self) -> list[PolicyRecord]:
        return await self.read_page(queries.policies)

    async def policy(self, name: str, version: int | None = None) -> PolicyRecord | None:
        return await self.look_up(queries.policy, name, version)

    async def policy_versions(self, name: str) -> list[PolicyRecord]:
        return await self.read_page(queries.policy_versions, name)

    async def set_shadow(self, record: PolicyRecord) -> int:
        return await self.writer.run(policy_versions.set_shadow, record)

    async def promote_shadow(self, name: str, sha256: bytes, at_ms: int) -> int:
        check_time("at_ms", at_ms)
        return await self.writer.run(policy_versions.promote_shadow, name, sha256, at_ms)

    async def drop_shadow(self, name: str, at_ms: int) -> int:
        check_time("at_ms", at_ms)
        return await self.writer.run(policy_versions.drop_shadow, name, at_ms)

    async def shadows(self) -> list[PolicyRecord]:
        return await self.read_page(policy_versions.shadows)

    # ---- leases ----

    async def admit(self, lease: LeaseRecord, body: bytes = b"") -> int:
        if lease.ended_ms is not None:
            raise ValueError("an ended lease admits nobody")
        _check_event(lease.issued_ms, body)
        return await self.writer.run(transactions.admit, lease, body)

    async def renew_all(self, renewals: Sequence[Renewal]) -> list[ConflictError | None]:
        return await self.writer.run(renew_leases, renewals)

    async def end_lease(self, lease_id: bytes, reason: str, at_ms: int) -> int:
        check_text("reason", reason)
        check_time("at_ms", at_ms)
        return await self.writer.run(transactions.end_lease, lease_id, reason, at_ms)

    async def lapse_leases(self, now_ms: int) -> list[tuple[bytes, NodeName]]:
        check_time("now_ms", now_ms)
        lapsed: list[tuple[bytes, NodeName]] = []
        while True:
            some = await self.writer.run(transactions.lapse_leases, now_ms)
            lapsed += some
            if len(some) < transactions.LAPSES_PER_TRANSACTION:
                return lapsed

    async def lease(self, lease_id: bytes) -> LeaseRecord | None:
        return await self.look_up(queries.lease, lease_id)

    async def open_lease(self, name: NodeName) -> LeaseRecord | None:
        return await self.look_up(queries.open_lease, name)

    async def open_leases(self, after: NodeName | None = None, limit: int = PAGE) -> list[LeaseRecord]:
        return await self.read_page(queries.open_leases, after, min(limit, PAGE_MAX))

    async def leases_of(self, name: NodeName, limit: int = 20) -> list[LeaseRecord]:
        return await self.read_page(queries.leases_of, name, min(limit, PAGE_MAX))

    # ---- what nodes have measured ----

    async def keep_measured(self, entries: Sequence[tuple[NodeName, bytes]]) -> None:
        for _, content in entries:
            check_bytes("content", content, 0, META_BYTES_MAX)
        await self.writer.run(transactions.keep_measured, entries)

    async def measured(self, name: NodeName) -> bytes | None:
        return await self.look_up(queries.measured, name)

    # ---- the log ----

    async def append_event(self, event: EventDraft) -> int:
        return await self.writer.run(transactions.append_event, event)

    async def events(self, since_seq: int = 0, limit: int = PAGE) -> list[EventRecord]:
        return await self.read_page(queries.events, since_seq, min(limit, PAGE_MAX))

    async def events_at(self, seqs: Sequence[int]) -> list[EventRecord]:
        return await self.read_page(queries.events_at, seqs)

    async def wait_for_events(self, since_seq: int) -> None:
        while True:
            self.check()
            changes = self.changes
            if await self.last_seq() > since_seq:
                return
            await self.wait_for_change(changes)

    async def last_seq(self) -> int:
        return await self.look_up(queries.last_seq)

    async def newest_time_ms(self) -> int:
        return await self.read_page(queries.newest_time_ms)

    def watch(self, since_seq: int) -> AsyncIterator[EventRecord]:
        return _Watch(self, since_seq)

    # ---- the rest ----

    async def check_fence(self) -> None:
        await self.writer.run(transactions.nothing)

    async def meta(self, key: str) -> bytes | None:
        return await self.look_up(queries.meta, key)

    async def set_meta(self, key: str, value: bytes) -> None:
        check_text("key", key)
        check_bytes("value", value, 0, META_BYTES_MAX)
        await self.writer.run(transactions.set_meta, key, value)

    async def counts(self) -> StoreCounts:
        return await self.read_page(queries.counts)


class _Watch(AsyncIterator[EventRecord]):
    """A reader of the log. It holds nothing but a page, and pulls: nobody waits for it."""

    def __init__(self, store: _SqliteStore, since_seq: int) -> None:
        self._store = store
        self._seq = since_seq
        self._page: deque[EventRecord] = deque()

    async def __anext__(self) -> EventRecord:
        while not self._page:
            self._store.check()
            changes = self._store.changes
            self._page.extend(await self._store.events(self._seq, WATCH_PAGE))
            if not self._page:
                await self._store.wait_for_change(changes)
        event = self._page.popleft()
        self._seq = event.seq
        return event


def _check_event(at_ms: int, body: bytes) -> None:
    check_time("at_ms", at_ms)
    check_bytes("body", body, 0, EVENT_BODY_BYTES_MAX)
