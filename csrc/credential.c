/* credential.c: TPM2_MakeCredential in software.
 *
 *   seed  --KDFa "STORAGE", name-->    AES key   encrypts the secret     \  TPM2B_ID_OBJECT
 *     |   --KDFa "INTEGRITY"------->   HMAC key  over that and the name  /
 *     '---to the EK: RSA-OAEP, or ECDH with an ephemeral key and KDFe       TPM2B_ENCRYPTED_SECRET
 *
 * All hashes are the EK's nameAlg. The AK's name goes into the key and under the HMAC: the TPM computes both from the
 * object that is loaded in it, so the secret opens only beside the AK with that very public area.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "tpm_public.h"

/* Labels of the key derivations count with their terminating zero (Part 1, 11.4.10.2). */
static const char LABEL_IDENTITY[] = "IDENTITY";
static const char LABEL_STORAGE[] = "STORAGE";
static const char LABEL_INTEGRITY[] = "INTEGRITY";

typedef struct digest {
    uint8_t bytes[TCCP_DIGEST_BYTES_MAX];
} digest;

static uint8_t *put_uint(uint8_t *at, size_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t) (value >> (8 * (width - 1 - i)));
    return at + width;
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

/* ---- key derivation ----------------------------------------------------------------------------------------- */

/* KDFa (Part 1, 11.4.10.2) of one block, which is all that is ever asked for here: bits <= those of a digest. */
static int kdfa(const EVP_MD *hash, const digest *seed, const char *label, const uint8_t *context, size_t context_len,
                size_t bits, digest *ret_key)
{
    uint8_t input[4 + sizeof(LABEL_INTEGRITY) + TCCP_TPM_NAME_BYTES_MAX + 4];
    uint8_t *at = put_uint(input, 1, 4);
    at = put_bytes(at, label, strlen(label) + 1);
    at = put_bytes(at, context, context_len);
    at = put_uint(at, bits, 4);
    int seed_len = EVP_MD_get_size(hash);
    return HMAC(hash, seed->bytes, seed_len, input, (size_t) (at - input), ret_key->bytes, NULL) != NULL;
}

/* KDFe (Part 1, 11.4.10.3) of one block: z and the x coordinates of both points, each of the size of the field. */
static int kdfe(const EVP_MD *hash, const uint8_t *z, const uint8_t *ephemeral_x, const uint8_t *ek_x, size_t size,
                digest *ret_seed)
{
    uint8_t input[4 + sizeof(LABEL_IDENTITY) + 3 * TCCP_ECC_BYTES_MAX];
    uint8_t *at = put_uint(input, 1, 4);
    at = put_bytes(at, z, size);
    at = put_bytes(at, LABEL_IDENTITY, sizeof(LABEL_IDENTITY));
    at = put_bytes(at, ephemeral_x, size);
    at = put_bytes(at, ek_x, size);
    int ok = EVP_Digest(input, (size_t) (at - input), ret_seed->bytes, NULL, hash, NULL) == 1;
    OPENSSL_cleanse(input, sizeof(input));
    return ok;
}

/* ---- the seed, to the EK ------------------------------------------------------------------------------------ */

/* RSA-OAEP with the EK's nameAlg and the label "IDENTITY" (Part 1, B.10.4). */
static int share_by_rsa(EVP_PKEY *ek_key, const EVP_MD *hash, digest *ret_seed, tccp_credential *credential)
{
    size_t seed_len = (size_t) EVP_MD_get_size(hash);
    size_t encrypted_len = TCCP_RSA_BYTES_MAX;
    if (RAND_priv_bytes(ret_seed->bytes, (int) seed_len) != 1)
        return 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, ek_key, NULL);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, OSSL_PKEY_RSA_PAD_MODE_OAEP, 0),
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, (char *) EVP_MD_get0_name(hash), 0),
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, (char *) EVP_MD_get0_name(hash), 0),
        OSSL_PARAM_construct_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, (void *) LABEL_IDENTITY,
                                          sizeof(LABEL_IDENTITY)),
        OSSL_PARAM_construct_end(),
    };
    int ok = ctx != NULL && EVP_PKEY_encrypt_init_ex(ctx, params) == 1 &&
             EVP_PKEY_encrypt(ctx, credential->encrypted_secret, &encrypted_len, ret_seed->bytes, seed_len) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (ok)
        credential->encrypted_secret_len = encrypted_len;
    return ok;
}

static int coordinate(EVP_PKEY *key, const char *which, uint8_t *ret_bytes, size_t size)
{
    BIGNUM *number = NULL;
    int ok = EVP_PKEY_get_bn_param(key, which, &number) == 1 && BN_bn2binpad(number, ret_bytes, (int) size) == (int) size;
    BN_free(number);
    return ok;
}

static int shared_x(EVP_PKEY *ephemeral, EVP_PKEY *ek_key, uint8_t *ret_z, size_t size)
{
    size_t len = size;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, ephemeral, NULL);
    int ok = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, ek_key) == 1 &&
             EVP_PKEY_derive(ctx, ret_z, &len) == 1 && len == size;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* One-pass ECDH with an ephemeral key of ours (Part 1, C.6.3): the TPM gets its point and finds the seed itself. */
