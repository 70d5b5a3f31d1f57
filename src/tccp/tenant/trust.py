"""Pinning a coordinator, and looking again: the two things a tenant does with one before anything else.

What was seen is remembered, durably, before it is told: the next look must prove that the log continues it.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tccp.attestation.enrolment import CERTIFICATE_SUFFIXES, REVOCATION_SUFFIXES, EkAuthorities
from tccp.errors import ConfigError, HostError, PolicyError, QuoteError, TccpError
from tccp.tenant.connection import TenantConnection
from tccp.tenant.policy import TenantPolicy
from tccp.tenant.trust_store import FORMAT, PinnedCoordinator, TrustStore
from tccp.tenant.verification import Expectation, VerifiedIntroduction
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transparency.tile import Tile
from tccp.transparency.witness import verify_advance
from tccp.transport.certificates import pem_of, spki_of_pem

CERTIFICATE_BYTES_MAX = 1 << 20
PORT_DIGITS_MAX = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a coordinator has found.

    Attributes:
        former: What was pinned of it before, None at the first look.
    """

    pinned: PinnedCoordinator
    verified: VerifiedIntroduction
    former: PinnedCoordinator | None

    @property
    def before(self) -> Checkpoint | None:
        """The head that was seen last, None at the first look."""
        return self.former.head if self.former is not None else None


def add_trust(
    store: TrustStore,
    name: str,
    address: str,
    policy: TenantPolicy,
    *,
    accept_first_identity: bool = False,
    keep_event_log: Path | None = None,
) -> Look:
    """Verify the coordinator at *address* by *policy*, and pin it as *name*.

    One that is pinned already gets the new policy and address if it has the same identity, and must prove that its log
    continues what was seen.

    Args:
        accept_first_identity: Pin whatever identity the coordinator with this TPM and these PCRs shows, where the
            policy names none.
        keep_event_log: Where the event log goes that the coordinator shows, be it believed or not: it says what was
            booted when that is refused.

    Raises:
        EvidenceError: It does not prove what the policy demands.
        ConfigError: ``identity_unknown``: the policy names none, and the first is not to be accepted; ``name_taken``.
        HostError, ProtocolError, RefusedError: As their names say.
    """
    with store.locked(name):
        known = store.find(name)
        identity_key = policy.identity_key
        if known is not None:
            if identity_key is not None and identity_key.hex() != known.identity:
                hint = f"Another coordinator is pinned as {name}: choose another name, or `tccp trust remove {name}`."
                raise ConfigError("name_taken", f"{name} is {known.identity}", hint=hint)
            identity_key = bytes.fromhex(known.identity)
        elif identity_key is None and not accept_first_identity:
            hint = "Get the identity from the coordinator's operator, or say --accept-first-identity."
            raise ConfigError("identity_unknown", "the policy names no identity", hint=hint)
        expected = Expectation(policy, identity_key, policy.ak_spki, _authorities(policy))
        host, port = split_address(address)
        with TenantConnection.open(host, port) as connection:
            try:
                verified = connection.verify(expected)
            except TccpError:
                with contextlib.suppress(HostError):  # why it is refused is what must be told
                    _keep_event_log(connection, keep_event_log)
                raise
            _keep_event_log(connection, keep_event_log)
            if known is not None:
                # A policy that trusts a maker would take any TPM of his; the pinned one stays unless it names another.
                _check_keys(known, verified, ak=policy.ak_spki is None and policy.ek_sha256 is None)
            head = advance(connection, known.head if known else None, verified)
        now_s = int(time.time())
        pinned = PinnedCoordinator(
            format=FORMAT,
            name=name,
            address=address,
            identity=verified.statement.identity_key.hex(),
            ca=pem_of(verified.ca_certificate).decode("ascii"),
            ak=verified.ak_spki.hex(),
            log_key=verified.statement.log_key.hex(),
            release_key=verified.statement.release_key.hex(),
            log_url=verified.log_url,
            software=verified.statement.software,
            policy=policy.body.decode("utf-8"),
            seen=head.note.encode().decode("utf-8"),
            added_s=known.added_s if known else now_s,
            checked_s=now_s,
        )
        store.save(pinned)
        return Look(pinned, verified, known)


def _keep_event_log(connection: TenantConnection, path: Path | None) -> None:
    if path is not None and connection.shown is not None:
        try:
            path.write_bytes(connection.shown.event_log)
        except OSError as problem:
            raise HostError("file_unwritable", f"{path}: {problem.strerror}") from None


