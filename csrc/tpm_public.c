/* tpm_public.c: TPMT_PUBLIC, the public area of a TPM key, and the name that follows from it.
 *
 * The name of a key is nameAlg || H_nameAlg(TPMT_PUBLIC). It is computed here from the very bytes that were
 * parsed, so that nothing a peer says about a name is ever used.
 */
#include "tpm_public.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "reader.h"

enum {
    ATTRIBUTES_RESERVED = (int) 0xfff0f009,
    RSA_EXPONENT = 65537,
    /* TPM2B_PUBLIC of RSA-4096 with the longest policy stays well below. */
    PUBLIC_BYTES_MAX = 1024
};

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

/* ---- the structure ------------------------------------------------------------------------------------------ */

/* TPMT_SYM_DEF_OBJECT: nothing, or AES in CFB mode, the only mode a storage key may have (Part 2, 11.1.7). */
static tccp_status read_symmetric(reader *in, tccp_tpm_public *public)
{
    uint64_t algorithm = read_uint_be(in, 2);
    if (in->failed)
        return TCCP_ERR_MALFORMED;
    if (algorithm == TPM_ALG_NULL)
        return TCCP_OK;
    if (algorithm != TPM_ALG_AES)
        return TCCP_ERR_UNSUPPORTED;
    uint64_t bits = read_uint_be(in, 2);
    uint64_t mode = read_uint_be(in, 2);
    if (in->failed)
        return TCCP_ERR_MALFORMED;
    if (mode != TPM_ALG_CFB || (bits != 128 && bits != 192 && bits != 256))
        return TCCP_ERR_UNSUPPORTED;
    public->symmetric_bits = (uint16_t) bits;
    return TCCP_OK;
}

/* TPMT_RSA_SCHEME or TPMT_ECC_SCHEME: those of ours carry a hash and nothing else (Part 2, 11.2.4.2 and 11.2.5.6). */
static tccp_status read_scheme(reader *in, tccp_tpm_public *public)
{
    bool rsa = public->type == TPM_ALG_RSA;
    uint64_t scheme = read_uint_be(in, 2);
    if (in->failed)
        return TCCP_ERR_MALFORMED;
    public->scheme = (uint16_t) scheme;
    if (scheme == TPM_ALG_NULL)
        return TCCP_OK;
    bool known = rsa ? scheme == TPM_ALG_RSASSA || scheme == TPM_ALG_RSAPSS || scheme == TPM_ALG_OAEP
                     : scheme == TPM_ALG_ECDSA || scheme == TPM_ALG_ECDH;
    if (!known)
        return TCCP_ERR_UNSUPPORTED;
    public->scheme_hash = (uint16_t) read_uint_be(in, 2);
    if (in->failed)
        return TCCP_ERR_MALFORMED;
    return tpm_hash(public->scheme_hash) == NULL ? TCCP_ERR_UNSUPPORTED : TCCP_OK;
}

/* Could this modulus come from the library whose primes are 65537^a mod M plus multiples of M, M a product of small
 * primes (CVE-2017-15361, "ROCA")? Whole families of TPMs made such keys, which can be factored from the public half.
 * Then the modulus is a power of 65537 modulo each prime of M; of other moduli one in 200 million is. The primes here
 * are those of M below 167 that tell something: modulo the others every number is such a power. */
static bool is_roca(const uint8_t *modulus, size_t len)
{
    static const uint8_t primes[] = {11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157};
    for (size_t i = 0; i < sizeof(primes); i++) {
        uint32_t prime = primes[i], remainder = 0, power = 1, generator = RSA_EXPONENT % prime;
        for (size_t j = 0; j < len; j++)
            remainder = (remainder << 8 | modulus[j]) % prime;
        do
            power = power * generator % prime;
        while (power != remainder && power != 1);
        if (power != remainder)
            return false;
    }
    return true;
}

static tccp_status read_rsa(reader *in, tccp_tpm_public *public)
{
    uint64_t bits = read_uint_be(in, 2);
    uint64_t exponent = read_uint_be(in, 4);
    size_t modulus_len;
    const uint8_t *modulus = read_tpm2b(in, &modulus_len);
    if (!reader_finished(in))
        return TCCP_ERR_MALFORMED;
    if (bits != 2048 && bits != 3072 && bits != 4096)
        return TCCP_ERR_UNSUPPORTED;
    if (exponent != 0 && exponent != RSA_EXPONENT) /* 0 stands for the default, 2^16 + 1 (Part 2, 12.2.3.5) */
        return TCCP_ERR_UNSUPPORTED;
    /* A modulus of n bits has its top bit set, and is odd. */
    if (modulus_len * 8 != bits || (modulus[0] & 0x80) == 0 || (modulus[modulus_len - 1] & 1) == 0)
        return TCCP_ERR_MALFORMED;
    if (is_roca(modulus, modulus_len))
        return TCCP_ERR_UNSUPPORTED;
    public->key_bits = (uint16_t) bits;
    memcpy(public->rsa_modulus, modulus, modulus_len);
    return TCCP_OK;
}

/* Older TPMs leave the leading zeros of a coordinate out. */
static bool read_coordinate(reader *in, size_t size, uint8_t *ret_padded)
{
    size_t len;
    const uint8_t *bytes = read_tpm2b(in, &len);
    if (bytes == NULL || len == 0 || len > size)
        return false;
    memcpy(ret_padded + (size - len), bytes, len);
    return true;
}

