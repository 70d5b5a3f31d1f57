/* test_tpm_public.c: public areas built field by field, each field then made wrong. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "p256_generator.h"
#include "tpm_public.h"

enum { AK_ATTRIBUTES = 0x00050072, EK_ATTRIBUTES = 0x000300b2 };

typedef struct area {
    uint8_t bytes[1024];
    size_t len;
} area;

static void put(area *out, uint32_t value, size_t width)
{
    for (size_t i = width; i > 0; i--)
        out->bytes[out->len++] = (uint8_t) (value >> (8 * (i - 1)));
}

static void put_2b(area *out, const uint8_t *bytes, size_t len)
{
    put(out, (uint32_t) len, 2);
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

/* What a test may make wrong; 0 means: as it should be. */
typedef struct flaw {
    uint32_t name_alg, attributes, curve, bits, exponent, scheme_hash, policy_len;
    bool off_curve, even_modulus, small_modulus;
} flaw;

#define OR(value, otherwise) ((value) != 0 ? (value) : (uint32_t) (otherwise))

static area ecc_ak(flaw wrong)
{
    area out = {.len = 0};
    uint8_t policy[64] = {0};
    uint8_t y[32];
    memcpy(y, GENERATOR_Y, sizeof(y));
    y[31] ^= wrong.off_curve;
    put(&out, TPM_ALG_ECC, 2);
    put(&out, OR(wrong.name_alg, TPM_ALG_SHA256), 2);
    put(&out, OR(wrong.attributes, AK_ATTRIBUTES), 4);
    put_2b(&out, policy, wrong.policy_len);
    put(&out, TPM_ALG_NULL, 2);
    put(&out, TPM_ALG_ECDSA, 2);
    put(&out, OR(wrong.scheme_hash, TPM_ALG_SHA256), 2);
    put(&out, OR(wrong.curve, TPM_ECC_NIST_P256), 2);
    put(&out, TPM_ALG_NULL, 2);
    put_2b(&out, GENERATOR_X, 32);
    put_2b(&out, y, 32);
    return out;
}

static area rsa_ek(flaw wrong)
{
    area out = {.len = 0};
    uint8_t modulus[256] = {0x80};
    modulus[255] = !wrong.even_modulus;
    if (wrong.small_modulus)
        modulus[0] = 0x7f;
    put(&out, TPM_ALG_RSA, 2);
    put(&out, OR(wrong.name_alg, TPM_ALG_SHA256), 2);
    put(&out, OR(wrong.attributes, EK_ATTRIBUTES), 4);
    put(&out, 0, 2);
    put(&out, TPM_ALG_AES, 2);
    put(&out, 128, 2);
    put(&out, TPM_ALG_CFB, 2);
    put(&out, TPM_ALG_NULL, 2);
    put(&out, OR(wrong.bits, 2048), 2);
    put(&out, wrong.exponent, 4);
    put_2b(&out, modulus, sizeof(modulus));
    return out;
}

static tccp_status parse(area in)
{
    tccp_tpm_public public;
    return tccp_tpm_public_parse(in.bytes, in.len, &public);
}

static void test_fields_and_name(void)
{
    area ak = ecc_ak((flaw){0});
    tccp_tpm_public public;
    CHECK(tccp_tpm_public_parse(ak.bytes, ak.len, &public) == TCCP_OK);
    CHECK(public.key_bits == 256 && public.scheme == TPM_ALG_ECDSA && public.symmetric_bits == 0);
    CHECK(memcmp(public.ecc_x, GENERATOR_X, 32) == 0 && public.area_offset == 0);

    uint8_t digest[32];
    CHECK(EVP_Digest(ak.bytes, ak.len, digest, NULL, EVP_sha256(), NULL) == 1);
    CHECK(public.name_len == 34 && memcmp(public.name + 2, digest, 32) == 0);
    CHECK(public.name[0] == 0 && public.name[1] == TPM_ALG_SHA256);

    area wrapped = {.len = 0};
    put_2b(&wrapped, ak.bytes, ak.len);
    tccp_tpm_public unwrapped;
    CHECK(tccp_tpm_public_parse(wrapped.bytes, wrapped.len, &unwrapped) == TCCP_OK);
    CHECK(unwrapped.area_offset == 2 && memcmp(unwrapped.name, public.name, public.name_len) == 0);

    area ek = rsa_ek((flaw){0});
    CHECK(tccp_tpm_public_parse(ek.bytes, ek.len, &public) == TCCP_OK);
    CHECK(public.key_bits == 2048 && public.symmetric_bits == 128 && public.scheme == TPM_ALG_NULL);
}

