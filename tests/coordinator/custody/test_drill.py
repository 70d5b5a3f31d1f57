"""The drill: a coordinator is lost with its machine, and comes back on another from its officers' shares."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import trio

from tccp.coordinator.log_entries import entries_of
from tccp.merkle import merkle_tree
from tccp.node.registration import NodeTpm
from tccp.transparency.entry import decode_entry
from tests.cli.running import Ended, tccp
from tests.support.live_coordinator import ZERO, HonestNode, live_coordinator, write_config
from tests.support.soft_tpm import SoftTpmPool

OFFICERS = ("ann", "bob", "eve")


async def keys(*words: str | Path) -> Ended:
    """``tccp coordinator keys ...``, which must do it."""
    ended = await trio.to_thread.run_sync(lambda: tccp("coordinator", "keys", *words, "--json"))
    assert ended.code == 0, ended
    return ended


def copy_database(source: Path, target: Path) -> None:
    """As the operator does it with ``sqlite3 coordinator.db .backup``."""
    with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(target)) as copy:
        opened.backup(copy)


async def test_a_lost_coordinator_comes_back_from_shares_with_its_identity_and_its_log(
    soft_tpms: SoftTpmPool, host: NodeTpm, tmp_path: Path
) -> None:
    lost, new, officers = tmp_path / "lost", tmp_path / "new", tmp_path / "officers"
    for folder in (lost, new, officers):
        folder.mkdir()
    for officer in OFFICERS:
        assert tccp("key", "generate", officers / f"{officer}.key").code == 0
    with soft_tpms.lend() as lost_tpm, soft_tpms.lend() as new_tpm:
        async with live_coordinator(lost, lost_tpm) as before:
            await before.add_policy({0: ZERO, 4: ZERO})
            await before.enrol("alpha", host)
            assert await HonestNode(before, "alpha", host).is_admitted()
            identity = before.services.identity.keys
        named = [word for name in OFFICERS for word in ("--officer", f"{name}={officers}/{name}.pub")]
        backup = ["--threshold", "2", "--out", officers, "--config", lost / "coordinator.toml"]
        await keys("backup", *named, *backup)
        async with live_coordinator(lost, lost_tpm) as before:
            events = await before.log()
            checkpoint = before.services.log.head.checkpoint
        copy_database(lost / "state" / "coordinator.db", tmp_path / "backup.db")
        shutil.copytree(lost / "state" / "log", tmp_path / "backup.log")
        shutil.rmtree(lost)
        lost_tpm.stop()

        write_config(new / "coordinator.toml", new_tpm)
        shares = [officers / "ann.share", officers / "eve.share"]
        opened_by = ["--key", officers / "ann.key", "--key", officers / "eve.key"]
        await keys("restore", *shares, *opened_by, "--config", new / "coordinator.toml")
        shutil.copy(tmp_path / "backup.db", new / "state" / "coordinator.db")
        shutil.copytree(tmp_path / "backup.log", new / "state" / "log")
        async with live_coordinator(new, new_tpm) as after:
            restored = after.services.identity.keys
            assert await HonestNode(after, "alpha", host).is_admitted()
            log = await after.log()
            last = after.services.log.head.checkpoint

    assert restored.coordinator_id == identity.coordinator_id
    assert restored.log_key == identity.log_key
    assert restored.log_salt_key == identity.log_salt_key
    assert restored.release_key.public == identity.release_key.public
    assert restored.ca.certificate_pem == identity.ca.certificate_pem
    assert after.trust.identity_key == before.trust.identity_key
    assert after.trust.ca_certificate == before.trust.ca_certificate
    assert after.trust.ak_spki != before.trust.ak_spki, "it is another machine, and nodes are told"
    assert log[: len(events)] == events
    kinds = [event.kind for event in log]
    assert kinds[:3] == ["keys_sealed", "approval_installed", "start"]
    assert kinds[len(events) - 2 : len(events)] == ["keys_backed_up", "start"]
    assert kinds[len(events) : len(events) + 3] == ["keys_restored", "approval_installed", "start"]
    assert kinds[-1] == "admit"
    # The tiles were lost with the machine; made anew from the events, they are the same tree that has grown.
    entries = entries_of(log, restored.log_salt_key)
    assert merkle_tree(entries[: checkpoint.size])[0] == checkpoint.root
    assert (last.size, last.root) == (len(entries), merkle_tree(entries)[0])
    assert decode_entry(entries[len(events)]).public_values()["log_key"] == identity.log_key.hex()
