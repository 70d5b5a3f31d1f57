/* tccp_quote.h: attestation keys and the quotes that they sign.
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_QUOTE_H
#define TCCP_TCCP_QUOTE_H

#include "tccp_status.h"
#include "tccp_tpm_public.h"

/* [cffi */

/* ---- attestation keys (ak.c) -------------------------------------------------------------------------------- */

/* An attestation key, parsed and checked once: what verifying with it needs stands ready in it. Never written after
 * it was made, so that any number of threads may verify with it at once; freed when none does any more. */
typedef struct tccp_ak tccp_ak;

/* From a DER SubjectPublicKeyInfo: RSA 2048, 3072 or 4096 with exponent 65537, or ECC P-256 or P-384 by name and with an
 * uncompressed point, in the one encoding that tccp_tpm_public_parse gives too. Such a key has no name and no scheme of
 * its own, and nobody can tell whether it is restricted: the caller knows it from an enrolment. */
TCCP_MUST_USE tccp_status tccp_ak_from_spki(const uint8_t *spki, size_t spki_len, tccp_ak **ret_ak);

/* From a TPMT_PUBLIC or TPM2B_PUBLIC; refused unless tccp_tpm_public_check_ak finds it to be an attestation key.
 * Quotes by it are then accepted in its own scheme and hash only. */
TCCP_MUST_USE tccp_status tccp_ak_from_tpm_public(const uint8_t *public_area, size_t public_area_len, tccp_ak **ret_ak);

/* NULL is allowed. */
void tccp_ak_free(tccp_ak *ak);

typedef struct tccp_ak_info {
    uint16_t type;              /* TPM_ALG_RSA or TPM_ALG_ECC */
    uint16_t bits;              /* 2048, 3072, 4096; 256, 384 */
    uint16_t scheme;            /* RSASSA, RSAPSS, ECDSA; TPM_ALG_NULL: any */
    uint16_t scheme_hash;       /* 0 without a scheme */
    size_t spki_len;
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t name_len;            /* 0 for a key from a SubjectPublicKeyInfo */
    uint8_t name[TCCP_TPM_NAME_BYTES_MAX];
} tccp_ak_info;

TCCP_MUST_USE tccp_status tccp_ak_describe(const tccp_ak *ak, tccp_ak_info *ret_info);

/* ---- quotes (quote.c) --------------------------------------------------------------------------------------- */

#define TCCP_ATTEST_BYTES_MAX 1024
#define TCCP_SIGNATURE_BYTES_MAX 1024
#define TCCP_NONCE_BYTES_MIN 16
#define TCCP_NONCE_BYTES_MAX 64
#define TCCP_QUALIFIED_NAME_BYTES_MAX 66
#define TCCP_EXTRA_DATA_BYTES_MAX 66
#define TCCP_PCR_COUNT 24
#define TCCP_PCR_SELECTIONS_MAX 16

/* What a peer sent, and what we asked of it. */
typedef struct tccp_quote_claim {
    const uint8_t *attest;      /* TPMS_ATTEST: exactly the bytes that the TPM signed */
    size_t attest_len;
    const uint8_t *signature;   /* TPMT_SIGNATURE */
    size_t signature_len;
    const uint8_t *nonce;       /* what extraData must be: 16 to 64 bytes */
    size_t nonce_len;
    const uint8_t *pcrs;        /* claimed values, ascending by index, without gaps */
    size_t pcrs_len;
    uint32_t pcr_mask;          /* which PCRs we asked for: bit i for PCR i, not 16 and not 23 */
    uint16_t bank;              /* in which bank: TPM_ALG_ID of SHA-256, SHA-384 or SHA-512 */
} tccp_quote_claim;