static void test_every_flaw_has_its_status(void)
{
    CHECK(parse(rsa_ek((flaw){.exponent = 65537})) == TCCP_OK);
    CHECK(parse(rsa_ek((flaw){.exponent = 3})) == TCCP_ERR_UNSUPPORTED);
    CHECK(parse(rsa_ek((flaw){.bits = 1024})) == TCCP_ERR_UNSUPPORTED);
    CHECK(parse(rsa_ek((flaw){.bits = 3072})) == TCCP_ERR_MALFORMED);
    CHECK(parse(rsa_ek((flaw){.even_modulus = true})) == TCCP_ERR_MALFORMED);
    CHECK(parse(rsa_ek((flaw){.small_modulus = true})) == TCCP_ERR_MALFORMED);
    CHECK(parse(ecc_ak((flaw){.off_curve = true})) == TCCP_ERR_MALFORMED);
    CHECK(parse(ecc_ak((flaw){.curve = 5})) == TCCP_ERR_UNSUPPORTED);
    CHECK(parse(ecc_ak((flaw){.curve = TPM_ECC_NIST_P384})) == TCCP_ERR_MALFORMED);
    CHECK(parse(ecc_ak((flaw){.name_alg = 4})) == TCCP_ERR_UNSUPPORTED);    /* SHA-1 */
    CHECK(parse(ecc_ak((flaw){.scheme_hash = 4})) == TCCP_ERR_UNSUPPORTED); /* SHA-1 */
    CHECK(parse(ecc_ak((flaw){.policy_len = 32})) == TCCP_OK);
    CHECK(parse(ecc_ak((flaw){.policy_len = 31})) == TCCP_ERR_MALFORMED);
    CHECK(parse(ecc_ak((flaw){.attributes = AK_ATTRIBUTES | 1u << 31})) == TCCP_ERR_MALFORMED);
    CHECK(tccp_tpm_public_parse(NULL, 0, NULL) == TCCP_ERR_USAGE);

    uint8_t large[4096] = {0};
    tccp_tpm_public public;
    CHECK(tccp_tpm_public_parse(large, sizeof(large), &public) == TCCP_ERR_TOO_LARGE);
}

static void test_no_prefix_and_nothing_longer_is_accepted(void)
{
    area areas[] = {ecc_ak((flaw){0}), rsa_ek((flaw){0})};
    for (size_t i = 0; i < 2; i++) {
        size_t whole = areas[i].len;
        for (areas[i].len = 0; areas[i].len < whole; areas[i].len++)
            CHECK(parse(areas[i]) == TCCP_ERR_MALFORMED);
        areas[i].len = whole + 1;
        CHECK(parse(areas[i]) == TCCP_ERR_MALFORMED);
    }
}

static void test_roles(void)
{
    tccp_tpm_public ak, ek;
    area bytes = ecc_ak((flaw){0});
    CHECK(tccp_tpm_public_parse(bytes.bytes, bytes.len, &ak) == TCCP_OK);
    bytes = rsa_ek((flaw){0});
    CHECK(tccp_tpm_public_parse(bytes.bytes, bytes.len, &ek) == TCCP_OK);
    CHECK(tccp_tpm_public_check_ak(&ak) == TCCP_OK && tccp_tpm_public_check_ek(&ek) == TCCP_OK);
    CHECK(tccp_tpm_public_check_ak(&ek) == TCCP_ERR_KEY_ATTRIBUTES);
    CHECK(tccp_tpm_public_check_ek(&ak) == TCCP_ERR_KEY_ATTRIBUTES);

    const uint32_t role[] = {TCCP_TPM_FIXED_TPM,  TCCP_TPM_FIXED_PARENT, TCCP_TPM_SENSITIVE_DATA_ORIGIN,
                             TCCP_TPM_RESTRICTED, TCCP_TPM_DECRYPT,      TCCP_TPM_SIGN};
    for (size_t i = 0; i < sizeof(role) / sizeof(role[0]); i++) {
        tccp_tpm_public flipped_ak = ak, flipped_ek = ek;
        flipped_ak.attributes ^= role[i];
        flipped_ek.attributes ^= role[i];
        CHECK(tccp_tpm_public_check_ak(&flipped_ak) == TCCP_ERR_KEY_ATTRIBUTES);
        CHECK(tccp_tpm_public_check_ek(&flipped_ek) == TCCP_ERR_KEY_ATTRIBUTES);
    }
    ak.scheme = TPM_ALG_NULL;
    ek.symmetric_bits = 0;
    CHECK(tccp_tpm_public_check_ak(&ak) == TCCP_ERR_KEY_ATTRIBUTES);
    CHECK(tccp_tpm_public_check_ek(&ek) == TCCP_ERR_KEY_ATTRIBUTES);
}

int main(void)
{
    test_fields_and_name();
    test_every_flaw_has_its_status();
    test_no_prefix_and_nothing_longer_is_accepted();
    test_roles();
    return failures == 0 ? 0 : 1;
}
