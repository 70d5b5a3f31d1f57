/* ima_signature.c: signatures over files, in the two forms in which IMA measures them.
 *
 *   security.ima   0x03 version(1)=2 hash_algo(1) keyid(4) sig_size(2) signature            big-endian, over the digest
 *   appended       CMS SignedData, detached and without signed attributes, as scripts/sign-file makes it
 */
#include "ima.h"

#include <stdlib.h>

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "reader.h"

enum { XATTR_DIGSIG = 0x03, DIGSIG_VERSION = 2, SIGNATURE_BYTES_MAX = 1024, MODSIG_BYTES_MAX = 65536, SIGNERS_MAX = 4 };

struct ima_key {
    EVP_PKEY *key;
    uint32_t id; /* the last four bytes of the SHA-1 of the key's bits: RFC 5280, 4.2.1.2 (1) */
};

/* ---- keys --------------------------------------------------------------------------------------------------- */

static bool is_strong(EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "RSA"))
        return EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 4096;
    return EVP_PKEY_is_a(key, "EC") && (EVP_PKEY_get_bits(key) == 256 || EVP_PKEY_get_bits(key) == 384);
}

static bool key_id(span spki, uint32_t *ret_id)
{
    const uint8_t *at = spki.bytes, *bits;
    int bits_len;
    uint8_t digest[20];
    X509_PUBKEY *parsed = d2i_X509_PUBKEY(NULL, &at, (long) spki.len);
    bool found = parsed != NULL && X509_PUBKEY_get0_param(NULL, &bits, &bits_len, NULL, parsed) == 1 &&
                 EVP_Q_digest(NULL, "SHA1", NULL, bits, (size_t) bits_len, digest, NULL) == 1;
    X509_PUBKEY_free(parsed);
    if (found)
        *ret_id = (uint32_t) digest[16] << 24 | (uint32_t) digest[17] << 16 | (uint32_t) digest[18] << 8 | digest[19];
    return found;
}

tccp_status ima_key_from_spki(span spki, ima_key **ret_key)
{
    const uint8_t *at = spki.bytes;
    uint32_t id = 0;
    if (spki.len > TCCP_SPKI_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long) spki.len);
    bool whole = key != NULL && at == spki.bytes + spki.len && key_id(spki, &id);
    bool strong = whole && is_strong(key);
    ima_key *made = strong ? malloc(sizeof *made) : NULL;
    if (made == NULL) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        return !whole ? TCCP_ERR_MALFORMED : strong ? TCCP_ERR_NO_MEMORY : TCCP_ERR_UNSUPPORTED;
    }
    *made = (ima_key){.key = key, .id = id};
    *ret_key = made;
    return TCCP_OK;
}

void ima_key_free(ima_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->key);
    free(key);
}

static bool verifies(const ima_key *key, const char *hash_name, span digest, span signature)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->key, NULL);
    EVP_MD *md = EVP_MD_fetch(NULL, hash_name, NULL);
    bool ready = context != NULL && md != NULL && EVP_PKEY_verify_init(context) == 1 &&
                 (!EVP_PKEY_is_a(key->key, "RSA") ||
                  EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1) &&
                 EVP_PKEY_CTX_set_signature_md(context, md) == 1;
    bool holds = ready && EVP_PKEY_verify(context, signature.bytes, signature.len, digest.bytes, digest.len) == 1;
    EVP_MD_free(md);
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return holds;
}

/* The id only says which key to try first: nothing makes two keys' ids differ. */
static bool one_verifies(ima_key *const *keys, size_t key_count, const uint32_t *id, const char *hash_name, span digest,
                         span signature)
{
    for (size_t i = 0; id != NULL && i < key_count; i++)
        if (keys[i]->id == *id && verifies(keys[i], hash_name, digest, signature))
            return true;
    for (size_t i = 0; i < key_count; i++)
        if ((id == NULL || keys[i]->id != *id) && verifies(keys[i], hash_name, digest, signature))
            return true;
    return false;
}

/* ---- security.ima ------------------------------------------------------------------------------------------- */

/* The kernel's enum hash_algo (include/uapi/linux/hash_info.h). */
static uint8_t bank_of_hash_algo(uint64_t number)
{
    switch (number) {
    case 4: return IMA_SHA256;
    case 5: return IMA_SHA384;
    case 6: return IMA_SHA512;
    default: return 0;
    }
}

bool ima_signature_holds(ima_key *const *keys, size_t key_count, uint8_t digest_bank, span digest, span signature)
{
    reader in = reader_of(signature.bytes, signature.len);
    uint64_t type = read_uint_be(&in, 1), version = read_uint_be(&in, 1), algorithm = read_uint_be(&in, 1);
    uint32_t id = (uint32_t) read_uint_be(&in, 4);
    size_t len = (size_t) read_uint_be(&in, 2);
    span bare = {read_bytes(&in, len), len};
    if (!reader_finished(&in) || type != XATTR_DIGSIG || version != DIGSIG_VERSION || len > SIGNATURE_BYTES_MAX)
        return false;
    if (digest_bank < IMA_SHA256 || bank_of_hash_algo(algorithm) != digest_bank)
        return false;
    return one_verifies(keys, key_count, &id, BANK[digest_bank - 1].name, digest, bare);
}

/* ---- appended signatures ------------------------------------------------------------------------------------- */

static bool is_hash(const X509_ALGOR *algorithm, uint8_t bank)
{
    static const int nids[] = {0, 0, NID_sha256, NID_sha384, NID_sha512};
    const ASN1_OBJECT *object;
    X509_ALGOR_get0(&object, NULL, NULL, algorithm);
    return OBJ_obj2nid(object) == nids[bank];
}

static bool signer_holds(CMS_SignerInfo *signer, ima_key *const *keys, size_t key_count, uint8_t bank, span digest)
{
    X509_ALGOR *hash, *unused;
    CMS_SignerInfo_get0_algs(signer, NULL, NULL, &hash, &unused);
    /* With signed attributes, the signature would be over them and not over the file. */
    if (!is_hash(hash, bank) || CMS_signed_get_attr_count(signer) > 0)
        return false;
    const ASN1_OCTET_STRING *signature = CMS_SignerInfo_get0_signature(signer);
    span bare = {ASN1_STRING_get0_data(signature), (size_t) ASN1_STRING_length(signature)};
    return bare.len <= SIGNATURE_BYTES_MAX && one_verifies(keys, key_count, NULL, BANK[bank - 1].name, digest, bare);
}

bool ima_modsig_holds(ima_key *const *keys, size_t key_count, uint8_t digest_bank, span digest, span modsig)
{
    if (digest_bank < IMA_SHA256 || modsig.len > MODSIG_BYTES_MAX)
        return false;
    const uint8_t *at = modsig.bytes;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long) modsig.len);
    STACK_OF(CMS_SignerInfo) *signers = cms == NULL ? NULL : CMS_get0_SignerInfos(cms);
    int count = signers == NULL ? 0 : sk_CMS_SignerInfo_num(signers);
    bool holds = false;
    for (int i = 0; i < count && count <= SIGNERS_MAX && !holds; i++)
        holds = signer_holds(sk_CMS_SignerInfo_value(signers, i), keys, key_count, digest_bank, digest);
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
    return holds;
}
