"""Fuzz targets for what Python parses of foreign bytes. Each takes any bytes; an exception out of it is a bug.

`make fuzz` feeds them with Atheris (tools/fuzz), `test_targets.py` a little in every test run. The parsers in C have
targets of their own in csrc/fuzz.
"""

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    boot_targets,
    config_targets,
    custody_targets,
    enrolment_targets,
    http_targets,
    image_targets,
    launch_targets,
    log_targets,
    monitor_targets,
    policy_targets,
    session_targets,
    tenant_targets,
    tpm_targets,
    vm_targets,
    worker_targets,
)
from tests.fuzz.mutations import Mutate, mutate_msgpack, mutate_text
from tests.fuzz.samples import sample, samples

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Target:
    """What to feed, what to begin with, and how to change that by its structure, where it has one.

    Args:
        feed: Returns whether the bytes were accepted.
        real: More to begin with than every test run has time for: a pattern of files below tests/vectors.
        places: At how many places each seed is cut and changed in every test run.
    """

    feed: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate | None = None
    real: str = ""
    places: int = 200


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
    return [encode(msgspec.structs.replace(sample(kind), domain=domain)) for kind, domain in kinds.items()]


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
    plain: CoordinatorEvidence = sample(CoordinatorEvidence)
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
    "worker_opened": Target(worker_targets.feed_opened, worker_targets.opened, mutate_msgpack),
    "messages": Target(feed_messages, lambda: samples(AnyMessage), mutate_msgpack),
    "tenant_messages": Target(feed_tenant_messages, lambda: samples(AnyTenantMessage), mutate_msgpack),
    "tenant_policy": Target(tenant_targets.feed_policy, tenant_targets.policies, mutate_text),
    "pinned": Target(tenant_targets.feed_pinned, tenant_targets.pinned, mutate_text),
    "control": Target(feed_control, lambda: samples(CoordinatorRequest | NodeRequest | Answer), mutate_msgpack),
    "statements": Target(feed_statements, _statements, mutate_msgpack),
    "coordinator_evidence": Target(feed_coordinator_evidence, _evidence, mutate_msgpack),
    "trust_file": Target(feed_trust_file, lambda: [write_trust(_coordinator()[0])], mutate_text),
    "policy": Target(feed_policy, _policies, mutate_text),
    "ticket": Target(launch_targets.feed_ticket, launch_targets.tickets, mutate_msgpack),
    "ticket_file": Target(launch_targets.feed_ticket_file, launch_targets.ticket_files, mutate_msgpack),
    "launch_receipt": Target(launch_targets.feed_launch_receipt, launch_targets.launch_receipts, mutate_msgpack),
    "destruction": Target(launch_targets.feed_destruction, launch_targets.destructions, mutate_msgpack),
    "wiped": Target(launch_targets.feed_wiped, launch_targets.wiped, mutate_msgpack),
    "vm_file": Target(launch_targets.feed_vm_file, launch_targets.vm_files, mutate_msgpack),
    "keys_request": Target(custody_targets.feed_request, lambda: custody_targets.approvals()[0], mutate_text),
    "keys_approval": Target(custody_targets.feed_approval, lambda: custody_targets.approvals()[1], mutate_text),
    "sealed_keys": Target(custody_targets.feed_sealed_keys, custody_targets.sealed_files, mutate_msgpack),
    "key_share": Target(custody_targets.feed_share, custody_targets.share_files, mutate_msgpack),
    "key_share_statement": Target(
        custody_targets.feed_share_statement, custody_targets.share_statements, mutate_msgpack
    ),
    "key_share_text": Target(custody_targets.feed_share_text, custody_targets.share_texts),
    "keys_journal": Target(custody_targets.feed_journal, custody_targets.journals, mutate_text),
    "log_note": Target(log_targets.feed_note, log_targets.notes),
    "log_checkpoint": Target(log_targets.feed_checkpoint, log_targets.checkpoints),
    "log_tile": Target(log_targets.feed_tile, log_targets.tiles),
    "log_continued": Target(log_targets.feed_tiles, log_targets.continued),
    "qmp_line": Target(vm_targets.feed_qmp_line, vm_targets.qmp_lines, mutate_text),
    "vtpm_claim": Target(vm_targets.feed_vtpm_claim, vm_targets.vtpm_claims),
    "state_preamble": Target(vm_targets.feed_state_preamble, vm_targets.state_preambles, mutate_msgpack),
    "transfer_word": Target(vm_targets.feed_transfer_word, vm_targets.transfer_words, mutate_msgpack),
    "remains": Target(vm_targets.feed_remains, vm_targets.remains, mutate_msgpack),
    "vtpm_certificate": Target(vm_targets.feed_vtpm_certificate, vm_targets.vtpm_certificates),
    "add_checkpoint": Target(log_targets.feed_add_checkpoint, log_targets.add_checkpoints),
    "log_entry": Target(log_targets.feed_entry, log_targets.entries, mutate_msgpack),
    "log_receipt": Target(log_targets.feed_receipt, log_targets.receipts, mutate_msgpack),
    "log_details": Target(log_targets.feed_details, log_targets.details, mutate_msgpack),
    "http_request": Target(http_targets.feed_request, http_targets.requests),
    "http_response": Target(http_targets.feed_response, http_targets.responses),
    "boot_policy": Target(policy_targets.feed_boot_policy, policy_targets.boot_policies, mutate_text),
    "signed_policy": Target(policy_targets.feed_signed_policy, policy_targets.signed_policies),
    "digest_list": Target(policy_targets.feed_digest_list, policy_targets.digest_lists, mutate_text),
    "keylime_policy": Target(policy_targets.feed_keylime_policy, policy_targets.keylime_policies, mutate_text),
    "image": Target(policy_targets.feed_image, policy_targets.images),
    "kernel": Target(policy_targets.feed_kernel, policy_targets.kernels),
    "package": Target(policy_targets.feed_package, policy_targets.packages),
    "rpm": Target(policy_targets.feed_rpm, policy_targets.rpms, real="packages/*.rpm"),
    "event_data": Target(boot_targets.feed_event_data, boot_targets.event_datas),
    "boot_log": Target(boot_targets.feed_boot_log, boot_targets.boot_logs, places=80, real="eventlog/*/*"),
    "command_line": Target(boot_targets.feed_command_line, boot_targets.command_lines, mutate_text),
    "tpm_answers": Target(tpm_targets.feed_answers, tpm_targets.answers, places=30),
    "tpm_certificate": Target(tpm_targets.feed_certificate, tpm_targets.certificates, real="ek/**/*"),
    "revocations": Target(enrolment_targets.feed_revocations, enrolment_targets.revocations),
    "qmp_monitor": Target(monitor_targets.feed_monitor, monitor_targets.monitors, mutate_text, places=60),
    "disk_process": Target(monitor_targets.feed_disk_line, monitor_targets.disk_lines, mutate_text),
    "node_session": Target(session_targets.feed_session, session_targets.sessions, places=80),
    "tenant_session": Target(session_targets.feed_tenant_session, session_targets.tenant_sessions, places=80),
    "hello": Target(session_targets.feed_hello, session_targets.hellos, mutate_msgpack),
    "qcow2": Target(image_targets.feed_qcow2, image_targets.qcow2_headers),
    "nbd_server": Target(image_targets.feed_nbd_server, image_targets.nbd_servers, places=60),
    "config": Target(config_targets.feed_config, config_targets.configs, mutate_text),
    "load_config": Target(config_targets.feed_load_config, lambda: config_targets.configs()[:1], mutate_text),
    "key_file": Target(config_targets.feed_key_file, config_targets.key_files),
    "pcr_file": Target(config_targets.feed_pcr_file, config_targets.pcr_files, mutate_text),
    "record": Target(config_targets.feed_record, config_targets.records, mutate_text),
    "words": Target(config_targets.feed_words, config_targets.some_words, mutate_text),
}

if __name__ == "__main__":
    print(*TARGETS)  # noqa: T201 - for `make fuzz`
