"""Who may do what on a control socket is decided by the credentials that the kernel gives, and by nothing else."""

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.control.client import ControlClient
from tccp.control.server import CONNECTIONS_MAX, ControlGroups, Peer, serve_control
from tccp.control.sockets import control_listeners
from tccp.errors import ConfigError
from tccp.protocol import control as c
from tccp.protocol import shadow_control as s
from tccp.protocol import vm_control as v
from tccp.protocol.control_roles import ROLE_NEEDED, ControlRole, CoordinatorRequest, NodeRequest
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FRAME_BYTES_MAX, HEADER_BYTES, frame

# Being somebody else takes root; elsewhere the one user that there is owns the daemon, and may do everything.
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can connect as somebody else")

DEADLINE_S = 60.0
ADMINS, VIEWERS, STRANGERS = "adm", "games", "mail"  # groups that every Debian has
# One that everybody may run, wherever this one lives.
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
NOBODY = pwd.getpwnam("nobody").pw_uid
ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(bytes.fromhex(sys.argv[2]))
client.shutdown(socket.SHUT_WR)
answer = b""
while part := client.recv(65536):
    answer += part
print(answer.hex())
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="tccp-control-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def done(_request: msgspec.Struct, _peer: Peer) -> msgspec.Struct:
    return c.Done(count=7)


@pytest.fixture
async def control(public_folder: Path) -> AsyncIterator[Path]:
    """The socket of a daemon that runs as a user of its own and does whatever an authorised peer asks."""
    path = public_folder / "control.sock"
    groups = ControlGroups(admin=ADMINS, viewer=VIEWERS)
    async with control_listeners(path, None) as listeners, trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: serve_control(listeners, CoordinatorRequest | NodeRequest, done, own_uid=NOBODY + 1, groups=groups)
        )
        yield path
        nursery.cancel_scope.cancel()


async def ask_as(path: Path, group: str, request: msgspec.Struct | bytes) -> c.Done | c.Failure:
    """The answer to a process of the user nobody in *group*, who says a request, or just these bytes."""
    person = ["setpriv", f"--reuid={NOBODY}", f"--regid={grp.getgrnam(group).gr_gid}", "--clear-groups", "--"]
    asked = (request if isinstance(request, bytes) else frame(encode(request))).hex()
    with trio.fail_after(DEADLINE_S):
        finished = await trio.run_process(
            [*person, PYTHON, "-I", "-S", "-c", ASK, str(path), asked], capture_stdout=True
        )
    answer = bytes.fromhex(finished.stdout.decode())
    decoded: c.Done | c.Failure = decode(answer[HEADER_BYTES:], c.Done | c.Failure)
    return decoded


VM_ID = bytes(16)
VIEWER_REQUESTS = [
    c.GetStatus(),
    c.ListNodes(),
    c.ShowNode(name="x"),
    c.ExportNodes(),
    c.ListPolicies(),
    c.ShowPolicy(name="x", version=0),
    s.ListShadows(),
    s.ReportShadow(name="x"),
    v.ListTenants(),
    v.ListOwnedVms(),
    v.ListVms(),
    v.ShowVm(vm_id=VM_ID),
    v.GetLaunchReceipt(vm_id=VM_ID),
    v.GetDestructionReceipt(vm_id=VM_ID),
]
ADMIN_REQUESTS = [
    c.GetTrust(),
    c.EnrolNode(name="x", ek_certificate=b"", ek_public=b"1", policy="p", attributes={}),
    c.ImportNodes(record=c.PerimeterRecord(nodes=())),
    c.SetNodePolicy(name="x", policy="p"),
    c.SetNodeAttributes(name="x", said={}, taken_back=()),
    c.RevokeNode(name="x", reason=""),
    c.AddPolicy(body=b"x"),
    c.TryPolicy(body=b"x"),
    s.AddShadow(body=b"x"),
    s.PromoteShadow(name="x", sha256=bytes(32)),
    s.DropShadow(name="x"),
    v.AddTenant(name="x", key=bytes(32)),
    v.RemoveTenant(name="x"),
    v.LaunchVm(ticket=b"x", images=("/x",)),
    v.StopVm(vm_id=VM_ID, force=True),
    v.SuspendVm(vm_id=VM_ID),
    v.ResumeVm(ticket=b"x", state="/x", images=("/x",)),
    v.CancelVm(bytes(16)),
    v.SnapshotVm(bytes(16)),
    v.ReceiveVm(ticket=b"x", images=("/x",)),
    v.DestroyVm(vm_id=VM_ID),
]
WATCHES = {c.WatchEvents, v.WatchVms}


def name_of(request: msgspec.Struct) -> str:
    return type(request).__name__


def test_every_request_needs_a_role() -> None:
    tried = {type(request) for request in [*VIEWER_REQUESTS, *ADMIN_REQUESTS]}

    assert tried | WATCHES == set(ROLE_NEEDED)
    assert {kind for kind, role in ROLE_NEEDED.items() if role is ControlRole.ADMIN} == {
        type(request) for request in ADMIN_REQUESTS
    }


