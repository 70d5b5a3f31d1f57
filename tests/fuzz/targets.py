"""Fuzz targets for what Python parses of foreign bytes. Each takes any bytes; an exception out of it is a bug.

`make fuzz` feeds them with Atheris (tools/fuzz), `test_targets.py` a little in every test run. The parsers in C have
targets of their own in csrc/fuzz.
"""

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from nacl.signing import SigningKey

from tccp.attestation.policy import parse_policy
from tccp.errors import ConfigError, EvidenceError, ProtocolError
from tccp.model import PcrBank, PcrSelection, PcrValues, spki_sha256
from tccp.node.coordinator_check import check_coordinator
from tccp.protocol import control as c
from tccp.protocol.binding import Channel
from tccp.protocol.control_roles import Answer, CoordinatorRequest, NodeRequest
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FrameReader, frame
from tccp.protocol.messages import AnyMessage, CoordinatorEvidence
from tccp.protocol.statements import (
    COORDINATOR_DOMAIN,
    NODE_DOMAIN,
    CoordinatorStatement,
    IdentityStatement,
    decode_coordinator,
    decode_identity,
    encode_statement,
)
from tccp.protocol.tenant_messages import AnyTenantMessage
from tccp.transport.certificates import Authority, fresh_key, spki_of_key
from tccp.transport.trust import CoordinatorTrust, parse_trust, write_trust
from tests.fuzz import (
    custody_targets,
    http_targets,
    launch_targets,
    log_targets,
    policy_targets,
    tenant_targets,
    vm_targets,
    worker_targets,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Target:
    """What to feed, what to begin with, and whether that is msgpack, which can be changed by its structure.

    *feed* returns whether the bytes were accepted.
    """

    feed: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    is_msgpack: bool = False


# ---- values of every message, made from the schema


def _value(kind: Any) -> Any:
    """Some legal value of a type of msgspec's."""
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    value: Any
    match info:
        case msgspec.inspect.BytesType():
            value = b"\x5a" * (info.min_length or min(40, info.max_length or 40))
        case msgspec.inspect.StrType():
            value = "a" * max(info.min_length or 0, 5)
            if info.pattern == "^/":
                value = f"/{value}"
            elif info.pattern and info.pattern.endswith(":[0-9]{1,5}$"):
                value = f"{value}:1"
        case msgspec.inspect.LiteralType():
            value = info.values[0]
        case msgspec.inspect.IntType():
            value = max(info.ge or 0, 1)
        case msgspec.inspect.BoolType():
            value = True
        case msgspec.inspect.VarTupleType():
            value = tuple(_value(info.item_type) for _ in range(max(info.min_length or 0, 2)))
        case msgspec.inspect.DictType():
            value = {_value(info.key_type): _value(info.value_type)}
        case msgspec.inspect.UnionType():
            value = _value(info.types[0])
        case msgspec.inspect.StructType():
            value = info.cls(*(_value(field.type) for field in info.fields))
        case _:
            raise AssertionError(info)
    return value


def _all_of(union: Any) -> list[bytes]:
    return [encode(_value(kind)) for kind in get_args(union)]


# ---- frames and messages


def feed_frames(data: bytes) -> bool:
    """The same frames come out, or the same refusal, however the stream is cut."""
    whole = _frames([data])
    assert whole == _frames([data[i : i + 3] for i in range(0, len(data), 3)])
    return whole is not None


def _frames(parts: list[bytes]) -> list[bytes] | None:
    reader = FrameReader(bytes_max=4096)
    found: list[bytes] = []
    try:
        for part in parts:
            reader.receive_data(part)
            found += list(reader.frames())
    except ProtocolError:
        # The frames before the bad one may have come out or not: they arrived together with it.
        return None
    return found


def feed_messages(data: bytes) -> bool:
    """A message that is accepted is the same when it is said again."""
    return _accepted(data, AnyMessage)


def feed_tenant_messages(data: bytes) -> bool:
    """Likewise, between tenant and coordinator."""
    return _accepted(data, AnyTenantMessage)


def feed_control(data: bytes) -> bool:
    """Likewise, requests and answers of control sockets."""
    kinds = (CoordinatorRequest, NodeRequest, Answer)
    accepted = [_accepted(data, kind, items_max=c.CONTROL_ITEMS_MAX) for kind in kinds]
    return any(accepted)


def feed_statements(data: bytes) -> bool:
    """Likewise, statements; no statement is one of either kind."""
    kinds = 0
    for decoder in (decode_identity, decode_coordinator):
        try:
            statement = decoder(data)
        except ProtocolError:
            continue
        kinds += 1
        assert decoder(encode_statement(statement)) == statement
    assert kinds < 2
    return kinds == 1


def _accepted(data: bytes, kind: Any, **limits: int) -> bool:
    try:
        message = decode(data, kind, **limits)
    except ProtocolError:
        return False
    assert decode(encode(message), kind, **limits) == message
    return True


def _statements() -> list[bytes]:
    kinds = {IdentityStatement: NODE_DOMAIN, CoordinatorStatement: COORDINATOR_DOMAIN}
    return [encode(msgspec.structs.replace(_value(kind), domain=domain)) for kind, domain in kinds.items()]


# ---- what a node checks


@functools.cache
def _coordinator() -> tuple[CoordinatorTrust, Channel, SigningKey]:
    signing_key, spki = SigningKey(bytes(32)), spki_of_key(fresh_key())
    selection = PcrSelection(PcrBank.SHA256, (0, 4))
    trust = CoordinatorTrust(
        identity_key=bytes(signing_key.verify_key),
        ca_certificate=Authority.create("ca", now=NOW).certificate,
        ak_spki=spki,
        door=Authority.create("door", now=NOW),
        pcrs=PcrValues(selection, {0: bytes(32), 4: bytes(32)}),
    )
    return trust, Channel(trust.coordinator_id, spki_sha256(spki), bytes(32)), signing_key


def feed_coordinator_evidence(data: bytes) -> bool:
    """Evidence of whoever has stolen the identity key, but not the TPM: never believed."""
    trust, channel, signing_key = _coordinator()
    try:
        evidence = decode(data, CoordinatorEvidence)
    except ProtocolError:
        return False
    signature = signing_key.sign(evidence.statement).signature
    try:
        check_coordinator(
            msgspec.structs.replace(evidence, statement_signature=signature),
            trust=trust,
            node_nonce=bytes(32),
            channel=channel,
        )
    except EvidenceError:
        return False
    raise AssertionError("believed")


def _evidence() -> list[bytes]:
    plain: CoordinatorEvidence = _value(CoordinatorEvidence)
    whole = msgspec.structs.replace(
        plain, bank=11, pcr_indexes=(0, 4), pcrs=(bytes(32),) * 2, leaf_index=0, leaf_count=1, path=()
    )
    return [encode(whole), encode(msgspec.structs.replace(whole, bank=4, pcrs=(bytes(20),) * 2))]


# ---- what operators carry about


def feed_trust_file(data: bytes) -> bool:
    """A trust file that is accepted can be written and read again."""
    try:
        trust = parse_trust(data)
    except ConfigError:
        return False
    again = parse_trust(write_trust(trust))
    assert (again.identity_key, again.ak_spki, again.pcrs) == (trust.identity_key, trust.ak_spki, trust.pcrs)
    return True


def feed_policy(data: bytes) -> bool:
    """A policy or a refusal."""
    try:
        policy = parse_policy(data)
    except ConfigError:
        return False
    assert policy.allowed
    return True


def _policies() -> list[bytes]:
    values = f'["{"ab" * 32}", "{"cd" * 32}"]'
    return [
        f'name = "tvmm"\nversion = 3\ndescription = "x"\n[pcrs]\n0 = {values}\n7 = {values}\n'.encode(),
        f'name = "a"\nversion = 1\nbank = "sha384"\npcrs = {{ 0 = "{"00" * 48}" }}\n'.encode(),
    ]


TARGETS: dict[str, Target] = {
    "frames": Target(feed_frames, lambda: [frame(b"one") + frame(b"two"), frame(bytes(4096)), frame(b"x")[:3]]),
    "worker_frames": Target(worker_targets.feed_frames, worker_targets.frames),
    "worker_opened": Target(worker_targets.feed_opened, worker_targets.opened, is_msgpack=True),
    "messages": Target(feed_messages, lambda: _all_of(AnyMessage), is_msgpack=True),
    "tenant_messages": Target(feed_tenant_messages, lambda: _all_of(AnyTenantMessage), is_msgpack=True),
    "tenant_policy": Target(tenant_targets.feed_policy, tenant_targets.policies),
    "pinned": Target(tenant_targets.feed_pinned, tenant_targets.pinned),
    "control": Target(feed_control, lambda: _all_of(CoordinatorRequest | NodeRequest | Answer), is_msgpack=True),
    "statements": Target(feed_statements, _statements, is_msgpack=True),
    "coordinator_evidence": Target(feed_coordinator_evidence, _evidence, is_msgpack=True),
    "trust_file": Target(feed_trust_file, lambda: [write_trust(_coordinator()[0])]),
    "policy": Target(feed_policy, _policies),
    "ticket": Target(launch_targets.feed_ticket, launch_targets.tickets, is_msgpack=True),
    "ticket_file": Target(launch_targets.feed_ticket_file, launch_targets.ticket_files, is_msgpack=True),
    "launch_receipt": Target(launch_targets.feed_launch_receipt, launch_targets.launch_receipts, is_msgpack=True),
    "destruction": Target(launch_targets.feed_destruction, launch_targets.destructions, is_msgpack=True),
    "wiped": Target(launch_targets.feed_wiped, launch_targets.wiped, is_msgpack=True),
    "vm_file": Target(launch_targets.feed_vm_file, launch_targets.vm_files, is_msgpack=True),
    "keys_request": Target(custody_targets.feed_request, lambda: custody_targets.approvals()[0]),
    "keys_approval": Target(custody_targets.feed_approval, lambda: custody_targets.approvals()[1]),
    "sealed_keys": Target(custody_targets.feed_sealed_keys, custody_targets.sealed_files, is_msgpack=True),
    "key_share": Target(custody_targets.feed_share, custody_targets.share_files, is_msgpack=True),
    "key_share_statement": Target(
        custody_targets.feed_share_statement, custody_targets.share_statements, is_msgpack=True
    ),
    "key_share_text": Target(custody_targets.feed_share_text, custody_targets.share_texts),
    "keys_journal": Target(custody_targets.feed_journal, custody_targets.journals),
    "log_note": Target(log_targets.feed_note, log_targets.notes),
    "log_checkpoint": Target(log_targets.feed_checkpoint, log_targets.checkpoints),
    "log_tile": Target(log_targets.feed_tile, log_targets.tiles),
    "qmp_line": Target(vm_targets.feed_qmp_line, vm_targets.qmp_lines),
    "vtpm_claim": Target(vm_targets.feed_vtpm_claim, vm_targets.vtpm_claims),
    "state_preamble": Target(vm_targets.feed_state_preamble, vm_targets.state_preambles, is_msgpack=True),
    "transfer_word": Target(vm_targets.feed_transfer_word, vm_targets.transfer_words, is_msgpack=True),
    "remains": Target(vm_targets.feed_remains, vm_targets.remains, is_msgpack=True),
    "vtpm_certificate": Target(vm_targets.feed_vtpm_certificate, vm_targets.vtpm_certificates),
    "add_checkpoint": Target(log_targets.feed_add_checkpoint, log_targets.add_checkpoints),
    "log_entry": Target(log_targets.feed_entry, log_targets.entries, is_msgpack=True),
    "log_receipt": Target(log_targets.feed_receipt, log_targets.receipts, is_msgpack=True),
    "log_details": Target(log_targets.feed_details, log_targets.details, is_msgpack=True),
    "http_request": Target(http_targets.feed_request, http_targets.requests),
    "http_response": Target(http_targets.feed_response, http_targets.responses),
    "boot_policy": Target(policy_targets.feed_boot_policy, policy_targets.boot_policies),
    "signed_policy": Target(policy_targets.feed_signed_policy, policy_targets.signed_policies),
    "digest_list": Target(policy_targets.feed_digest_list, policy_targets.digest_lists),
    "keylime_policy": Target(policy_targets.feed_keylime_policy, policy_targets.keylime_policies),
    "image": Target(policy_targets.feed_image, policy_targets.images),
    "package": Target(policy_targets.feed_package, policy_targets.packages),
    "rpm": Target(policy_targets.feed_rpm, policy_targets.rpms),
}

if __name__ == "__main__":
    print(*TARGETS)  # noqa: T201 - for `make fuzz`