static int share_by_ecdh(const tccp_tpm_public *ek, EVP_PKEY *ek_key, const EVP_MD *hash, digest *ret_seed,
                         tccp_credential *credential)
{
    size_t size = tpm_curve_bytes(ek->curve);
    uint8_t z[TCCP_ECC_BYTES_MAX], x[TCCP_ECC_BYTES_MAX], y[TCCP_ECC_BYTES_MAX];
    EVP_PKEY *ephemeral = EVP_EC_gen(ek->curve == TPM_ECC_NIST_P256 ? "P-256" : "P-384");
    int ok = ephemeral != NULL && coordinate(ephemeral, OSSL_PKEY_PARAM_EC_PUB_X, x, size) &&
             coordinate(ephemeral, OSSL_PKEY_PARAM_EC_PUB_Y, y, size) && shared_x(ephemeral, ek_key, z, size) &&
             kdfe(hash, z, x, ek->ecc_x, size, ret_seed);
    EVP_PKEY_free(ephemeral); /* libcrypto wipes the private part */
    OPENSSL_cleanse(z, sizeof(z));
    if (ok) {
        uint8_t *at = put_bytes(put_uint(credential->encrypted_secret, size, 2), x, size);
        at = put_bytes(put_uint(at, size, 2), y, size);
        credential->encrypted_secret_len = (size_t) (at - credential->encrypted_secret);
    }
    return ok;
}

/* ---- the secret, under the seed ----------------------------------------------------------------------------- */

static int encrypt_cfb(size_t bits, const uint8_t *key, const uint8_t *plain, size_t len, uint8_t *ret_encrypted)
{
    static const uint8_t zero_iv[16] = {0}; /* the key is used once (Part 1, 24.4) */
    const EVP_CIPHER *cipher = EVP_aes_256_cfb128();
    if (bits != 256)
        cipher = bits == 192 ? EVP_aes_192_cfb128() : EVP_aes_128_cfb128();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int written = 0;
    int ok = ctx != NULL && EVP_EncryptInit_ex2(ctx, cipher, key, zero_iv, NULL) == 1 &&
             EVP_EncryptUpdate(ctx, ret_encrypted, &written, plain, (int) len) == 1 && written == (int) len;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* TPMS_ID_OBJECT: TPM2B integrity, then the encrypted TPM2B secret (Part 2, 12.4.2 and 12.4.3). */
static int protect(const tccp_tpm_public *ek, const EVP_MD *hash, const digest *seed, const uint8_t *name,
                   size_t name_len, const uint8_t *secret, tccp_credential *credential)
{
    size_t digest_len = (size_t) EVP_MD_get_size(hash);
    uint8_t plain[2 + TCCP_SECRET_BYTES];
    put_bytes(put_uint(plain, TCCP_SECRET_BYTES, 2), secret, TCCP_SECRET_BYTES);

    uint8_t *integrity = credential->id_object + 2;
    uint8_t *encrypted = integrity + digest_len;
    uint8_t covered[sizeof(plain) + TCCP_TPM_NAME_BYTES_MAX];
    digest key;
    int ok = kdfa(hash, seed, LABEL_STORAGE, name, name_len, ek->symmetric_bits, &key) &&
             encrypt_cfb(ek->symmetric_bits, key.bytes, plain, sizeof(plain), encrypted) &&
             kdfa(hash, seed, LABEL_INTEGRITY, name, 0, digest_len * 8, &key);
    if (ok) {
        uint8_t *end = put_bytes(put_bytes(covered, encrypted, sizeof(plain)), name, name_len);
        ok = HMAC(hash, key.bytes, (int) digest_len, covered, (size_t) (end - covered), integrity, NULL) != NULL;
        put_uint(credential->id_object, digest_len, 2);
        credential->id_object_len = 2 + digest_len + sizeof(plain);
    }
    OPENSSL_cleanse(&key, sizeof(key));
    OPENSSL_cleanse(plain, sizeof(plain));
    return ok;
}

tccp_status tccp_credential_make(const uint8_t *ek_public, size_t ek_public_len, const uint8_t *ak_name,
                                 size_t ak_name_len, const uint8_t *secret, size_t secret_len,
                                 tccp_credential *ret_credential)
{
    if (ek_public == NULL || ak_name == NULL || ak_name_len == 0 || ak_name_len > TCCP_TPM_NAME_BYTES_MAX ||
        secret == NULL || secret_len != TCCP_SECRET_BYTES || ret_credential == NULL)
        return TCCP_ERR_USAGE;
    tccp_tpm_public ek;
    EVP_PKEY *key = NULL;
    tccp_status status = tccp_tpm_public_parse(ek_public, ek_public_len, &ek);
    if (status == TCCP_OK)
        status = tccp_tpm_public_check_ek(&ek);
    if (status == TCCP_OK)
        status = tpm_public_key(&ek, &key);
    if (status != TCCP_OK)
        return status;

    const EVP_MD *hash = tpm_hash(ek.name_alg);
    tccp_credential credential = {0};
    digest seed;
    int ok = ek.type == TPM_ALG_RSA ? share_by_rsa(key, hash, &seed, &credential)
                                    : share_by_ecdh(&ek, key, hash, &seed, &credential);
    ok = ok && protect(&ek, hash, &seed, ak_name, ak_name_len, secret, &credential);
    OPENSSL_cleanse(&seed, sizeof(seed));
    EVP_PKEY_free(key);
    if (!ok)
        return TCCP_ERR_INTERNAL;
    *ret_credential = credential;
    return TCCP_OK;
}
