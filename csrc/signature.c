/* signature.c: TPMT_SIGNATURE, parsed and verified.
 *
 * RSA is one multiplication chain over libcrypto's Montgomery arithmetic and then a comparison with the encoding that
 * the scheme makes of the digest; nothing of an encoding is parsed, except where RSAPSS hides its salt.
 */
#include "signature.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "hash.h"
#include "lanes.h"
#include "reader.h"
#include "tpm_public.h"

/* ---- the structure ------------------------------------------------------------------------------------------ */

static tccp_status read_rsa(reader *in, signature_check *check)
{
    size_t len;
    check->rsa = read_tpm2b(in, &len);
    if (!reader_finished(in))
        return TCCP_ERR_MALFORMED;
    bool smaller = len == check->ak->bytes && memcmp(check->rsa, check->ak->modulus_bytes, len) < 0;
    return smaller ? TCCP_OK : TCCP_ERR_SIGNATURE;
}

/* r or s. Some TPMs leave leading zeros out. */
static bool read_scalar(reader *in, const tccp_ak *ak, uint8_t *ret_scalar)
{
    static const uint8_t zero[TCCP_ECC_BYTES_MAX];
    size_t len;
    const uint8_t *bytes = read_tpm2b(in, &len);
    if (bytes == NULL || len > ak->bytes)
        return false;
    memset(ret_scalar, 0, ak->bytes - len);
    memcpy(ret_scalar + (ak->bytes - len), bytes, len);
    return memcmp(ret_scalar, zero, ak->bytes) != 0 && memcmp(ret_scalar, ak->order, ak->bytes) < 0;
}

static tccp_status read_ecdsa(reader *in, signature_check *check)
{
    bool in_range = read_scalar(in, check->ak, check->r);
    in_range = read_scalar(in, check->ak, check->s) && in_range;
    if (!reader_finished(in))
        return TCCP_ERR_MALFORMED;
    return in_range ? TCCP_OK : TCCP_ERR_SIGNATURE;
}

