/* tccp_credential.h: TPM2_MakeCredential in software (credential.c).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_CREDENTIAL_H
#define TCCP_TCCP_CREDENTIAL_H

#include "tccp_status.h"

/* [cffi */

#define TCCP_SECRET_BYTES 32
#define TCCP_ID_OBJECT_BYTES_MAX 100
#define TCCP_ENCRYPTED_SECRET_BYTES_MAX 512

/* What TPM2_ActivateCredential takes: the contents of its two TPM2B, without their lengths. */
typedef struct tccp_credential {
    size_t id_object_len; /* of TPM2B_ID_OBJECT */
    uint8_t id_object[TCCP_ID_OBJECT_BYTES_MAX];
    size_t encrypted_secret_len; /* of TPM2B_ENCRYPTED_SECRET */
    uint8_t encrypted_secret[TCCP_ENCRYPTED_SECRET_BYTES_MAX];
} tccp_credential;

/* Encrypt a secret so that only the TPM that holds the EK can read it, and only while the object with this name is
 * loaded in it: TPM2_MakeCredential, done in software.
 *   ek_public  TPMT_PUBLIC of the EK; TCCP_ERR_KEY_ATTRIBUTES when it is none
 *   ak_name    the name of the AK, computed by tccp_tpm_public_parse
 *   secret     TCCP_SECRET_BYTES
 * The seed and the ephemeral key are made here by libcrypto's generator, new in each call, and wiped.
 * Source: TPM 2.0 Library, Part 1, 24 (credential protection), B.10.4 (RSA), C.6.3 (ECC). */
TCCP_MUST_USE tccp_status tccp_credential_make(const uint8_t *ek_public, size_t ek_public_len, const uint8_t *ak_name,
                                               size_t ak_name_len, const uint8_t *secret, size_t secret_len,
                                               tccp_credential *ret_credential);

/* cffi] */

#endif /* TCCP_TCCP_CREDENTIAL_H */
