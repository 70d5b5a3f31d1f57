/* ak.c: attestation keys, parsed and checked once, for many quotes.
 *
 * A key comes in one of two forms, and both end in the same handle: its numbers are taken out, libcrypto makes a key
 * of them again, and the SubjectPublicKeyInfo of that is the key's identity. A form with more than one encoding would
 * let one key go by two names, so a SubjectPublicKeyInfo must be the very bytes that come out.
 */
#include "ak.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "digits.h"
#include "lanes.h"
#include "tpm_public.h"

/* SEC 2, 2.4.2 and 2.5.1: the orders of the curves. */
static const uint8_t p256_order[32] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};
static const uint8_t p384_order[48] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
};

/* ---- what verifying needs ----------------------------------------------------------------------------------- */

static void words_from_bytes(const uint8_t *bytes, size_t len, uint64_t *ret_words)
{
    for (size_t word = 0; word < len / 8; word++) {
        const uint8_t *at = bytes + len - 8 * (word + 1);
        ret_words[word] = 0;
        for (size_t i = 0; i < 8; i++)
            ret_words[word] = ret_words[word] << 8 | at[i];
    }
}

static bool prepare_digits(tccp_ak *ak, BN_CTX *ctx)
{
    uint8_t bytes[TCCP_RSA_BYTES_MAX];
    ak->digit_count = ((8 * ak->bytes + 2 + 51) / 52 + 1) / 2 * 2;
    digits_from_bytes(ak->modulus_bytes, ak->bytes, ak->modulus_digits, 1, ak->digit_count);

    BIGNUM *square = BN_new();
    bool made = square != NULL && BN_set_bit(square, (int) (2 * 52 * ak->digit_count)) &&
                BN_mod(square, square, ak->modulus, ctx) &&
                BN_bn2binpad(square, bytes, (int) ak->bytes) == (int) ak->bytes;
    BN_free(square);
    if (made)
        digits_from_bytes(bytes, ak->bytes, ak->square_digits, 1, ak->digit_count);

    /* Newton's iteration doubles the bits that are right: an odd number is its own inverse modulo 8. */
    uint64_t modulus = ak->modulus_digits[0], inverse = modulus;
    for (int i = 0; i < 5; i++)
        inverse *= 2 - modulus * inverse;
    ak->inverse_digit = (0 - inverse) & ((1ull << 52) - 1);
    return made;
}

static tccp_status prepare_rsa(tccp_ak *ak, const uint8_t *modulus)
{
    memcpy(ak->modulus_bytes, modulus, ak->bytes);
    BN_CTX *ctx = BN_CTX_new();
    ak->modulus = BN_bin2bn(modulus, (int) ak->bytes, NULL);
    ak->montgomery = BN_MONT_CTX_new();
    int made = ctx != NULL && ak->modulus != NULL && ak->montgomery != NULL &&
               BN_MONT_CTX_set(ak->montgomery, ak->modulus, ctx) && prepare_digits(ak, ctx);
    BN_CTX_free(ctx);
    return made ? TCCP_OK : TCCP_ERR_NO_MEMORY;
}

static tccp_status prepare_ecc(tccp_ak *ak, EVP_PKEY *key, const uint8_t *x, const uint8_t *y)
{
    ak->order = ak->bytes == sizeof p256_order ? p256_order : p384_order;
    words_from_bytes(x, ak->bytes, ak->x_words);
    words_from_bytes(y, ak->bytes, ak->y_words);
    ak->verifier = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (ak->verifier == NULL || EVP_PKEY_verify_init(ak->verifier) != 1)
        return TCCP_ERR_INTERNAL;
    if (ak->bytes != P256_BYTES || !tccp_lanes_available())
        return TCCP_OK;
    ak->multiples = p256_table_new(x, y);
    return ak->multiples != NULL ? TCCP_OK : TCCP_ERR_NO_MEMORY;
}

static tccp_status prepare(tccp_ak *ak, const tccp_tpm_public *public)
{
    EVP_PKEY *key = NULL;
    ak->bytes = public->key_bits / 8u;
    ak->info.type = public->type;
    ak->info.bits = public->key_bits;
    ak->info.scheme = public->scheme;
    ak->info.scheme_hash = public->scheme_hash;
    ak->info.name_len = public->name_len;
    memcpy(ak->info.name, public->name, public->name_len);

    tccp_status status = tpm_public_key(public, &key);
    if (status == TCCP_OK)
        status = tpm_key_spki(key, ak->info.spki, &ak->info.spki_len);
    if (status == TCCP_OK)
        status = public->type == TPM_ALG_RSA ? prepare_rsa(ak, public->rsa_modulus)
                                             : prepare_ecc(ak, key, public->ecc_x, public->ecc_y);
    EVP_PKEY_free(key);
    return status;
}