def check_trust(store: TrustStore, name: str | None) -> Look:
    """Have a pinned coordinator prove itself again, by the pinned policy, and that its log continues what was seen.

    Raises:
        EvidenceError: It does not; LogError (``rollback``, ``fork``, ``inconsistent``) is what a coordinator that
            shows two histories is caught by. What was seen before stays pinned.
        ConfigError: ``not_pinned``, ``which_one``.
        HostError, ProtocolError, RefusedError: As their names say.
    """
    name = store.load(name).name
    with store.locked(name):
        known = store.load(name)
        with TenantConnection.open(known.host, known.port, ca_certificate=known.ca.encode()) as connection:
            verified = verify_pinned(connection, known)
            head = advance(connection, known.head, verified)
        pinned = msgspec.structs.replace(
            known,
            software=verified.statement.software,
            log_url=verified.log_url,
            seen=head.note.encode().decode("utf-8"),
            checked_s=int(time.time()),
        )
        store.save(pinned)
        return Look(pinned, verified, known)


def verify_pinned(connection: TenantConnection, known: PinnedCoordinator) -> VerifiedIntroduction:
    """Have the other end prove that it is *known*, as it was pinned.

    Raises:
        EvidenceError: It does not.
    """
    expected = Expectation(known.demands, bytes.fromhex(known.identity), bytes.fromhex(known.ak), None)
    verified = connection.verify(expected)
    _check_keys(known, verified, ak=True)
    return verified


def _check_keys(known: PinnedCoordinator, verified: VerifiedIntroduction, *, ak: bool) -> None:
    """The long-lived keys are those that were pinned, whoever vouches for others."""
    statement = verified.statement
    pairs = [
        ("authority", statement.ca_spki, spki_of_pem(known.ca.encode())),
        ("log key", statement.log_key, bytes.fromhex(known.log_key)),
        ("release key", statement.release_key, known.release_key_raw),
    ]
    if ak:
        pairs.append(("attestation key", verified.ak_spki, bytes.fromhex(known.ak)))
    for what, shown, pinned in pairs:
        if shown != pinned:
            hint = "Ask its operator. If it was made anew on purpose, `tccp trust remove` it and add it again."
            raise QuoteError("coordinator_keys", f"its {what} is another than the one that was pinned", hint=hint)


def advance(
    connection: TenantConnection, before: Checkpoint | None, verified: VerifiedIntroduction
) -> VerifiedCheckpoint:
    """The newest head, once it is proved to continue both what was seen before and what the witnesses saw."""
    for old in (verified.witnessed.checkpoint, before):
        if old is not None:
            continue_log(connection.read_tile, old, verified.newest)
    return verified.newest


def continue_log(read_tile: Callable[[Tile], bytes], before: Checkpoint, newest: VerifiedCheckpoint) -> None:
    """Have it proved that *newest* continues *before*.

    Args:
        read_tile: Gives hashes of the log's tree, from anybody.

    Raises:
        LogError: ``rollback``, ``fork``, ``inconsistent``.
    """
    size = newest.checkpoint.size
    # Where there is nothing to prove, who verifies finds out: a smaller tree, another one of the same size.
    proof = prove_consistency(TileHashes(read_tile, size), before.size) if 0 < before.size < size else []
    verify_advance(before, newest, proof)


def split_address(address: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[ADDRESS]:PORT``.

    Raises:
        ConfigError: ``bad_address``.
    """
    host, colon, port = address.rpartition(":")
    is_number = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS_MAX
    if not colon or not host or not is_number or not 1 <= int(port) <= 65_535:
        raise ConfigError("bad_address", f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _authorities(policy: TenantPolicy) -> EkAuthorities | None:
    folder = policy.ek_authorities
    return load_ek_authorities(folder) if folder is not None else None


def load_ek_authorities(folder: Path) -> EkAuthorities:
    """The authorities of TPMs in *folder*: certificates, PEM or DER, each trusted by itself, and CRLs beside them.

    Raises:
        HostError: It cannot be read.
        EvidenceError: Something in it is no certificate.
        PolicyError: ``untrusted``: nothing is in it.
    """
    try:
        paths = sorted(folder.iterdir())
        files, lists = (
            [path.read_bytes()[:CERTIFICATE_BYTES_MAX] for path in paths if path.suffix.lower() in suffixes]
            for suffixes in (CERTIFICATE_SUFFIXES, REVOCATION_SUFFIXES)
        )
    except OSError as problem:
        raise HostError("folder_unreadable", f"{folder}: {problem.strerror}") from None
    if not files:
        raise PolicyError("untrusted", f"{folder}: no certificates in it, so no TPM is trusted")
    return EkAuthorities(files, (), lists)
