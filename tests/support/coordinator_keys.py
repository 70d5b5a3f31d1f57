"""Keys as `tccp coordinator init` makes them: sealed to a software TPM, whose present state is approved."""

import datetime as dt
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tccp.coordinator.custody.approval import approve
from tccp.coordinator.custody.authority import make_authority
from tccp.coordinator.custody.key_set import KeySet, fresh_key_set
from tccp.coordinator.custody.vault import create_vault, install_approval, read_vault
from tccp.model import PcrBank, PcrSelection
from tccp.store import EventKind
from tccp.tpm import open_tpm

# Those of a configuration that does not say otherwise.
SELECTION = PcrSelection(PcrBank.SHA256, (0, 2, 4, 7))


async def make_keys(
    state: Path,
    tcti: str,
    *,
    keys: KeySet | None = None,
    authority: ec.EllipticCurvePrivateKey | None = None,
    event: EventKind = EventKind.KEYS_SEALED,
) -> tuple[KeySet, ec.EllipticCurvePrivateKey]:
    """Seal *keys*, or fresh ones, in the *state* directory to the TPM at *tcti*; returns them, and who approves."""
    keys = keys or fresh_key_set(now=dt.datetime.now(tz=dt.UTC))
    authority = authority or make_authority()
    now_ms = time.time_ns() // 1_000_000
    async with open_tpm(tcti) as tpm:
        public = authority.public_key()
        request = await create_vault(tpm, state, keys, public, SELECTION, event=event, now_ms=now_ms)
    install_approval(state, read_vault(state), approve(request, authority), now_ms=now_ms)
    return keys, authority