static tccp_status make(const tccp_tpm_public *public, tccp_ak **ret_ak)
{
    tccp_ak *ak = calloc(1, sizeof *ak);
    if (ak == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = prepare(ak, public);
    if (status != TCCP_OK) {
        tccp_ak_free(ak);
        return status;
    }
    *ret_ak = ak;
    return TCCP_OK;
}

/* ---- SubjectPublicKeyInfo ----------------------------------------------------------------------------------- */

static tccp_status rsa_numbers(EVP_PKEY *key, tccp_tpm_public *ret_public)
{
    BIGNUM *modulus = NULL;
    int bits = EVP_PKEY_get_bits(key);
    if (bits != 2048 && bits != 3072 && bits != 4096)
        return TCCP_ERR_UNSUPPORTED;
    int taken = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) && BN_is_odd(modulus) &&
                BN_bn2binpad(modulus, ret_public->rsa_modulus, bits / 8) == bits / 8;
    BN_free(modulus);
    ret_public->type = TPM_ALG_RSA;
    ret_public->key_bits = (uint16_t) bits;
    return taken ? TCCP_OK : TCCP_ERR_MALFORMED;
}

static tccp_status ecc_numbers(EVP_PKEY *key, tccp_tpm_public *ret_public)
{
    char group[32];
    BIGNUM *x = NULL, *y = NULL;
    if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, NULL) != 1)
        return TCCP_ERR_UNSUPPORTED;
    bool is_p256 = strcmp(group, "prime256v1") == 0;
    if (!is_p256 && strcmp(group, "secp384r1") != 0)
        return TCCP_ERR_UNSUPPORTED;
    int size = is_p256 ? 32 : 48;
    int taken = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) &&
                EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y) &&
                BN_bn2binpad(x, ret_public->ecc_x, size) == size && BN_bn2binpad(y, ret_public->ecc_y, size) == size;
    BN_free(x);
    BN_free(y);
    ret_public->type = TPM_ALG_ECC;
    ret_public->curve = is_p256 ? TPM_ECC_NIST_P256 : TPM_ECC_NIST_P384;
    ret_public->key_bits = (uint16_t) (8 * size);
    return taken ? TCCP_OK : TCCP_ERR_MALFORMED;
}

static tccp_status spki_numbers(const uint8_t *spki, size_t spki_len, tccp_tpm_public *ret_public)
{
    const uint8_t *end = spki;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &end, (long) spki_len);
    tccp_status status = TCCP_ERR_UNSUPPORTED;
    if (key == NULL)
        status = TCCP_ERR_MALFORMED;
    else if (EVP_PKEY_is_a(key, "RSA"))
        status = rsa_numbers(key, ret_public);
    else if (EVP_PKEY_is_a(key, "EC"))
        status = ecc_numbers(key, ret_public);
    EVP_PKEY_free(key);
    return status;
}

/* ---- the interface ------------------------------------------------------------------------------------------ */

tccp_status tccp_ak_from_spki(const uint8_t *spki, size_t spki_len, tccp_ak **ret_ak)
{
    if (spki == NULL || ret_ak == NULL)
        return TCCP_ERR_USAGE;
    if (spki_len > TCCP_SPKI_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    tccp_tpm_public public = {.scheme = TPM_ALG_NULL};
    ERR_set_mark(); /* what is wrong with a peer's key is no error of this thread's next caller of libcrypto */
    tccp_status status = spki_numbers(spki, spki_len, &public);
    (void) ERR_pop_to_mark();
    tccp_ak *ak = NULL;
    if (status == TCCP_OK)
        status = make(&public, &ak);
    if (status != TCCP_OK)
        return status;
    /* Bytes left over, another exponent, an explicit curve, a compressed point: none of them comes out again. */
    if (ak->info.spki_len != spki_len || memcmp(ak->info.spki, spki, spki_len) != 0) {
        tccp_ak_free(ak);
        return TCCP_ERR_MALFORMED;
    }
    *ret_ak = ak;
    return TCCP_OK;
}

tccp_status tccp_ak_from_tpm_public(const uint8_t *public_area, size_t public_area_len, tccp_ak **ret_ak)
{
    tccp_tpm_public public;
    if (public_area == NULL || ret_ak == NULL)
        return TCCP_ERR_USAGE;
    tccp_status status = tccp_tpm_public_parse(public_area, public_area_len, &public);
    if (status == TCCP_OK)
        status = tccp_tpm_public_check_ak(&public);
    return status == TCCP_OK ? make(&public, ret_ak) : status;
}

void tccp_ak_free(tccp_ak *ak)
{
    if (ak == NULL)
        return;
    BN_free(ak->modulus);
    BN_MONT_CTX_free(ak->montgomery);
    EVP_PKEY_CTX_free(ak->verifier);
    p256_table_free(ak->multiples);
    free(ak);
}

tccp_status tccp_ak_describe(const tccp_ak *ak, tccp_ak_info *ret_info)
{
    if (ak == NULL || ret_info == NULL)
        return TCCP_ERR_USAGE;
    *ret_info = ak->info;
    return TCCP_OK;
}
