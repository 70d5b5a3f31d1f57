/* ak.h: what an AK handle keeps ready, for the files that verify with it. */
#ifndef TCCP_AK_H
#define TCCP_AK_H

#include <openssl/bn.h>
#include <openssl/evp.h>

#include "p256.h"
#include "tccp.h"

/* Digits of 52 bits, filled up to vectors of eight. */
enum { TCCP_RSA_DIGITS_MAX = ((8 * TCCP_RSA_BYTES_MAX + 2 + 51) / 52 + 7) / 8 * 8 };

struct tccp_ak {
    tccp_ak_info info;
    size_t bytes;                /* of the modulus, of a coordinate */

    BIGNUM *modulus;             /* RSA; the exponent is 65537 */
    BN_MONT_CTX *montgomery;
    uint8_t modulus_bytes[TCCP_RSA_BYTES_MAX];          /* most significant first */
    size_t digit_count;          /* for lanes_rsa.c: digits of 52 bits, least significant first, with two bits to spare;
                                  even */
    uint64_t modulus_digits[TCCP_RSA_DIGITS_MAX];
    uint64_t square_digits[TCCP_RSA_DIGITS_MAX];        /* R^2 modulo the modulus, R = 2^(52 * digit_count) */
    uint64_t inverse_digit;      /* -1 / modulus modulo 2^52 */

    EVP_PKEY_CTX *verifier;      /* ECC; initialized, and duplicated for each signature */
    const uint8_t *order;        /* of the curve, most significant byte first */
    p256_table *multiples;       /* P-256 where there are lanes, else NULL */
    uint64_t x_words[TCCP_ECC_BYTES_MAX / 8];           /* least significant first */
    uint64_t y_words[TCCP_ECC_BYTES_MAX / 8];
};

#endif /* TCCP_AK_H */
