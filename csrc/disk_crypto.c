/* disk_crypto.c: keys, nonces and tags of live disks: AEGIS-256 with 32-byte tags and empty associated data. */
#define _GNU_SOURCE
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

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

tccp_status disk_keys_derive(const tccp_disk_key *key, const uint8_t disk_id[16], disk_keys **ret_keys)
{
    if (sodium_init() < 0)
        return TCCP_ERR_INTERNAL;
    disk_keys *keys = sodium_malloc(sizeof *keys);
    if (keys == NULL)
        return TCCP_ERR_NO_MEMORY;
    if (derive(key, disk_id, "data", keys->data) != 0 || derive(key, disk_id, "tree", keys->tree) != 0 ||
        derive(key, disk_id, "log", keys->log) != 0 || derive(key, disk_id, "header", keys->header) != 0 ||
        derive(key, disk_id, "commitment", keys->commitment) != 0) {
        sodium_free(keys);
        return TCCP_ERR_INTERNAL;
    }
    *ret_keys = keys;
    return TCCP_OK;
}

void disk_keys_free(disk_keys *keys)
{
    sodium_free(keys);
}

static void make_nonce(uint8_t nonce[crypto_aead_aegis256_NPUBBYTES], uint64_t counter, uint64_t number,
                       const uint8_t salt[DISK_SALT_BYTES])
{
    disk_put64(nonce, counter);
    disk_put64(nonce + 8, number);
    memcpy(nonce + 16, salt, DISK_SALT_BYTES);
}

void disk_seal(const uint8_t key[32], uint64_t counter, uint64_t number, const uint8_t salt[DISK_SALT_BYTES],
               const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t ret_tag[DISK_TAG_BYTES])
{
    uint8_t nonce[crypto_aead_aegis256_NPUBBYTES];
    make_nonce(nonce, counter, number, salt);
    crypto_aead_aegis256_encrypt_detached(sealed, ret_tag, NULL, plain, len, NULL, 0, NULL, nonce, key);
}

tccp_status disk_unseal(const uint8_t key[32], uint64_t counter, uint64_t number, const uint8_t salt[DISK_SALT_BYTES],
                        uint8_t *bytes, size_t len, const uint8_t tag[DISK_TAG_BYTES])
{
    uint8_t nonce[crypto_aead_aegis256_NPUBBYTES];
    make_nonce(nonce, counter, number, salt);
    if (crypto_aead_aegis256_decrypt_detached(bytes, NULL, bytes, len, tag, NULL, 0, nonce, key) != 0)
        return TCCP_ERR_DISK_CORRUPT;
    return TCCP_OK;
}
