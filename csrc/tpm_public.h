/* tpm_public.h: the public area of a TPM key as libcrypto's key, for the other files of the core.
 *
 * The structure itself, and how it is parsed, stand in tccp_tpm_public.h.
 */
#ifndef TCCP_TPM_PUBLIC_H
#define TCCP_TPM_PUBLIC_H

#include <openssl/evp.h>

#include "tccp.h"

/* TPM_ALG_ID (TCG Algorithm Registry, table 3). */
enum {
    TPM_ALG_RSA = 0x0001,
    TPM_ALG_AES = 0x0006,
    TPM_ALG_SHA256 = 0x000b,
    TPM_ALG_SHA384 = 0x000c,
    TPM_ALG_SHA512 = 0x000d,
    TPM_ALG_NULL = 0x0010,
    TPM_ALG_RSASSA = 0x0014,
    TPM_ALG_RSAPSS = 0x0016,
    TPM_ALG_OAEP = 0x0017,
    TPM_ALG_ECDSA = 0x0018,
    TPM_ALG_ECDH = 0x0019,
    TPM_ALG_ECC = 0x0023,
    TPM_ALG_CFB = 0x0043
};

/* TPM_ECC_CURVE (TCG Algorithm Registry, table 4). */
enum { TPM_ECC_NIST_P256 = 0x0003, TPM_ECC_NIST_P384 = 0x0004 };

/* The hash of a TPM_ALG_ID: SHA-256, SHA-384 or SHA-512; NULL for every other number. */
const EVP_MD *tpm_hash(uint16_t algorithm);

/* Bytes of a coordinate of a TPM_ECC_CURVE; 0 when it is none of ours. */
size_t tpm_curve_bytes(uint16_t curve);

/* The libcrypto key of an RSA modulus (big-endian, exponent 65537). The caller frees *ret_key. */
TCCP_MUST_USE tccp_status tpm_rsa_key(const uint8_t *modulus, size_t modulus_len, EVP_PKEY **ret_key);

/* The libcrypto key of a point, x and y padded to tpm_curve_bytes(curve). The caller frees *ret_key.
 * TCCP_ERR_MALFORMED: the point is not on the curve. */
TCCP_MUST_USE tccp_status tpm_ecc_key(uint16_t curve, const uint8_t *x, const uint8_t *y, EVP_PKEY **ret_key);

/* The libcrypto key of a parsed public area. The caller frees *ret_key. */
TCCP_MUST_USE tccp_status tpm_public_key(const tccp_tpm_public *public, EVP_PKEY **ret_key);

/* DER SubjectPublicKeyInfo of an RSA modulus of 2048, 3072 or 4096 bits (exponent 65537), or of a point on a curve of
 * ours; returns its length. Equal keys give equal bytes, the same as libcrypto's. */
size_t tpm_rsa_spki(const uint8_t *modulus, size_t modulus_len, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX]);
size_t tpm_ecc_spki(uint16_t curve, const uint8_t *x, const uint8_t *y, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX]);

/* DER SubjectPublicKeyInfo of a key that tpm_rsa_key or tpm_ecc_key made: equal keys give equal bytes. */
TCCP_MUST_USE tccp_status tpm_key_spki(EVP_PKEY *key, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX], size_t *ret_len);

#endif /* TCCP_TPM_PUBLIC_H */