async def test_the_groups_decide(control: Path) -> None:
    for group, request, allowed in [
        (VIEWERS, VIEWER_REQUESTS[0], True),
        *((VIEWERS, request, False) for request in ADMIN_REQUESTS),
        (ADMINS, VIEWER_REQUESTS[0], True),
        *((ADMINS, request, True) for request in ADMIN_REQUESTS[:2]),
        (STRANGERS, VIEWER_REQUESTS[0], False),
        (STRANGERS, ADMIN_REQUESTS[0], False),
    ]:
        answer = await ask_as(control, group, request)
        assert isinstance(answer, c.Done) == allowed, (group, request)
        if isinstance(answer, c.Failure):
            assert (answer.kind, answer.reason) == ("permission", "not_permitted")


async def test_root_may_do_everything(control: Path) -> None:
    def ask() -> list[c.Done]:
        with ControlClient(control) as client:
            return [client.ask(request, c.Done) for request in [*VIEWER_REQUESTS, *ADMIN_REQUESTS]]

    assert len(await trio.to_thread.run_sync(ask)) == len(VIEWER_REQUESTS) + len(ADMIN_REQUESTS)


async def test_viewers_who_keep_all_connections_do_not_lock_administrators_out(control: Path) -> None:
    sit = "import socket, sys, time\nkept = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]\n"
    sit += "for one in kept: one.connect(sys.argv[1])\nprint('sitting', flush=True)\nsys.stdin.read()\n"
    person = ["setpriv", f"--reuid={NOBODY}", f"--regid={grp.getgrnam(VIEWERS).gr_gid}", "--clear-groups", "--"]
    command = [*person, PYTHON, "-I", "-S", "-c", sit, str(control), str(CONNECTIONS_MAX + 5)]
    async with trio.open_nursery() as nursery:
        viewer = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert viewer.stdout is not None
            assert await viewer.stdout.receive_some() == b"sitting\n"

            answer = await ask_as(control, ADMINS, c.RevokeNode(name="x", reason=""))
            assert isinstance(answer, c.Done)
        finally:
            viewer.kill()
            nursery.start_soon(viewer.wait)


async def test_what_a_viewer_asks_is_short_and_an_administrator_may_bring_a_whole_record(control: Path) -> None:
    """Else those who may only look could fill the memory of the daemon."""
    longer = FRAME_BYTES_MAX + 1
    begun = longer.to_bytes(HEADER_BYTES, "big")

    answer = await ask_as(control, VIEWERS, begun)
    assert isinstance(answer, c.Failure)
    assert answer.reason == "frame_size"

    async with await trio.open_unix_socket(str(control)) as administrator:
        with trio.fail_after(DEADLINE_S):
            await administrator.send_all(begun + b"\xc0" * longer)
            assert b"not_a_message" in await administrator.receive_some()


async def test_who_comes_when_all_places_are_taken_is_told_so_and_keeps_nothing(control: Path) -> None:
    async def answer_to(stream: trio.SocketStream) -> bytes:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(frame(encode(c.GetStatus())))
        return bytes(await stream.receive_some())

    async def another() -> bytes:
        async with await trio.open_unix_socket(str(control)) as stream:
            return await answer_to(stream)

    async with contextlib.AsyncExitStack() as kept:
        with trio.fail_after(DEADLINE_S):
            streams = [
                await kept.enter_async_context(await trio.open_unix_socket(str(control)))
                for _ in range(CONNECTIONS_MAX)
            ]
            for stream in streams:
                assert b"done" in await answer_to(stream)
            assert b"too_many_connections" in await another()

            await streams[0].aclose()
            while b"done" not in await another():
                await trio.lowlevel.checkpoint()


async def test_a_second_daemon_on_the_same_socket_is_told_so_and_the_first_keeps_it(control: Path) -> None:
    with pytest.raises(ConfigError, match="already_running"):
        async with control_listeners(control, None):
            pass

    assert isinstance(await ask_as(control, VIEWERS, c.GetStatus()), c.Done)


async def test_the_socket_of_a_daemon_that_was_killed_is_taken_over(public_folder: Path) -> None:
    path = public_folder / "control.sock"
    killed = "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nos._exit(0)\n"
    await trio.run_process([PYTHON, "-I", "-S", "-c", killed, str(path)])
    assert path.exists()

    async with control_listeners(path, None):
        assert path.exists()
    assert not path.exists()


async def test_a_file_in_the_place_of_the_socket_is_not_removed(public_folder: Path) -> None:
    path = public_folder / "control.sock"
    path.write_text("somebody's diary")

    with pytest.raises(ConfigError, match="control_socket"):
        async with control_listeners(path, None):
            pass
    assert path.read_text() == "somebody's diary"
