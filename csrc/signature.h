/* signature.h: TPMT_SIGNATURE over a TPMS_ATTEST, in two halves so that lanes can take the second.
 *
 *     signature_prepare    parses the signature, and hashes what it is over
 *     signature_verify     the mathematics, one at a time; lanes.h does eight
 */
#ifndef TCCP_SIGNATURE_H
#define TCCP_SIGNATURE_H

#include <stdbool.h>

#include "ak.h"
#include "tccp.h"

typedef struct signature_check {
    const tccp_ak *ak;
    uint16_t scheme, hash;
    size_t digest_len;
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    const uint8_t *rsa;               /* RSA: ak->bytes bytes, in the TPMT_SIGNATURE; less than the modulus */
    uint8_t r[TCCP_ECC_BYTES_MAX];    /* ECDSA: ak->bytes bytes each; more than zero and less than the order */
    uint8_t s[TCCP_ECC_BYTES_MAX];
} signature_check;

/* Parse signature (TPM 2.0 Library, Part 2, 11.3.4 TPMT_SIGNATURE), check that its scheme is one for this key, and hash
 * attest. attest is not interpreted. ret_check points into signature. */
TCCP_MUST_USE tccp_status signature_prepare(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                            const uint8_t *signature, size_t signature_len, signature_check *ret_check);

/* TCCP_OK: the key made this signature over this digest. TCCP_ERR_SIGNATURE: it did not. */
TCCP_MUST_USE tccp_status signature_verify(const signature_check *check);

/* The same by libcrypto, even where lanes would be faster: they must always agree. */
TCCP_MUST_USE tccp_status signature_verify_libcrypto(const signature_check *check);

/* Is encoded, which RSA made of the signature, what the scheme makes of the digest? (RFC 8017, 8.1.2 and 8.2.2) */
bool signature_encoding_matches(const signature_check *check, const uint8_t *encoded);

/* The digest as ECDSA takes it: ak->bytes bytes, cut or padded at the left (FIPS 186-5, 6.4.2). */
void signature_ecdsa_digest(const signature_check *check, uint8_t ret_digest[TCCP_ECC_BYTES_MAX]);

#endif /* TCCP_SIGNATURE_H */
