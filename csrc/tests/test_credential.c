/* test_credential.c: sizes and contract of credentials; that a TPM opens them is tested with a TPM, from Python. */
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>

#include "check.h"
#include "tpm_public.h"

typedef struct area {
    uint8_t bytes[1024];
    size_t len;
} area;

static void put(area *out, uint32_t value, size_t width)
{
    for (size_t i = width; i > 0; i--)
        out->bytes[out->len++] = (uint8_t) (value >> (8 * (i - 1)));
}

static void put_number(area *out, const EVP_PKEY *key, const char *which, size_t size)
{
    BIGNUM *number = NULL;
    CHECK(EVP_PKEY_get_bn_param(key, which, &number) == 1);
    put(out, (uint32_t) size, 2);
    CHECK(BN_bn2binpad(number, out->bytes + out->len, (int) size) == (int) size);
    out->len += size;
    BN_free(number);
}

static const uint32_t EK_ATTRIBUTES = 0x000300b2;

static area ek_area(EVP_PKEY *key, uint16_t name_alg, uint16_t aes_bits, uint32_t attributes)
{
    area out = {.len = 0};
    int rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    uint32_t bits = (uint32_t) EVP_PKEY_get_bits(key);
    put(&out, rsa ? TPM_ALG_RSA : TPM_ALG_ECC, 2);
    put(&out, name_alg, 2);
    put(&out, attributes, 4);
    put(&out, 0, 2);
    put(&out, TPM_ALG_AES, 2);
    put(&out, aes_bits, 2);
    put(&out, TPM_ALG_CFB, 2);
    put(&out, TPM_ALG_NULL, 2);
    if (rsa) {
        put(&out, bits, 2);
        put(&out, 0, 4);
        put_number(&out, key, OSSL_PKEY_PARAM_RSA_N, bits / 8);
    } else {
        put(&out, bits == 256 ? TPM_ECC_NIST_P256 : TPM_ECC_NIST_P384, 2);
        put(&out, TPM_ALG_NULL, 2);
        put_number(&out, key, OSSL_PKEY_PARAM_EC_PUB_X, bits / 8);
        put_number(&out, key, OSSL_PKEY_PARAM_EC_PUB_Y, bits / 8);
    }
    return out;
}

static const uint8_t SECRET[TCCP_SECRET_BYTES] = {1, 2, 3};
static const uint8_t NAME[TCCP_TPM_NAME_BYTES_MAX] = {0, TPM_ALG_SHA512};

static tccp_status make(const area *ek, size_t name_len, size_t secret_len, tccp_credential *ret)
{
    return tccp_credential_make(ek->bytes, ek->len, NAME, name_len, SECRET, secret_len, ret);
}

static void test_every_kind_of_ek_gets_a_credential_of_its_size(EVP_PKEY *key, size_t encrypted_secret_len)
{
    const uint16_t name_algs[] = {TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512};
    const uint16_t aes_bits[] = {128, 192, 256};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            area ek = ek_area(key, name_algs[i], aes_bits[j], EK_ATTRIBUTES);
            tccp_credential first, second;
            CHECK(make(&ek, sizeof(NAME), sizeof(SECRET), &first) == TCCP_OK);
            CHECK(make(&ek, sizeof(NAME), sizeof(SECRET), &second) == TCCP_OK);
            size_t digest_len = (size_t) EVP_MD_get_size(tpm_hash(name_algs[i]));
            CHECK(first.id_object_len == 2 + digest_len + 2 + sizeof(SECRET));
            CHECK(first.encrypted_secret_len == encrypted_secret_len);
            CHECK(memcmp(first.id_object, second.id_object, first.id_object_len) != 0);
            CHECK(memcmp(first.encrypted_secret, second.encrypted_secret, encrypted_secret_len) != 0);
        }
}

static void test_nothing_is_made_for_what_is_no_ek(EVP_PKEY *key)
{
    tccp_credential credential, untouched;
    memset(&credential, 0xaa, sizeof(credential));
    untouched = credential;
    area ek = ek_area(key, TPM_ALG_SHA256, 128, EK_ATTRIBUTES);
    area no_ek = ek_area(key, TPM_ALG_SHA256, 128, EK_ATTRIBUTES ^ TCCP_TPM_RESTRICTED);
    CHECK(make(&no_ek, 34, sizeof(SECRET), &credential) == TCCP_ERR_KEY_ATTRIBUTES);
    no_ek = ek_area(key, 0x0004, 128, EK_ATTRIBUTES);
    CHECK(make(&no_ek, 34, sizeof(SECRET), &credential) == TCCP_ERR_UNSUPPORTED);
    no_ek.len = 3;
    CHECK(make(&no_ek, 34, sizeof(SECRET), &credential) == TCCP_ERR_MALFORMED);

    CHECK(make(&ek, 0, sizeof(SECRET), &credential) == TCCP_ERR_USAGE);
    CHECK(make(&ek, sizeof(NAME) + 1, sizeof(SECRET), &credential) == TCCP_ERR_USAGE);
    CHECK(make(&ek, 34, sizeof(SECRET) - 1, &credential) == TCCP_ERR_USAGE);
    CHECK(make(&ek, 34, sizeof(SECRET), NULL) == TCCP_ERR_USAGE);
    CHECK(memcmp(&credential, &untouched, sizeof(credential)) == 0);
}

int main(void)
{
    EVP_PKEY *p256 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    EVP_PKEY *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    EVP_PKEY *rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
    test_every_kind_of_ek_gets_a_credential_of_its_size(p256, 2 * (2 + 32));
    test_every_kind_of_ek_gets_a_credential_of_its_size(p384, 2 * (2 + 48));
    test_every_kind_of_ek_gets_a_credential_of_its_size(rsa, 256);
    test_nothing_is_made_for_what_is_no_ek(p256);
    EVP_PKEY_free(p256);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(rsa);
    return failures == 0 ? 0 : 1;
}
