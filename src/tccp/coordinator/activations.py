"""Credential activations for tenants: what costs our TPM ten milliseconds each, and anybody may ask for.

Quotes answer many at once; an activation answers one. So they queue, few at a time, and after each the TPM is left to
the others for as long as it took: however many strangers ask, nodes and quotes have half of the TPM.
"""

import trio

from tccp.errors import HostError, TpmError
from tccp.tpm import Ak, Ek, Tpm

WAITING_MAX = 64


class Activations:
    """The coordinator's TPM as a tenant may use it.

    Args:
        ek: The endorsement key; stays loaded.
        ak: The attestation key that quotes are made with.
    """

    def __init__(self, tpm: Tpm, ek: Ek, ak: Ak) -> None:
        self.ek, self.ak = ek, ak
        self._tpm = tpm
        self._turn = trio.Lock()
        self._waiting = 0

    async def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """The secret in a credential that was made for our EK and AK.

        Raises:
            TpmError: ``tpm_rc_...``: it was made for other keys.
            HostError: ``overloaded``: too many wait.
        """
        if self._waiting >= WAITING_MAX:
            raise HostError("overloaded", "too many tenants wait for the TPM")
        self._waiting += 1
        try:
            async with self._turn:
                began = trio.current_time()
                try:
                    return await self._tpm.activate_credential(self.ak, self.ek, id_object, encrypted_secret)
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(trio.current_time() - began)
        finally:
            self._waiting -= 1


def is_of_the_credential(problem: TpmError) -> bool:
    """Whether the TPM works, and the credential is none for it."""
    return problem.reason.startswith("tpm_rc_")
