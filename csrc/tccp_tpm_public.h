/* tccp_tpm_public.h: public areas of TPM keys (tpm_public.c).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_TPM_PUBLIC_H
#define TCCP_TCCP_TPM_PUBLIC_H

#include "tccp_status.h"

/* [cffi */

#define TCCP_RSA_BYTES_MAX 512
#define TCCP_ECC_BYTES_MAX 48
#define TCCP_DIGEST_BYTES_MAX 64
#define TCCP_TPM_NAME_BYTES_MAX 66
#define TCCP_SPKI_BYTES_MAX 600

/* TPMA_OBJECT (TPM 2.0 Library, Part 2, 8.3): the attributes that make a role. */
#define TCCP_TPM_FIXED_TPM 0x00000002
#define TCCP_TPM_FIXED_PARENT 0x00000010
#define TCCP_TPM_SENSITIVE_DATA_ORIGIN 0x00000020
#define TCCP_TPM_RESTRICTED 0x00010000
#define TCCP_TPM_DECRYPT 0x00020000
#define TCCP_TPM_SIGN 0x00040000

/* A parsed TPMT_PUBLIC. Numbers are TPM_ALG_ID and TPM_ECC_CURVE of the TCG Algorithm Registry. */
typedef struct tccp_tpm_public {
    uint16_t type;              /* TPM_ALG_RSA or TPM_ALG_ECC */
    uint16_t name_alg;          /* SHA-256, SHA-384 or SHA-512 */
    uint32_t attributes;        /* TPMA_OBJECT; no reserved bit is set */
    uint16_t symmetric_bits;    /* AES-CFB with so many bits; 0 for none */
    uint16_t scheme;            /* RSASSA, RSAPSS, OAEP, ECDSA, ECDH or TPM_ALG_NULL */
    uint16_t scheme_hash;       /* SHA-256, SHA-384 or SHA-512; 0 without a scheme */
    uint16_t key_bits;          /* RSA: 2048, 3072, 4096; ECC: 256, 384 */
    uint16_t curve;             /* NIST P-256 or P-384; 0 for RSA */
    size_t auth_policy_len;     /* 0, or the size of a digest of name_alg */
    uint8_t auth_policy[TCCP_DIGEST_BYTES_MAX];
    uint8_t rsa_modulus[TCCP_RSA_BYTES_MAX];   /* key_bits / 8 bytes, big-endian; the exponent is 65537 */
    uint8_t ecc_x[TCCP_ECC_BYTES_MAX];          /* key_bits / 8 bytes, padded */
    uint8_t ecc_y[TCCP_ECC_BYTES_MAX];
    size_t name_len;            /* name: name_alg || digest of the TPMT_PUBLIC, computed here */
    uint8_t name[TCCP_TPM_NAME_BYTES_MAX];
    size_t spki_len;            /* DER SubjectPublicKeyInfo; equal keys give equal bytes */
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t area_offset;         /* where the TPMT_PUBLIC began: 0, or 2 inside a TPM2B_PUBLIC */
} tccp_tpm_public;

/* Parse a TPMT_PUBLIC, or the TPM2B_PUBLIC around it; nothing may follow.
 * RSA 2048, 3072, 4096 with exponent 65537; ECC NIST P-256 and P-384, the point on its curve.
 * Other algorithms, SHA-1 among them, are TCCP_ERR_UNSUPPORTED, and so are RSA keys of the "ROCA" family.
 * Source: TPM 2.0 Library, Part 2, 12.2.4 (TPMT_PUBLIC); Part 1, 16 (names). */
TCCP_MUST_USE tccp_status tccp_tpm_public_parse(const uint8_t *public_area, size_t public_area_len,
                                                tccp_tpm_public *ret_public);

/* Is this what an attestation key must be: made inside its TPM, never to leave it, and signing nothing but what the
 * TPM itself made (fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, not decrypt, a signing scheme)?
 * TCCP_OK or TCCP_ERR_KEY_ATTRIBUTES. It says nothing about which TPM: that is what activation proves. */
TCCP_MUST_USE tccp_status tccp_tpm_public_check_ak(const tccp_tpm_public *public_area);

/* Is this what an endorsement key must be: the same, but restricted to decryption, with AES and no scheme? */
TCCP_MUST_USE tccp_status tccp_tpm_public_check_ek(const tccp_tpm_public *public_area);

/* cffi] */

#endif /* TCCP_TCCP_TPM_PUBLIC_H */
