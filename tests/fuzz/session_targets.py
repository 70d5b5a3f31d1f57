"""Fuzz targets for whole conversations: what one end says while the other answers as the table of the protocol says."""

from collections.abc import Callable
from typing import Any

import msgspec

from tccp.attestation.ek_id import ek_id_of
from tccp.attestation.enrolment import SECRET_BYTES, challenge_ak, pinned_ek
from tccp.errors import EnrolmentError, ProtocolError
from tccp.protocol.conversation import Conversation
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import Hello
from tccp.protocol.session import TRANSITIONS, Role, Session
from tccp.protocol.tenant_session import TENANT_TRANSITIONS, TenantRole, TenantSession
from tests.fuzz.samples import sample
from tests.fuzz.tpm_targets import AK_PUBLIC, EK_PUBLIC

AnyConversation = Conversation[Any, Any, Any]
TURNS_MAX = 64


def feed_session(data: bytes) -> bool:
    """What a node or a coordinator says, as the first byte has it."""
    return _feed(data, TRANSITIONS, [lambda role=role: Session(role) for role in Role])


def feed_tenant_session(data: bytes) -> bool:
    """What a tenant or a coordinator says to the other."""
    return _feed(data, TENANT_TRANSITIONS, [lambda role=role: TenantSession(role) for role in TenantRole])


def _feed(data: bytes, transitions: Any, ends: list[Callable[[], AnyConversation]]) -> bool:
    """However it is cut it is the same conversation, and who has broken the protocol is heard no more."""
    if not data:
        return False
    begin, body = ends[data[0] % len(ends)], data[1:]
    whole = _talk(begin(), transitions, [body])
    assert whole == _talk(begin(), transitions, [body[:7], body[7:40], body[40:]])
    return bool(whole)


def _talk(own: AnyConversation, transitions: Any, parts: list[bytes]) -> list[type] | None:
    """The kinds of messages that were accepted; None after a breach."""
    heard: list[type] = []
    _answer(own, transitions)
    for part in parts:
        own.receive_data(part)
        try:
            while (message := own.next_message()) is not None:
                assert decode(encode(message), type(message)) == message
                heard.append(type(message))
                _answer(own, transitions)
        except ProtocolError:
            assert own.is_over
            return None
    return heard


def _answer(own: AnyConversation, transitions: Any) -> None:
    """Say what is due, as long as the peer has nothing to say."""
    for _ in range(TURNS_MAX):
        legal = [(who, kind) for who, state, kind in transitions if state is own.state]
        if any(who is own.role.peer for who, _ in legal) or not legal:
            return
        own.send(sample(legal[0][1]))


def _conversation(transitions: Any, own: AnyConversation, number: int) -> bytes:
    """What the peer of *own* may say, each kind once where it is due, and what comes of it."""
    said, used = b"", set()
    for _ in range(TURNS_MAX):
        _answer(own, transitions)
        due = [
            kind for who, state, kind in transitions
            if who is own.role.peer and state is own.state and (state, kind) not in used
        ]  # fmt: skip
        due = [kind for kind in due if transitions[own.role.peer, own.state, kind] is not own._closed] or due
        if not due:
            break
        used.add((own.state, due[0]))
        part = frame(encode(sample(due[0])))
        own.receive_data(part)
        own.next_message()
        said += part
    return bytes([number]) + said


def sessions() -> list[bytes]:
    """Of both ends."""
    return [_conversation(TRANSITIONS, Session(role), number) for number, role in enumerate(Role)]


def tenant_sessions() -> list[bytes]:
    """Of both ends."""
    return [_conversation(TENANT_TRANSITIONS, TenantSession(role), number) for number, role in enumerate(TenantRole)]


# ---- whom a node shows to be


def feed_hello(data: bytes) -> bool:
    """Keys of a TPM that somebody has enrolled: challenged under the name that we compute, or refused."""
    try:
        hello = decode(data, Hello)
        ek = pinned_ek(hello.ek_public, pinned_sha256=ek_id_of(hello.ek_public))
        challenge = challenge_ak(hello.ak_public, ek=ek, secret=bytes(SECRET_BYTES))
    except (ProtocolError, EnrolmentError):
        return False
    assert challenge.ak_public in hello.ak_public
    assert challenge.ek.id == ek_id_of(hello.ek_public)
    assert challenge.ak_name != challenge.ek.name
    return True


def hellos() -> list[bytes]:
    """Of a TPM with keys of P-256."""
    plain: Hello = sample(Hello)
    return [encode(msgspec.structs.replace(plain, ek_public=EK_PUBLIC, ak_public=AK_PUBLIC))]
