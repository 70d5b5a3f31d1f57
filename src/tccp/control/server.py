"""The daemon's end of the control socket: who asks (peer credentials), may he, and the answer.

The daemon gives an *answer* function; everything about sockets, roles and failures is here.
"""

import contextlib
import grp
import pwd
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import trio

from tccp.bugs import contained
from tccp.errors import ConfigError, HostError, ProtocolError, TccpError
from tccp.protocol.control import CONTROL_FRAME_BYTES_MAX, CONTROL_ITEMS_MAX, Done, Failure
from tccp.protocol.control_roles import ROLE_NEEDED, ControlRole
from tccp.protocol.encoding import ITEMS_MAX, decode, encode
from tccp.protocol.framing import FRAME_BYTES_MAX, FrameReader, frame

CONNECTIONS_MAX = 64
IDLE_S = 300.0
LINGER_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int
    role: ControlRole

    @property
    def user(self) -> str:
        """The user's name, or the number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """The groups whose members get a role; root and the daemon's own user are administrators."""

    admin: str = "tccp-admin"
    viewer: str = "tccp-viewer"


AnswerFunction = Callable[[Any, Peer], Awaitable["msgspec.Struct | AsyncIterator[msgspec.Struct]"]]


async def serve_control(
    listeners: list[trio.SocketListener],
    request_kind: Any,
    answer: AnswerFunction,
    *,
    own_uid: int,
    groups: ControlGroups,
) -> None:
    """Serve the control socket until cancelled. *answer* may return one message or an async iterator of them."""
    # Each role has places of its own: viewers who sit on theirs lock no administrator out. Nobody waits for a place:
    # whoever waits keeps a descriptor, of which nodes and tenants need some, too.
    taken = Counter[ControlRole]()

    async def serve(stream: trio.SocketStream) -> None:
        peer = peer_of(stream.socket, own_uid=own_uid, groups=groups)
        taken[peer.role] += 1
        async with stream:
            try:
                if taken[peer.role] > CONNECTIONS_MAX:
                    await _send(stream, _too_many(peer))
                elif peer.role is ControlRole.NONE:
                    await _send_last(stream, _not_permitted(peer, "connect", ControlRole.VIEWER))
                else:
                    await _serve_peer(stream, peer, request_kind, answer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                log.debug("control_peer_left", user=peer.user)
            finally:
                taken[peer.role] -= 1

    await trio.serve_listeners(serve, listeners)


def peer_of(sock: Any, *, own_uid: int, groups: ControlGroups) -> Peer:
    """The credentials of the process that connected, and the role that they give."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", packed)
    return Peer(pid=pid, uid=uid, gid=gid, role=_role_of(uid, gid, own_uid=own_uid, groups=groups))


def _role_of(uid: int, gid: int, *, own_uid: int, groups: ControlGroups) -> ControlRole:
    if uid in (0, own_uid):
        return ControlRole.ADMIN
    for group, role in ((groups.admin, ControlRole.ADMIN), (groups.viewer, ControlRole.VIEWER)):
        if _is_member(uid, gid, group):
            return role
    return ControlRole.NONE


def _is_member(uid: int, gid: int, group_name: str) -> bool:
    try:
        group = grp.getgrnam(group_name)
        return gid == group.gr_gid or pwd.getpwuid(uid).pw_name in group.gr_mem
    except KeyError:
        return False


async def _serve_peer(stream: trio.SocketStream, peer: Peer, request_kind: Any, answer: AnswerFunction) -> None:
    # What a viewer asks is short; so 64 of them cannot fill the memory of a daemon on which all depend.
    is_admin = peer.role is ControlRole.ADMIN
    frames = FrameReader(bytes_max=CONTROL_FRAME_BYTES_MAX if is_admin else FRAME_BYTES_MAX)
    items_max = CONTROL_ITEMS_MAX if is_admin else ITEMS_MAX
    while True:
        with trio.move_on_after(IDLE_S) as idle:
            data = await stream.receive_some(65_536)
        if idle.cancelled_caught or not data:
            return
        frames.receive_data(data)
        try:
            for payload in frames.frames():
                await _answer_one(stream, peer, decode(payload, request_kind, items_max=items_max), answer)
        except ProtocolError as problem:
            await _send_last(stream, failure_of(problem))
            return


async def _send_last(stream: trio.SocketStream, message: msgspec.Struct) -> None:
    """Say this and no more, and wait a moment for the peer to hear it: closing on unread bytes would take it back."""
    with trio.move_on_after(LINGER_S):
        await _send(stream, message)
        await stream.send_eof()
        while await stream.receive_some(65_536):
            pass


async def _answer_one(stream: trio.SocketStream, peer: Peer, request: Any, answer: AnswerFunction) -> None:
    needed = ROLE_NEEDED[type(request)]
    if peer.role < needed:
        await _send(stream, _not_permitted(peer, type(request).__name__, needed))
        return
    failure: Failure | None = Failure(kind="host", reason="bug", detail="", hint="the daemon's log has its trace")
    user, kind = peer.user, type(request).__name__
    left = trio.BrokenResourceError, trio.ClosedResourceError
    with contained("control_bug", foreseen=left, user=user, request=kind):
        try:
            result = await answer(request, peer)
            if isinstance(result, AsyncIterator):
                await _send_stream(stream, result)
            else:
                await _send(stream, result)
            failure = None
        except TccpError as problem:
            log.info("control_failed", user=user, request=kind, reason=problem.reason)
            failure = failure_of(problem)
    if failure is not None:
        await _send(stream, failure)


async def _send_stream(stream: trio.SocketStream, items: AsyncIterator[msgspec.Struct]) -> None:
    """Send *items* as they come, then how many there were: without that, the peer would take our end for theirs.

    It stops when the peer leaves, even while nothing comes: its place is for others.

    Raises:
        TccpError: From *items*.
    """
    problem: TccpError | None = None
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(items, AsyncGenerator):
            # Whatever it holds is given back now, not when the garbage collector comes by.
            await stack.enter_async_context(contextlib.aclosing(items))
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_cancel_when_peer_leaves, stream, nursery.cancel_scope)
        try:
            count = 0
            async for item in items:
                await _send(stream, item)
                count += 1
            await _send(stream, Done(count=count))
            await stream.send_eof()
        except trio.BrokenResourceError:
            log.debug("control_peer_left")
        except TccpError as caught:
            problem = caught
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


async def _cancel_when_peer_leaves(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """A peer has nothing to say while it listens; what it says all the same is not read."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some(65_536):
            pass
    scope.cancel()


def _not_permitted(peer: Peer, what: str, needed: ControlRole) -> Failure:
    log.warning("control_forbidden", user=peer.user, request=what)
    role = needed.name.lower()
    hint = f"this needs the {role} role: root, the daemon's own user, or its {role} group"
    return Failure(kind="permission", reason="not_permitted", detail=f"user {peer.user} may not {what}", hint=hint)


def _too_many(peer: Peer) -> Failure:
    log.warning("control_too_many", user=peer.user)
    detail = f"{CONNECTIONS_MAX} connections of the {peer.role.name.lower()} role are open"
    return Failure(kind="host", reason="too_many_connections", detail=detail, hint="close some of them, and try again")


def failure_of(problem: TccpError) -> Failure:
    """How a foreseen problem is told to the peer."""
    kind = "refused"
    if isinstance(problem, ConfigError):
        kind = "config"
    elif isinstance(problem, HostError):
        kind = "host"
    elif isinstance(problem, ProtocolError):
        kind = "usage"
    return Failure(kind=kind, reason=problem.reason, detail=problem.detail[:4096], hint=problem.hint[:4096])


async def _send(stream: trio.SocketStream, message: msgspec.Struct) -> None:
    body = encode(message)
    if len(body) > CONTROL_FRAME_BYTES_MAX:
        raise HostError("answer_too_long", f"{len(body)} bytes, {CONTROL_FRAME_BYTES_MAX} are allowed")
    await stream.send_all(frame(body, bytes_max=CONTROL_FRAME_BYTES_MAX))
