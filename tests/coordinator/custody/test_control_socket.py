"""No request on the control socket reads a private key, whoever asks."""

import socket
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import trio

from tccp.coordinator.custody.key_set import KeySet
from tccp.image.keys import RecipientSecretKey
from tccp.protocol import control as c
from tccp.protocol.control_roles import CoordinatorRequest
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tests.fuzz.samples import sample
from tests.support.coordinator_keys import make_keys
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

REQUESTS = get_args(CoordinatorRequest)


@pytest.fixture
async def keys(coordinator_tpm: SoftTpm, tmp_path: Path) -> KeySet:
    made, _authority = await make_keys(tmp_path / "state", coordinator_tpm.tcti)
    return made


def secrets_of(keys: KeySet) -> list[bytes]:
    """Each private key but the door's, in each form in which it could leave: raw, in hexadecimal, a line of its PEM."""
    seeds = [keys.identity_seed, keys.log_seed, keys.log_salt_key, keys.release_seed]
    assert RecipientSecretKey.from_seed(keys.release_seed).public.raw
    return [*seeds, *(seed.hex().encode() for seed in seeds), keys.ca_key.splitlines()[1]]


def everything_said(path: Path, request: msgspec.Struct) -> bytes:
    said = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(path))
        connection.sendall(frame(encode(request), bytes_max=c.CONTROL_FRAME_BYTES_MAX))
        connection.shutdown(socket.SHUT_WR)  # no more requests: it answers, and hangs up
        while data := connection.recv(65_536):
            said += data
    return said


async def answers(coordinator: LiveCoordinator, kind: type[msgspec.Struct]) -> bytes:
    path = Path(coordinator.services.config.control.socket)
    return await trio.to_thread.run_sync(everything_said, path, sample(kind))


async def test_no_request_is_answered_with_a_private_key(
    keys: KeySet, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm) as coordinator:
        said = {kind.__name__: await answers(coordinator, kind) for kind in REQUESTS}
        # Who hangs up is told nothing more of what happens: the events themselves instead.
        assert [name for name, answer in said.items() if not answer] == ["WatchEvents"]
        said["WatchEvents"] = b"".join(event.body for event in await coordinator.log())

    assert not [name for name, answer in said.items() if any(secret in answer for secret in secrets_of(keys))]
    # The control: the one key that every node is given is found by the same means.
    assert [name for name, answer in said.items() if keys.door_key.splitlines()[1] in answer] == ["GetTrust"]
