"""The lease as the node holds it: it ends by time, and nobody has to say so."""

import time

import pytest

from tccp.node.registration import HeldLease


def test_a_node_knows_by_itself_that_its_lease_has_lapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = HeldLease()
    now = 1000.0
    monkeypatch.setattr(time, "clock_gettime", lambda _: now)
    assert not lease.holds
    lease.extend(b"i" * 16, b"", asked_at=now, lease_s=2)
    assert lease.holds

    now = 1001.9
    assert lease.holds
    now = 1002.0
    assert not lease.holds


def test_a_dropped_lease_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = HeldLease()
    lease.extend(b"i" * 16, b"", asked_at=time.clock_gettime(time.CLOCK_BOOTTIME), lease_s=60)
    lease.drop()

    assert not lease.holds
    assert lease.left_s <= 0
