"""A witness is made, named and run by `tccp`; the daemon is the real one."""

import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tccp.cli.witness import _give_to_the_owner_of
from tccp.transparency.note import SignatureType, parse_note_key
from tests.cli.running import TCCP, tccp
from tests.support.perimeter import wait_until
from tests.support.reserved import free_port


def test_a_witness_is_made_once_and_runs(tmp_path: Path) -> None:
    config = tmp_path / "witness.toml"
    port = free_port()
    config.write_text(
        f'name = "witness.example.net/w1"\nstate_directory = "{tmp_path}/state"\n[listen]\nport = {port}\n'
    )

    assert tccp("witness", "init", "--config", config, "--name", "another", "--json").code == 2
    made = tccp("witness", "init", "--config", config, "--json").document
    key = parse_note_key(made["key"])
    assert (key.name, key.type) == ("witness.example.net/w1", SignatureType.COSIGNATURE)
    assert tccp("witness", "key", "--config", config).out == f"{key}\n"
    again = tccp("witness", "init", "--config", config, "--json")
    assert (again.code, again.document["error"]) == (4, "already_initialised")

    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen([TCCP, "witness", "serve", "--config", str(config)], stdout=output, stderr=output) as daemon,
    ):
        wait_until(lambda: daemon.poll() is not None or b"ready" in log.read_bytes(), "it is ready", log=log)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    assert str(key) in log.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_link_in_the_folder_of_a_witness_gives_it_no_file_of_somebody_else(tmp_path: Path) -> None:
    precious, state, nobody = tmp_path / "precious", tmp_path / "state", pwd.getpwnam("nobody").pw_uid
    precious.write_bytes(b"of root")
    state.mkdir()
    (state / "link").symlink_to(precious)
    (state / "file").write_bytes(b"made by root")
    os.chown(state, nobody, -1)

    _give_to_the_owner_of(state)

    assert [path.lstat().st_uid for path in (precious, state / "file", state / "link")] == [0, nobody, nobody]
    os.chown(state / "link", nobody, -1)  # as whoever follows links does
    assert precious.stat().st_uid == nobody


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_folder_of_a_witness_that_becomes_a_link_meanwhile_gives_it_no_file_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious, state, nobody = tmp_path / "precious", tmp_path / "state", pwd.getpwnam("nobody").pw_uid
    for folder in (precious, state / "logs"):
        folder.mkdir(parents=True)
        (folder / "shadow").write_bytes(b"")
    os.chown(state, nobody, -1)
    chown = os.chown

    def chown_late(name: str | Path, *args: int, **kwargs: Any) -> None:
        if Path(name).name == "shadow":  # somebody was faster
            (state / "logs").rename(state / "former")
            (state / "logs").symlink_to(precious)
        chown(name, *args, **kwargs)

    monkeypatch.setattr(os, "chown", chown_late)

    _give_to_the_owner_of(state)

    assert (precious / "shadow").stat().st_uid == 0
    assert (state / "former" / "shadow").stat().st_uid == nobody
    chown(state / "logs" / "shadow", nobody, -1, follow_symlinks=False)  # as whoever goes by names does
    assert (precious / "shadow").stat().st_uid == nobody


def test_a_witness_without_a_name_is_not_made(tmp_path: Path) -> None:
    made = tccp("witness", "init", "--config", tmp_path / "new.toml", "--json")

    assert (made.code, made.document["error"]) == (2, "usage")
    assert not (tmp_path / "new.toml").exists()


def test_a_witness_that_was_not_made_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "witness.toml").write_text(f'name = "w"\nstate_directory = "{tmp_path}/state"\n')

    ended = tccp("witness", "serve", "--config", tmp_path / "witness.toml")
    assert ended.code == 4
    assert "tccp witness init" in ended.err