static tccp_status read_ecc(reader *in, tccp_tpm_public *public)
{
    uint64_t curve = read_uint_be(in, 2);
    uint64_t kdf = read_uint_be(in, 2);
    if (in->failed)
        return TCCP_ERR_MALFORMED;
    size_t size = tpm_curve_bytes((uint16_t) curve);
    if (size == 0 || kdf != TPM_ALG_NULL)
        return TCCP_ERR_UNSUPPORTED;
    if (!read_coordinate(in, size, public->ecc_x) || !read_coordinate(in, size, public->ecc_y) || !reader_finished(in))
        return TCCP_ERR_MALFORMED;
    public->curve = (uint16_t) curve;
    public->key_bits = (uint16_t) (size * 8);
    return TCCP_OK;
}

/* TPMT_PUBLIC (Part 2, 12.2.4), all of in. */
static tccp_status read_public(reader *in, tccp_tpm_public *public)
{
    uint64_t type = read_uint_be(in, 2);
    uint64_t name_alg = read_uint_be(in, 2);
    uint64_t attributes = read_uint_be(in, 4);
    size_t policy_len;
    const uint8_t *policy = read_tpm2b(in, &policy_len);
    if (in->failed || (attributes & (uint32_t) ATTRIBUTES_RESERVED) != 0)
        return TCCP_ERR_MALFORMED;
    if ((type != TPM_ALG_RSA && type != TPM_ALG_ECC) || tpm_hash((uint16_t) name_alg) == NULL)
        return TCCP_ERR_UNSUPPORTED;
    if (policy_len != 0 && policy_len != (size_t) EVP_MD_get_size(tpm_hash((uint16_t) name_alg)))
        return TCCP_ERR_MALFORMED;
    public->type = (uint16_t) type;
    public->name_alg = (uint16_t) name_alg;
    public->attributes = (uint32_t) attributes;
    public->auth_policy_len = policy_len;
    memcpy(public->auth_policy, policy, policy_len);

    tccp_status status = read_symmetric(in, public);
    if (status == TCCP_OK)
        status = read_scheme(in, public);
    if (status == TCCP_OK)
        status = type == TPM_ALG_RSA ? read_rsa(in, public) : read_ecc(in, public);
    return status;
}

static tccp_status compute_name(const uint8_t *area, size_t area_len, tccp_tpm_public *public)
{
    unsigned int digest_len = 0;
    public->name[0] = (uint8_t) (public->name_alg >> 8);
    public->name[1] = (uint8_t) public->name_alg;
    if (EVP_Digest(area, area_len, public->name + 2, &digest_len, tpm_hash(public->name_alg), NULL) != 1)
        return TCCP_ERR_INTERNAL;
    public->name_len = 2 + digest_len;
    return TCCP_OK;
}

tccp_status tccp_tpm_public_parse(const uint8_t *public_area, size_t public_area_len, tccp_tpm_public *ret_public)
{
    if (public_area == NULL || ret_public == NULL)
        return TCCP_ERR_USAGE;
    if (public_area_len > PUBLIC_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;

    /* A TPM2B_PUBLIC counts what follows it. A TPMT_PUBLIC cannot be taken for one: its first number would be a
     * length of 1 or 35 bytes, less than any key has. */
    reader in = reader_of(public_area, public_area_len);
    size_t area_len;
    const uint8_t *area = read_tpm2b(&in, &area_len);
    if (!reader_finished(&in)) {
        area = public_area;
        area_len = public_area_len;
    }

    tccp_tpm_public public = {.scheme = TPM_ALG_NULL};
    in = reader_of(area, area_len);
    tccp_status status = read_public(&in, &public);
    if (status != TCCP_OK)
        return status;
    public.area_offset = (size_t) (area - public_area);

    EVP_PKEY *key = NULL;
    status = tpm_public_key(&public, &key);
    if (status == TCCP_OK)
        status = tpm_key_spki(key, public.spki, &public.spki_len);
    EVP_PKEY_free(key);
    if (status == TCCP_OK)
        status = compute_name(area, area_len, &public);
    if (status == TCCP_OK)
        *ret_public = public;
    return status;
}

/* ---- roles -------------------------------------------------------------------------------------------------- */

enum {
    BORN_IN_ITS_TPM = TCCP_TPM_FIXED_TPM | TCCP_TPM_FIXED_PARENT | TCCP_TPM_SENSITIVE_DATA_ORIGIN,
    ROLE = BORN_IN_ITS_TPM | TCCP_TPM_RESTRICTED | TCCP_TPM_DECRYPT | TCCP_TPM_SIGN
};

tccp_status tccp_tpm_public_check_ak(const tccp_tpm_public *public)
{
    if (public == NULL)
        return TCCP_ERR_USAGE;
    if ((public->attributes & ROLE) != (BORN_IN_ITS_TPM | TCCP_TPM_RESTRICTED | TCCP_TPM_SIGN))
        return TCCP_ERR_KEY_ATTRIBUTES;
    /* A restricted signing key has its scheme fixed, and no symmetric cipher (Part 1, 25.2). */
    bool signs = public->scheme == TPM_ALG_RSASSA || public->scheme == TPM_ALG_RSAPSS || public->scheme == TPM_ALG_ECDSA;
    return signs && public->symmetric_bits == 0 ? TCCP_OK : TCCP_ERR_KEY_ATTRIBUTES;
}

tccp_status tccp_tpm_public_check_ek(const tccp_tpm_public *public)
{
    if (public == NULL)
        return TCCP_ERR_USAGE;
    if ((public->attributes & ROLE) != (BORN_IN_ITS_TPM | TCCP_TPM_RESTRICTED | TCCP_TPM_DECRYPT))
        return TCCP_ERR_KEY_ATTRIBUTES;
    /* A restricted decryption key protects with a symmetric cipher and has no scheme (Part 1, 25.2). */
    bool stores = public->scheme == TPM_ALG_NULL && public->symmetric_bits != 0;
    return stores ? TCCP_OK : TCCP_ERR_KEY_ATTRIBUTES;
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
