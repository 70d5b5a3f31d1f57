"""TPM2_MakeCredential in software; see ``tccp_credential_make`` in csrc/tccp_credential.h."""

from tccp.core._lib import check, ffi, lib
from tccp.errors import EnrolmentError

__all__ = ["SECRET_BYTES", "credential_make"]

SECRET_BYTES: int = lib.TCCP_SECRET_BYTES


def credential_make(ek_public: bytes, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Encrypt *secret* to the TPM with *ek_public* while the key *ak_name* is loaded in it.

    Returns:
        The contents of TPM2B_ID_OBJECT and of TPM2B_ENCRYPTED_SECRET, without their lengths.

    Raises:
        EnrolmentError: *ek_public* is no endorsement key: ``malformed``, ``unsupported``, ``key_attributes``.
    """
    credential = ffi.new("tccp_credential *")
    status = lib.tccp_credential_make(ek_public, len(ek_public), ak_name, len(ak_name), secret, len(secret), credential)
    check(status, EnrolmentError, "a credential for an endorsement key")
    return (
        bytes(credential.id_object[0 : credential.id_object_len]),
        bytes(credential.encrypted_secret[0 : credential.encrypted_secret_len]),
    )
