"""The keys of one state directory, sealed to the TPM of this machine.

    keys/sealed         `sealed_file`: made once, replaced as a whole
    keys/approvals/     the states in which the TPM gives the wrapping key back, one file each
    keys/journal        `journal`

Nothing here decides who gets the keys: the TPM does. What is compared before is compared for the error message.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from nacl.signing import SigningKey

from tccp.coordinator.custody import approval as approvals
from tccp.coordinator.custody.approval import Request, SignedApproval, parse_approval, reference_of, write_approval
from tccp.coordinator.custody.authority import authority_id
from tccp.coordinator.custody.files import make_folder, unwritable, write_whole
from tccp.coordinator.custody.journal import write_down
from tccp.coordinator.custody.key_set import KeySet
from tccp.coordinator.custody.sealed_file import (
    SealedKeys,
    fresh_wrapping_key,
    open_sealed_keys,
    read_sealed_file,
    write_sealed_keys,
)
from tccp.core.memory import wipe
from tccp.durable import sync_folder
from tccp.errors import ConfigError
from tccp.model import PcrSelection, PcrValues
from tccp.store import EventKind
from tccp.tpm import Tpm
from tccp.tpm.policy import Approval, Approved, object_policy

KEYS = "keys"
SEALED = "sealed"
APPROVALS = "approvals"
APPROVALS_MAX = 64
REQUEST_HINT = (
    "If you know why they changed: `tccp coordinator keys request` writes what the authority has to approve, and "
    "`tccp coordinator keys install-approval` takes its answer."
)


@dataclass(frozen=True, slots=True)
class InstalledApproval:
    """An approval that was found beside the keys, verified."""

    path: Path
    approval: Approval


async def create_vault(
    tpm: Tpm,
    state: Path,
    keys: KeySet,
    authority: ec.EllipticCurvePublicKey,
    selection: PcrSelection,
    *,
    event: EventKind,
    now_ms: int,
) -> Request:
    """Seal *keys* to *tpm* in the *state* directory, all or nothing.

    Args:
        event: What to call it in the log: ``KEYS_SEALED`` for new keys, ``KEYS_RESTORED``.

    Returns:
        What *authority* has to approve before the TPM gives them back: the present values of *selection*.

    Raises:
        ConfigError: ``already_initialised``: there are keys; they are never overwritten.
        HostError: The directory cannot be written, or the TPM does not do it.
    """
    check_vacant(state)
    target = state / KEYS
    pcrs, generation = await tpm.read_pcrs(selection), await tpm.read_generation()
    content = await _seal(tpm, keys, authority)
    staged = state / f".{KEYS}.{os.getpid()}"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
        make_folder(staged)
        make_folder(staged / APPROVALS)
        write_whole(staged / SEALED, content)
        write_down(staged, event, now_ms, _facts_of(keys, authority, Approved(pcrs, generation)))
        staged.rename(target)
        sync_folder(state)
    except OSError as problem:
        raise unwritable(problem) from None
    return Request(keys.coordinator_id, authority_id(authority), Approved(pcrs, generation))


def check_vacant(state: Path) -> None:
    """Refuse a *state* directory that has keys.

    Raises:
        ConfigError: ``already_initialised``.
    """
    if (state / KEYS).exists():
        hint = "a coordinator's identity is made once; use another state_directory for another coordinator"
        raise ConfigError("already_initialised", f"{state / KEYS} exists", hint=hint)


def read_vault(state: Path) -> SealedKeys:
    """The sealed file in the *state* directory.

    Raises:
        ConfigError: There is none, it cannot be read, or others may read it.
    """
    folder = state / KEYS
    try:
        if folder.stat().st_mode & 0o077:
            raise ConfigError("keys_exposed", f"{folder}: others may enter it", hint=f"chmod 700 {folder}")
    except OSError:
        pass  # what is wrong with it, the file says better
    return read_sealed_file(folder / SEALED)


async def unseal_keys(tpm: Tpm, state: Path, sealed: SealedKeys) -> KeySet:
    """The keys in *sealed* of the *state* directory, if the TPM is in a state that an installed approval names.

    Raises:
        ConfigError: ``another_tpm``; ``not_approved``: no approval is there; ``approvals_ended``: those that are, are
            of an earlier generation; ``state_not_approved``: the detail says which PCRs differ.
        TpmError: The TPM refuses all the same, or fails.
    """
    await _check_own_tpm(tpm, sealed)
    installed, refused = installed_approvals(state, sealed)
    if not installed:
        detail = "; ".join(refused) or f"{state / KEYS / APPROVALS} is empty"
        raise ConfigError("not_approved", f"no approval lets the keys be used: {detail}", hint=REQUEST_HINT)
    generation = await tpm.read_generation()
    current = [found for found in installed if found.approval.approved.generation >= generation]
    if not current:
        detail = f"all {len(installed)} are of a generation before {generation}"
        raise ConfigError("approvals_ended", detail, hint=REQUEST_HINT)
    found = await _matching(tpm, current)
    wrapping_key = await tpm.unseal(sealed.blob, found.approval)
    try:
        return open_sealed_keys(sealed, wrapping_key)
    finally:
        wipe(wrapping_key)


def installed_approvals(state: Path, sealed: SealedKeys) -> tuple[list[InstalledApproval], list[str]]:
    """The approvals that hold for *sealed*, in order of their names; and of the others, what is wrong with them.

    Raises:
        ConfigError: ``keys_unreadable``.
    """
    installed, refused = [], []
    try:
        paths = sorted((state / KEYS / APPROVALS).glob("*.toml"))
        for path in paths[:APPROVALS_MAX]:
            with path.open("rb") as file:
                content = file.read(approvals.FILE_BYTES_MAX + 1)
            try:
                verified = parse_approval(content).verified(sealed.authority, sealed.coordinator_id)
                installed.append(InstalledApproval(path, verified))
            except ConfigError as problem:
                refused.append(f"{path.name}: {problem}")
    except OSError as problem:
        raise ConfigError("keys_unreadable", f"{problem.filename}: {problem.strerror}") from None
    return installed, refused


def install_approval(state: Path, sealed: SealedKeys, signed: SignedApproval, *, now_ms: int) -> Path:
    """Put an approval beside the keys, after its signature was verified.

    Raises:
        ConfigError: As `SignedApproval.verified`; ``too_many_approvals``.
        HostError: ``state_unwritable``.
    """
    signed.verified(sealed.authority, sealed.coordinator_id)
    content = write_approval(signed)
    folder = state / KEYS / APPROVALS
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"{sha256[:32]}.toml"
    if len(list(folder.glob("*.toml"))) >= APPROVALS_MAX and not path.exists():
        hint = "`tccp coordinator keys end-approvals` ends old ones and removes them."
        raise ConfigError("too_many_approvals", f"there are {APPROVALS_MAX}", hint=hint)
    # First what the log will say: no approval that it does not know of, even after a crash.
    approved = signed.request.approved
    facts: dict[str, str | int] = {
        "approval_sha256": sha256,
        "generation": approved.generation,
        "approved_policy": approved.policy.hex(),
    }
    write_down(state / KEYS, EventKind.APPROVAL_INSTALLED, now_ms, facts)
    write_whole(path, content)
    return path


async def change_authority(
    tpm: Tpm,
    state: Path,
    sealed: SealedKeys,
    authority: ec.EllipticCurvePublicKey,
    selection: PcrSelection,
    *,
    now_ms: int,
) -> Request:
    """Seal the keys anew, to be obeyed by another *authority*; approvals of the former one count no more.

    Copies of the old file obey the former authority, for which no counter is too high: this is for a key that was lost.

    Returns:
        What *authority* has to approve before the next start.

    Raises:
        ConfigError, TpmError: As `unseal_keys`; nothing was changed.
    """
    keys = await unseal_keys(tpm, state, sealed)
    approved = Approved(await tpm.read_pcrs(selection), await tpm.read_generation())
    content = await _seal(tpm, keys, authority)
    former, _refused = installed_approvals(state, sealed)
    write_down(state / KEYS, EventKind.KEYS_SEALED, now_ms, _facts_of(keys, authority, approved))
    write_whole(state / KEYS / SEALED, content)
    for found in former:
        found.path.unlink(missing_ok=True)
    return Request(keys.coordinator_id, authority_id(authority), approved)


async def request_approval(
    tpm: Tpm, sealed: SealedKeys, selection: PcrSelection, *, generations_ahead: int = 0
) -> Request:
    """What the authority has to approve so that the keys can be used in the TPM's present state.

    Raises:
        ConfigError: ``another_tpm``.
    """
    await _check_own_tpm(tpm, sealed)
    approved = Approved(await tpm.read_pcrs(selection), await tpm.read_generation() + generations_ahead)
    return Request(sealed.coordinator_id, authority_id(sealed.authority), approved)


async def end_approvals(tpm: Tpm, state: Path, sealed: SealedKeys, *, now_ms: int) -> list[Path]:
    """End every approval of the present generation and before, for good, wherever copies of it are.

    Returns:
        The files of those that ended; they are removed.

    Raises:
        ConfigError: ``would_lock_out``: no installed approval of the next generation is about the present state.
    """
    await _check_own_tpm(tpm, sealed)
    installed, _refused = installed_approvals(state, sealed)
    generation = await tpm.read_generation()
    later = [found for found in installed if found.approval.approved.generation > generation]
    hint = "First have one approved and install it: `tccp coordinator keys request --next-generation`."
    if not later:
        raise ConfigError("would_lock_out", f"no approval of generation {generation + 1} is installed", hint=hint)
    try:
        await _matching(tpm, later)
    except ConfigError as problem:
        raise ConfigError("would_lock_out", problem.detail, hint=hint) from None
    ended = [found.path for found in installed if found not in later]
    generation = await tpm.next_generation()
    write_down(state / KEYS, EventKind.APPROVALS_ENDED, now_ms, {"generation": generation, "ended": len(ended)})
    for path in ended:
        path.unlink(missing_ok=True)
    return ended


async def _seal(tpm: Tpm, keys: KeySet, authority: ec.EllipticCurvePublicKey) -> bytes:
    """The content of a sealed file."""
    wrapping_key = fresh_wrapping_key()
    try:
        blob = await tpm.seal(wrapping_key, object_policy(authority, reference_of(keys.coordinator_id)))
        return write_sealed_keys(keys, authority, blob, wrapping_key)
    finally:
        wipe(wrapping_key)


def _facts_of(keys: KeySet, authority: ec.EllipticCurvePublicKey, approved: Approved) -> dict[str, str | int]:
    """What the log says of keys that were sealed."""
    selection = approved.pcrs.selection
    return {
        "coordinator_id": keys.coordinator_id.hex(),
        "log_key": bytes(SigningKey(keys.log_seed).verify_key).hex(),
        "authority": authority_id(authority).hex(),
        "generation": approved.generation,
        "bank": selection.bank.hash_name,
        "pcrs": ",".join(str(index) for index in selection.indexes),
    }


async def _check_own_tpm(tpm: Tpm, sealed: SealedKeys) -> None:
    if await tpm.storage_name() != sealed.blob.storage_name:
        raise ConfigError(
            "another_tpm",
            "the keys are sealed to another TPM than this machine's",
            hint="On another machine they come back from the officers' shares: `tccp coordinator keys restore`.",
        )


async def _matching(tpm: Tpm, candidates: list[InstalledApproval]) -> InstalledApproval:
    """The first of *candidates* that is about the TPM's present state."""
    differences: list[list[str]] = []
    for found in candidates:
        approved = found.approval.approved.pcrs
        differing = _differing(await tpm.read_pcrs(approved.selection), approved)
        if not differing:
            return found
        differences.append(differing)
    nearest = min(differences, key=len)
    raise ConfigError("state_not_approved", "; ".join(nearest), hint=REQUEST_HINT)


def _differing(present: PcrValues, approved: PcrValues) -> list[str]:
    return [
        f"PCR {index} is {present.values[index].hex()}, approved is {approved.values[index].hex()}"
        for index in approved.selection.indexes
        if present.values[index] != approved.values[index]
    ]