tccp_status signature_prepare(const tccp_ak *ak, const uint8_t *attest, size_t attest_len, const uint8_t *signature,
                              size_t signature_len, signature_check *ret_check)
{
    if (attest_len > TCCP_ATTEST_BYTES_MAX || signature_len > TCCP_SIGNATURE_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    reader in = reader_of(signature, signature_len);
    uint16_t scheme = (uint16_t) read_uint_be(&in, 2);
    uint16_t hash = (uint16_t) read_uint_be(&in, 2);
    if (in.failed)
        return TCCP_ERR_MALFORMED;
    bool rsa = scheme == TPM_ALG_RSASSA || scheme == TPM_ALG_RSAPSS;
    if ((!rsa && scheme != TPM_ALG_ECDSA) || hash_size(hash) == 0)
        return TCCP_ERR_UNSUPPORTED;
    if (rsa != (ak->info.type == TPM_ALG_RSA))
        return TCCP_ERR_SIGNATURE;
    if (ak->info.scheme != TPM_ALG_NULL && (scheme != ak->info.scheme || hash != ak->info.scheme_hash))
        return TCCP_ERR_SIGNATURE;

    ret_check->ak = ak;
    ret_check->scheme = scheme;
    ret_check->hash = hash;
    ret_check->digest_len = hash_size(hash);
    tccp_status status = rsa ? read_rsa(&in, ret_check) : read_ecdsa(&in, ret_check);
    if (status != TCCP_OK)
        return status;
    return hash_bytes(hash, attest, attest_len, ret_check->digest) ? TCCP_OK : TCCP_ERR_INTERNAL;
}

/* ---- RSA encodings ------------------------------------------------------------------------------------------ */

/* DigestInfo without the digest (RFC 8017, 9.2, note 1): they differ in the last byte of the OID and in two lengths. */
enum { DIGEST_INFO_BYTES = 19 };

static void digest_info(uint16_t hash, uint8_t ret_info[DIGEST_INFO_BYTES])
{
    static const uint8_t sha256[DIGEST_INFO_BYTES] = {
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
    };
    memcpy(ret_info, sha256, sizeof sha256);
    ret_info[1] = (uint8_t) (17 + hash_size(hash));
    ret_info[14] = hash == TPM_ALG_SHA256 ? 1 : hash == TPM_ALG_SHA384 ? 2 : 3;
    ret_info[18] = (uint8_t) hash_size(hash);
}

/* EMSA-PKCS1-v1_5 (RFC 8017, 9.2): the one encoding there is, compared as a whole. */
static bool rsassa_matches(const signature_check *check, const uint8_t *encoded)
{
    uint8_t expected[TCCP_RSA_BYTES_MAX];
    size_t len = check->ak->bytes;
    size_t padding = len - 3 - DIGEST_INFO_BYTES - check->digest_len;
    expected[0] = 0x00;
    expected[1] = 0x01;
    memset(expected + 2, 0xff, padding);
    expected[2 + padding] = 0x00;
    digest_info(check->hash, expected + 3 + padding);
    memcpy(expected + len - check->digest_len, check->digest, check->digest_len);
    return memcmp(encoded, expected, len) == 0;
}

/* MGF1 (RFC 8017, B.2.1), exclusive-ored onto bytes. */
static bool mask(uint16_t hash, const uint8_t *seed, uint8_t *bytes, size_t len)
{
    size_t seed_len = hash_size(hash);
    uint8_t input[TCCP_DIGEST_BYTES_MAX + 4] = {0}, block[TCCP_DIGEST_BYTES_MAX];
    memcpy(input, seed, seed_len);
    for (uint8_t counter = 0; len > 0; counter++) {
        const size_t taken = len < seed_len ? len : seed_len;
        input[seed_len + 3] = counter;
        if (!hash_bytes(hash, input, seed_len + 4, block))
            return false;
        for (size_t i = 0; i < taken; i++)
            bytes[i] ^= block[i];
        bytes += taken;
        len -= taken;
    }
    return true;
}

/* EMSA-PSS (RFC 8017, 9.1.2). A TPM's salt is as long as the digest (FIPS 186) or, in older ones, as long as it fits
 * (TPM 2.0 Library, Part 1, B.7); no TPM uses another length, so no other is accepted. */
static bool rsapss_matches(const signature_check *check, const uint8_t *encoded)
{
    size_t digest_len = check->digest_len;
    size_t masked_len = check->ak->bytes - digest_len - 1;
    const uint8_t *seed = encoded + masked_len;
    uint8_t block[TCCP_RSA_BYTES_MAX];
    if ((encoded[0] & 0x80) != 0 || encoded[check->ak->bytes - 1] != 0xbc)
        return false;
    memcpy(block, encoded, masked_len);
    if (!mask(check->hash, seed, block, masked_len))
        return false;
    block[0] &= 0x7f;

    size_t zeros = 0;
    while (zeros < masked_len && block[zeros] == 0)
        zeros++;
    if (zeros == masked_len || block[zeros] != 0x01)
        return false;
    const uint8_t *salt = block + zeros + 1;
    size_t salt_len = masked_len - zeros - 1;
    if (salt_len != digest_len && zeros != 0)
        return false;

    uint8_t message[8 + TCCP_DIGEST_BYTES_MAX + TCCP_RSA_BYTES_MAX] = {0}, expected[TCCP_DIGEST_BYTES_MAX];
    memcpy(message + 8, check->digest, digest_len);
    memcpy(message + 8 + digest_len, salt, salt_len);
    return hash_bytes(check->hash, message, 8 + digest_len + salt_len, expected) &&
           memcmp(expected, seed, digest_len) == 0;
}

bool signature_encoding_matches(const signature_check *check, const uint8_t *encoded)
{
    return check->scheme == TPM_ALG_RSASSA ? rsassa_matches(check, encoded) : rsapss_matches(check, encoded);
}

/* ---- one at a time, by libcrypto ---------------------------------------------------------------------------- */

/* signature ^ 65537: into Montgomery form, squared sixteen times, and multiplied by the plain signature, which leads
 * out of Montgomery form as well. BN_mod_exp_mont and EVP_PKEY_verify take a fifth longer. */
static tccp_status verify_rsa(const signature_check *check)
{
    const tccp_ak *ak = check->ak;
    uint8_t encoded[TCCP_RSA_BYTES_MAX];
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *signature = BN_bin2bn(check->rsa, (int) ak->bytes, NULL);
    BIGNUM *power = BN_new();
    int done = ctx != NULL && signature != NULL && power != NULL &&
               BN_to_montgomery(power, signature, ak->montgomery, ctx);
    for (int i = 0; i < 16 && done; i++)
        done = BN_mod_mul_montgomery(power, power, power, ak->montgomery, ctx);
    done = done && BN_mod_mul_montgomery(power, power, signature, ak->montgomery, ctx) &&
           BN_bn2binpad(power, encoded, (int) ak->bytes) == (int) ak->bytes;
    BN_free(power);
    BN_free(signature);
    BN_CTX_free(ctx);
    if (!done)
        return TCCP_ERR_NO_MEMORY;
    return signature_encoding_matches(check, encoded) ? TCCP_OK : TCCP_ERR_SIGNATURE;
}

void signature_ecdsa_digest(const signature_check *check, uint8_t ret_digest[TCCP_ECC_BYTES_MAX])
{
    size_t size = check->ak->bytes;
    size_t taken = check->digest_len < size ? check->digest_len : size;
    memset(ret_digest, 0, size - taken);
    memcpy(ret_digest + (size - taken), check->digest, taken);
}

/* INTEGER (X.690, 8.3) of a number that is not zero; returns the end. */
static uint8_t *der_integer(uint8_t *at, const uint8_t *bytes, size_t len)
{
    while (*bytes == 0) {
        bytes++;
        len--;
    }
    bool sign_byte = (*bytes & 0x80) != 0;
    *at++ = 0x02;
    *at++ = (uint8_t) (len + sign_byte);
    if (sign_byte)
        *at++ = 0x00;
    memcpy(at, bytes, len);
    return at + len;
}

static tccp_status verify_ecdsa(const signature_check *check)
{
    const tccp_ak *ak = check->ak;
    uint8_t der[2 + 2 * (3 + TCCP_ECC_BYTES_MAX)] = {0x30};
    uint8_t *end = der_integer(der_integer(der + 2, check->r, ak->bytes), check->s, ak->bytes);
    der[1] = (uint8_t) (end - der - 2);

    EVP_PKEY_CTX *verifier = EVP_PKEY_CTX_dup(ak->verifier);
    if (verifier == NULL)
        return TCCP_ERR_NO_MEMORY;
    /* libcrypto calls it an error, not a bad signature, when a forger arranges for the point at infinity to come out.
     * Its error queue belongs to this thread's other users. */
    ERR_set_mark();
    int verdict = EVP_PKEY_verify(verifier, der, (size_t) (end - der), check->digest, check->digest_len);
    (void) ERR_pop_to_mark();
    EVP_PKEY_CTX_free(verifier);
    return verdict == 1 ? TCCP_OK : TCCP_ERR_SIGNATURE;
}

tccp_status signature_verify_libcrypto(const signature_check *check)
{
    return check->scheme == TPM_ALG_ECDSA ? verify_ecdsa(check) : verify_rsa(check);
}

tccp_status signature_verify(const signature_check *check)
{
    if (!lanes_take(check->ak))
        return signature_verify_libcrypto(check);
    tccp_status verdict;
    lanes_verify(check, 1, &verdict);
    return verdict;
}