/* What a quote says (TPM 2.0 Library, Part 2, 10.12.8 TPMS_ATTEST, 10.12.1 TPMS_QUOTE_INFO, 10.11.1 TPMS_CLOCK_INFO). */
typedef struct tccp_quote {
    uint64_t clock_ms;          /* time the TPM was powered, since its owner last cleared it */
    uint64_t firmware_version;  /* as the TPM's maker counts them */
    uint32_t reset_count;       /* TPM resets: boots */
    uint32_t restart_count;     /* TPM restarts and resumes: suspends, since the last reset */
    uint16_t safe;              /* 1: no larger clock_ms was ever reported; 0 after an unorderly shutdown */
    uint16_t scheme;            /* of the signature: RSASSA, RSAPSS, ECDSA */
    uint16_t hash;              /* of the signature and of the PCR digest */
    uint16_t selection_count;
    uint16_t selection_banks[TCCP_PCR_SELECTIONS_MAX];
    uint32_t selection_masks[TCCP_PCR_SELECTIONS_MAX];
    size_t qualified_signer_len;
    uint8_t qualified_signer[TCCP_QUALIFIED_NAME_BYTES_MAX];
    size_t extra_data_len;
    uint8_t extra_data[TCCP_EXTRA_DATA_BYTES_MAX];
    size_t pcr_digest_len;
    uint8_t pcr_digest[TCCP_DIGEST_BYTES_MAX];
} tccp_quote;

/* Verify that the TPM with this AK quoted exactly the claimed PCR values, in answer to our nonce.
 *
 *   1. the signature, over attest: RSASSA, RSAPSS or ECDSA with SHA-256, SHA-384 or SHA-512, in the AK's own scheme when
 *      it has one. No byte of attest is interpreted before.          TCCP_ERR_UNSUPPORTED, TCCP_ERR_SIGNATURE
 *   2. the structure: TPM_GENERATED, a quote, nothing left over       TCCP_ERR_NOT_A_QUOTE, TCCP_ERR_MALFORMED
 *   3. the nonce, in constant time                                    TCCP_ERR_NONCE_MISMATCH
 *   4. one selection, of exactly our bank and our PCRs                TCCP_ERR_SELECTION
 *   5. the digest over the claimed values, by the hash of the signature (Part 3, 18.4 TPM2_Quote)
 *                                                                     TCCP_ERR_PCR_DIGEST
 *
 * That the AK is one of a genuine TPM is the caller's knowledge. */
TCCP_MUST_USE tccp_status tccp_quote_verify(const tccp_ak *ak, const tccp_quote_claim *claim, tccp_quote *ret_quote);

/* The same, with the claim in arguments: what is quickest to call from Python. */
TCCP_MUST_USE tccp_status tccp_quote_verify_parts(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                                  const uint8_t *signature, size_t signature_len,
                                                  const uint8_t *nonce, size_t nonce_len, uint16_t bank,
                                                  uint32_t pcr_mask, const uint8_t *pcrs, size_t pcrs_len,
                                                  tccp_quote *ret_quote);

/* The same for n claims, each by the AK of its index. ret_statuses[i] is the verdict on claims[i], and ret_quotes[i] is
 * written when that is TCCP_OK. Where the CPU can, eight signatures by RSA or P-384 keys of one kind are checked at once. */
TCCP_MUST_USE tccp_status tccp_quote_verify_batch(const tccp_ak *const *aks, const tccp_quote_claim *claims, size_t n,
                                                  tccp_status *ret_statuses, tccp_quote *ret_quotes);

#define TCCP_BATCH_MAX 65536
#define TCCP_PACKED_NUMBERS 6

/* The same, with the claims packed: what is quickest to fill from Python.
 *   packed   for each claim: attest, signature, nonce and PCR values, one behind the other, packed_len bytes in all
 *   numbers  for each claim: those four lengths, pcr_mask, bank */
TCCP_MUST_USE tccp_status tccp_quote_verify_packed(const tccp_ak *const *aks, const uint8_t *packed, size_t packed_len,
                                                   const uint32_t *numbers, size_t n, tccp_status *ret_statuses,
                                                   tccp_quote *ret_quotes);

/* Steps 1 and 2 alone: what a signed quote says, whoever asked for whatever whenever. It proves no present state of any
 * machine, and is for tools that show quotes. */
TCCP_MUST_USE tccp_status tccp_quote_inspect(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                             const uint8_t *signature, size_t signature_len, tccp_quote *ret_quote);

/* Whether signatures are verified in eight lanes: on a CPU with AVX-512 IFMA. */
int tccp_lanes_available(void);

/* cffi] */

#endif /* TCCP_TCCP_QUOTE_H */
