/* ima.h: what the files about IMA share. Private to the core. */
#ifndef TCCP_IMA_H
#define TCCP_IMA_H

#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and its kin: see ima_hash */

#include <stdbool.h>
#include <string.h>

#include <openssl/sha.h>

#include "event_log.h"

enum { IMA_SHA1 = 1, IMA_SHA256 = 2, IMA_SHA384 = 3, IMA_SHA512 = 4 };
enum { IMA_TEMPLATE_NAME_BYTES_MAX = 64, IMA_PLAIN_NAME_BYTES = 256 };

/* The digest of a file or buffer; NULL where its kind is none that we know. */
static inline const uint8_t *ima_digest(const uint8_t *list, const tccp_ima_entry *entry, size_t *ret_len)
{
    *ret_len = entry->digest_bank == 0 ? 0 : BANK[entry->digest_bank - 1].digest_len;
    return entry->digest_bank == 0 ? NULL : list + entry->digest_offset;
}

/* H(first || second) in the bank of an IMA_ number, at least one of them not empty; false when libcrypto fails.
 * An entry costs three hashes of two blocks each, for which the way through EVP takes longer than the hashing. */
static inline bool ima_hash(hasher *h, int bank, span first, span second, uint8_t *ret_digest)
{
    if (bank != IMA_SHA256)
        return hash_two(h, bank - 1, first, second, ret_digest);
    SHA256_CTX context;
    return SHA256_Init(&context) == 1 && SHA256_Update(&context, first.bytes, first.len) == 1 &&
           (second.len == 0 || SHA256_Update(&context, second.bytes, second.len) == 1) &&
           SHA256_Final(ret_digest, &context) == 1;
}

/* The digest_bank of an algorithm's name as the kernel writes it ("sha256"); 0 for every other. */
uint8_t ima_bank_of(span name);

/* Fetch SHA-1 and SHA-2; false when libcrypto fails. Closed in any case. */
bool ima_open_hashes(hasher *h);
void ima_close_hashes(hasher *h);

/* A keyring: public keys that may have signed files. */
typedef struct ima_key ima_key;

/* From a DER SubjectPublicKeyInfo, RSA 2048 to 4096 or ECC P-256 or P-384. */
TCCP_MUST_USE tccp_status ima_key_from_spki(span spki, ima_key **ret_key);
void ima_key_free(ima_key *key);

/* Did one of the keys sign this file? signature is the value of security.ima; digest is the file's.
 * Source: Linux, security/integrity/integrity.h (signature_v2_hdr). */
bool ima_signature_holds(ima_key *const *keys, size_t key_count, uint8_t digest_bank, span digest, span signature);

/* Likewise for a signature that is appended to a file; digest is of the file without it.
 * Source: Linux, scripts/sign-file.c (CMS without attributes). */
bool ima_modsig_holds(ima_key *const *keys, size_t key_count, uint8_t digest_bank, span digest, span modsig);

#endif /* TCCP_IMA_H */
