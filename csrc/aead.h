/* aead.h: the two ciphers of sealed images and live disks, and how their keys are derived.
 *
 * Both take a 32-byte key, a 32-byte nonce and give a 32-byte tag; associated data is always empty, so that AEGIS-256
 * stays in the setting in which its 256-bit tag commits to the key. What a message must be bound to goes into the
 * nonce or into the derivation of the key.
 *
 *   AEGIS-256            the nonce whole, the tag whole
 *   XChaCha20-Poly1305   the last 24 bytes of the nonce; the tag's last 16 bytes are zero and must be
 *
 * Encryption and decryption in place are allowed: ciphertext and plaintext may be the same buffer, and nothing between.
 */
#ifndef TCCP_AEAD_H
#define TCCP_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AEAD_AEGIS256 = 1,
    AEAD_XCHACHA20_POLY1305 = 2,
    AEAD_KEY_BYTES = 32,
    AEAD_NONCE_BYTES = 32,
    AEAD_TAG_BYTES = 32,
    KDF_SALT_BYTES = 16,
    KDF_LABEL_BYTES = 16
};

/* Prepares libsodium; every function below needs it to have been called once. False: libsodium failed. */
bool aead_ready(void);

/* The suite for new images on this CPU: AEGIS-256 where there are AES instructions. */
uint32_t aead_suite_of_cpu(void);

bool aead_suite_known(uint32_t suite);

/* The suite must be a known one. */
void aead_encrypt(uint32_t suite, uint8_t *ciphertext, uint8_t ret_tag[AEAD_TAG_BYTES], const uint8_t *plaintext,
                  size_t len, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t key[AEAD_KEY_BYTES]);

/* False: the tag does not belong to this ciphertext, nonce and key; the plaintext is then zeros or untouched. */
bool aead_decrypt(uint32_t suite, uint8_t *plaintext, const uint8_t *ciphertext, size_t len,
                  const uint8_t tag[AEAD_TAG_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES],
                  const uint8_t key[AEAD_KEY_BYTES]);

/* Two messages of one length under one key, each in place or into another buffer; the nonces differ. */
typedef struct aead_pair {
    uint8_t *to[2];
    const uint8_t *from[2];
    const uint8_t *nonces[2]; /* AEAD_NONCE_BYTES each */
} aead_pair;

/* What two calls of aead_encrypt or aead_decrypt do, in less time where the CPU has AES for vectors. len is a multiple of 16.
 * The number of messages, from the first on, whose tags are theirs: less than 2, and the plaintext of both is zeros or
 * untouched. */
void aead_encrypt_pair(uint32_t suite, const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                       uint8_t ret_tags[2][AEAD_TAG_BYTES]);
int aead_decrypt_pair(uint32_t suite, const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                      const uint8_t tags[2][AEAD_TAG_BYTES]);

/* A subkey: BLAKE2b-256 with the key, a salt and a label of exactly 16 characters ("tccp image data "), over context.
 * Different labels, salts or contexts give independent keys; an output also commits to the key. */
void kdf_derive(uint8_t ret_subkey[AEAD_KEY_BYTES], const uint8_t key[AEAD_KEY_BYTES],
                const uint8_t salt[KDF_SALT_BYTES], const char label[KDF_LABEL_BYTES + 1], const void *context,
                size_t context_len);

#endif /* TCCP_AEAD_H */
