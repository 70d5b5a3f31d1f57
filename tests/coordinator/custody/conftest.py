"""A TPM, and keys that are sealed to it in ``state``."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tccp.coordinator.custody.approval import SignedApproval, approve
from tccp.coordinator.custody.key_set import KeySet
from tccp.coordinator.custody.sealed_file import SealedKeys
from tccp.coordinator.custody.vault import install_approval, read_vault, request_approval, unseal_keys
from tccp.tpm import Tpm, open_tpm
from tests.support.coordinator_keys import SELECTION, make_keys
from tests.support.soft_tpm import SoftTpm

NOW_MS = 1_800_000_000_000


@dataclass
class Custody:
    """What a coordinator's machine has, and its authority elsewhere."""

    tpm: Tpm
    state: Path
    keys: KeySet
    authority: ec.EllipticCurvePrivateKey

    @property
    def sealed(self) -> SealedKeys:
        return read_vault(self.state)

    async def open(self) -> KeySet:
        return await unseal_keys(self.tpm, self.state, self.sealed)

    async def approval(self, *, generations_ahead: int = 0) -> SignedApproval:
        """Of the present state."""
        request = await request_approval(self.tpm, self.sealed, SELECTION, generations_ahead=generations_ahead)
        return approve(request, self.authority)

    def install(self, signed: SignedApproval) -> Path:
        return install_approval(self.state, self.sealed, signed, now_ms=NOW_MS)

    @property
    def approvals(self) -> list[Path]:
        return sorted((self.state / "keys" / "approvals").iterdir())


@pytest.fixture
async def custody(soft_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[Custody]:
    keys, authority = await make_keys(tmp_path / "state", soft_tpm.tcti)
    async with open_tpm(soft_tpm.tcti) as tpm:
        yield Custody(tpm, tmp_path / "state", keys, authority)
