/* tpm_public.c: TPMT_PUBLIC, the public area of a TPM key, and the name that follows from it.
 *
 * The name of a key is nameAlg || H_nameAlg(TPMT_PUBLIC). It is computed here from the very bytes that were
 * parsed, so that nothing a peer says about a name is ever used.
 */
#include "tpm_public.h"

#include <string.h>

#include "reader.h"

enum {
    ATTRIBUTES_RESERVED = (int) 0xfff0f009,
    RSA_EXPONENT = 65537,
    /* TPM2B_PUBLIC of RSA-4096 with the longest policy stays well below. */
    PUBLIC_BYTES_MAX = 1024
};

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
    EVP_PKEY *key = NULL; /* libcrypto makes none of a point that is not on the curve */
    tccp_status status = tpm_ecc_key(public->curve, public->ecc_x, public->ecc_y, &key);
    EVP_PKEY_free(key);
    return status;
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

    if (public.type == TPM_ALG_RSA)
        public.spki_len = tpm_rsa_spki(public.rsa_modulus, public.key_bits / 8u, public.spki);
    else
        public.spki_len = tpm_ecc_spki(public.curve, public.ecc_x, public.ecc_y, public.spki);
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
