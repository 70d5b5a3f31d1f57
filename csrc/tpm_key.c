/* tpm_key.c: keys of a TPM as libcrypto has them, and as a certificate writes them. */
#include "tpm_public.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

enum { RSA_EXPONENT = 65537 };

const EVP_MD *tpm_hash(uint16_t algorithm)
{
    switch (algorithm) {
    case TPM_ALG_SHA256: return EVP_sha256();
    case TPM_ALG_SHA384: return EVP_sha384();
    case TPM_ALG_SHA512: return EVP_sha512();
    default: return NULL;
    }
}

size_t tpm_curve_bytes(uint16_t curve)
{
    switch (curve) {
    case TPM_ECC_NIST_P256: return 32;
    case TPM_ECC_NIST_P384: return 48;
    default: return 0;
    }
}

/* ---- libcrypto keys ----------------------------------------------------------------------------------------- */

/* libcrypto's key of these parameters; TCCP_ERR_MALFORMED when libcrypto finds that they make none. */
static tccp_status key_from(const char *type, const OSSL_PARAM *params, EVP_PKEY **ret_key)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return TCCP_ERR_INTERNAL;
    }
    ERR_set_mark(); /* what is wrong with a peer's key is no error of this thread's next caller of libcrypto */
    int made = EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *) params);
    (void) ERR_pop_to_mark();
    EVP_PKEY_CTX_free(ctx);
    if (made != 1)
        return TCCP_ERR_MALFORMED;
    *ret_key = key;
    return TCCP_OK;
}

tccp_status tpm_rsa_key(const uint8_t *modulus, size_t modulus_len, EVP_PKEY **ret_key)
{
    /* OSSL_PARAM wants numbers in the byte order of the machine. */
    BIGNUM *n = BN_bin2bn(modulus, (int) modulus_len, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (n != NULL && builder != NULL && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_uint32(builder, OSSL_PKEY_PARAM_RSA_E, RSA_EXPONENT) == 1)
        params = OSSL_PARAM_BLD_to_param(builder);
    tccp_status status = params == NULL ? TCCP_ERR_NO_MEMORY : key_from("RSA", params, ret_key);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    return status;
}

tccp_status tpm_ecc_key(uint16_t curve, const uint8_t *x, const uint8_t *y, EVP_PKEY **ret_key)
{
    size_t size = tpm_curve_bytes(curve);
    if (size == 0)
        return TCCP_ERR_UNSUPPORTED;
    uint8_t point[1 + 2 * TCCP_ECC_BYTES_MAX] = {0x04}; /* uncompressed (SEC 1, 2.3.3) */
    memcpy(point + 1, x, size);
    memcpy(point + 1 + size, y, size);
    char *group = curve == TPM_ECC_NIST_P256 ? "P-256" : "P-384";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size),
        OSSL_PARAM_construct_end(),
    };
    return key_from("EC", params, ret_key);
}

tccp_status tpm_public_key(const tccp_tpm_public *public, EVP_PKEY **ret_key)
{
    if (public->type == TPM_ALG_RSA)
        return tpm_rsa_key(public->rsa_modulus, public->key_bits / 8u, ret_key);
    return tpm_ecc_key(public->curve, public->ecc_x, public->ecc_y, ret_key);
}

tccp_status tpm_key_spki(EVP_PKEY *key, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX], size_t *ret_len)
{
    int len = i2d_PUBKEY(key, NULL);
    if (len <= 0 || len > TCCP_SPKI_BYTES_MAX)
        return TCCP_ERR_INTERNAL;
    uint8_t *end = ret_spki;
    if (i2d_PUBKEY(key, &end) != len)
        return TCCP_ERR_INTERNAL;
    *ret_len = (size_t) len;
    return TCCP_OK;
}

/* ---- SubjectPublicKeyInfo ------------------------------------------------------------------------------------- */

/* Written by hand, since libcrypto's encoder takes more time than everything else that is done with a public area.
 * All lengths from 256 to 65,535 have this form. */
static uint8_t *put_der_header(uint8_t *at, uint8_t tag, size_t len)
{
    const uint8_t header[] = {tag, 0x82, (uint8_t) (len >> 8), (uint8_t) len};
    memcpy(at, header, sizeof(header));
    return at + sizeof(header);
}

static uint8_t *put(uint8_t *at, const uint8_t *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

size_t tpm_rsa_spki(const uint8_t *modulus, size_t modulus_len, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX])
{
    /* SEQUENCE { rsaEncryption, NULL }; INTEGER 65537 (RFC 8017, A.1.1) */
    static const uint8_t algorithm[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                        0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    static const uint8_t exponent[] = {0x02, 0x03, 0x01, 0x00, 0x01};
    static const uint8_t zero = 0; /* no unused bits; and before a modulus, whose top bit is set, a positive sign */
    size_t integer_len = 1 + modulus_len;
    size_t key_len = 4 + integer_len + sizeof(exponent);
    size_t bits_len = 1 + 4 + key_len;

    uint8_t *at = put_der_header(ret_spki, 0x30, sizeof(algorithm) + 4 + bits_len);
    at = put(at, algorithm, sizeof(algorithm));
    at = put(put_der_header(at, 0x03, bits_len), &zero, 1);
    at = put_der_header(at, 0x30, key_len);
    at = put(put_der_header(at, 0x02, integer_len), &zero, 1);
    at = put(at, modulus, modulus_len);
    at = put(at, exponent, sizeof(exponent));
    return (size_t) (at - ret_spki);
}

size_t tpm_ecc_spki(uint16_t curve, const uint8_t *x, const uint8_t *y, uint8_t ret_spki[TCCP_SPKI_BYTES_MAX])
{
    /* Everything before the coordinates of an uncompressed point (RFC 5480, 2; SEC 1, 2.3.3). */
    static const uint8_t p256[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                                   0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
    static const uint8_t p384[] = {0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
                                   0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04};
    size_t size = tpm_curve_bytes(curve);
    uint8_t *at = curve == TPM_ECC_NIST_P256 ? put(ret_spki, p256, sizeof(p256)) : put(ret_spki, p384, sizeof(p384));
    at = put(put(at, x, size), y, size);
    return (size_t) (at - ret_spki);
}
