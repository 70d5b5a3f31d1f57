/* disk_crypto.c: keys, nonces and tags of live disks.
 *
 * A pair of counter and salt comes once for each key. The number binds what is sealed to its place once more; the place
 * in the tree or the log does so already.
 *   AEGIS-256            nonce: counter, number, salt
 *   XChaCha20-Poly1305   nonce: counter, salt; associated data: number; the tag's last 16 bytes are zero and must be
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "aead.h"
#include "disk.h"

tccp_status tccp_disk_key_read(int descriptor, tccp_disk_key **ret_key)
{
    if (descriptor < 0 || ret_key == NULL)
        return TCCP_ERR_USAGE;
    if (sodium_init() < 0)
        return TCCP_ERR_INTERNAL;
    /* One byte more than a key: a longer secret is another thing than a key. */
    uint8_t *room = sodium_malloc(TCCP_DISK_KEY_BYTES + 1);
    tccp_disk_key *key = sodium_malloc(sizeof *key);
    size_t len = 0;
    tccp_status status = room == NULL || key == NULL ? TCCP_ERR_NO_MEMORY : TCCP_OK;
    while (status == TCCP_OK && len <= TCCP_DISK_KEY_BYTES) {
        ssize_t got = read(descriptor, room + len, TCCP_DISK_KEY_BYTES + 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = TCCP_ERR_IO;
        if (got <= 0)
            break;
        len += (size_t) got;
    }
    if (status == TCCP_OK && len != TCCP_DISK_KEY_BYTES)
        status = TCCP_ERR_MALFORMED;
    if (status == TCCP_OK) {
        memcpy(key->bytes, room, sizeof key->bytes);
        *ret_key = key;
    } else {
        sodium_free(key);
    }
    sodium_free(room);
    return status;
}

void tccp_disk_key_free(tccp_disk_key *key)
{
    sodium_free(key);
}

static int derive(const tccp_disk_key *key, const uint8_t disk_id[16], const char *purpose, uint8_t ret[32])
{
    static const uint8_t person[crypto_generichash_blake2b_PERSONALBYTES] = "tccp-live-disk1";
    return crypto_generichash_blake2b_salt_personal(ret, 32, (const uint8_t *) purpose, strlen(purpose), key->bytes,
                                                    sizeof key->bytes, disk_id, person);
}

tccp_status disk_keys_derive(const tccp_disk_key *key, const uint8_t disk_id[16], uint32_t suite,
                             disk_keys **ret_keys)
{
    if (sodium_init() < 0)
        return TCCP_ERR_INTERNAL;
    disk_keys *keys = sodium_malloc(sizeof *keys);
    if (keys == NULL)
        return TCCP_ERR_NO_MEMORY;
    if (derive(key, disk_id, "data", keys->data.key) != 0 ||
        derive(key, disk_id, "tree", keys->tree.key) != 0 || derive(key, disk_id, "log", keys->log.key) != 0 ||
        derive(key, disk_id, "header", keys->header) != 0 || derive(key, disk_id, "commitment", keys->commitment) != 0) {
        sodium_free(keys);
        return TCCP_ERR_INTERNAL;
    }
    keys->data.suite = keys->tree.suite = keys->log.suite = suite;
    *ret_keys = keys;
    return TCCP_OK;
}

void disk_keys_free(disk_keys *keys)
{
    sodium_free(keys);
}

enum {
    XCHACHA_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    XCHACHA_TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES
};

/* Returns where the number stands, which the second suite takes as associated data. */
static const uint8_t *make_nonce(uint32_t suite, uint8_t nonce[AEAD_NONCE_BYTES], uint64_t counter, uint64_t number,
                                 const uint8_t salt[DISK_SALT_BYTES])
{
    uint8_t *number_at = suite == AEAD_AEGIS256 ? nonce + 8 : nonce + XCHACHA_NONCE_BYTES;
    disk_put64(nonce, counter);
    disk_put64(number_at, number);
    memcpy(suite == AEAD_AEGIS256 ? nonce + 16 : nonce + 8, salt, DISK_SALT_BYTES);
    return number_at;
}

void disk_seal(const disk_cipher *cipher, uint64_t counter, uint64_t number, const uint8_t salt[DISK_SALT_BYTES],
               const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t ret_tag[DISK_TAG_BYTES])
{
    uint8_t nonce[AEAD_NONCE_BYTES];
    const uint8_t *bound = make_nonce(cipher->suite, nonce, counter, number, salt);
    if (cipher->suite == AEAD_AEGIS256) {
        crypto_aead_aegis256_encrypt_detached(sealed, ret_tag, NULL, plain, len, NULL, 0, NULL, nonce, cipher->key);
        return;
    }
    memset(ret_tag + XCHACHA_TAG_BYTES, 0, DISK_TAG_BYTES - XCHACHA_TAG_BYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(sealed, ret_tag, NULL, plain, len, bound, 8, NULL, nonce,
                                                        cipher->key);
}

tccp_status disk_unseal(const disk_cipher *cipher, uint64_t counter, uint64_t number,
                        const uint8_t salt[DISK_SALT_BYTES], uint8_t *bytes, size_t len,
                        const uint8_t tag[DISK_TAG_BYTES])
{
    uint8_t nonce[AEAD_NONCE_BYTES];
    const uint8_t *bound = make_nonce(cipher->suite, nonce, counter, number, salt);
    int altered;
    if (cipher->suite == AEAD_AEGIS256)
        altered = crypto_aead_aegis256_decrypt_detached(bytes, NULL, bytes, len, tag, NULL, 0, nonce, cipher->key);
    else
        altered = !sodium_is_zero(tag + XCHACHA_TAG_BYTES, DISK_TAG_BYTES - XCHACHA_TAG_BYTES) ||
                  crypto_aead_xchacha20poly1305_ietf_decrypt_detached(bytes, NULL, bytes, len, tag, bound, 8, nonce,
                                                                      cipher->key);
    return altered ? TCCP_ERR_DISK_CORRUPT : TCCP_OK;
}
