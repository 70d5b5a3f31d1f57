/* aead.c: AEGIS-256 and XChaCha20-Poly1305 of libsodium under one face. */
#include "aead.h"

#include <sodium.h>
#include <string.h>

#include "aegis_pair.h"

_Static_assert(crypto_aead_aegis256_KEYBYTES == AEAD_KEY_BYTES, "AEGIS-256 key");
_Static_assert(crypto_aead_aegis256_NPUBBYTES == AEAD_NONCE_BYTES, "AEGIS-256 nonce");
_Static_assert(crypto_aead_aegis256_ABYTES == AEAD_TAG_BYTES, "AEGIS-256 tag");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == AEAD_KEY_BYTES, "XChaCha20-Poly1305 key");
_Static_assert(crypto_generichash_blake2b_SALTBYTES == KDF_SALT_BYTES, "BLAKE2b salt");
_Static_assert(crypto_generichash_blake2b_PERSONALBYTES == KDF_LABEL_BYTES, "BLAKE2b personalisation");

enum {
    XCHACHA_NONCE_OFFSET = AEAD_NONCE_BYTES - crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    XCHACHA_TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES
};

bool aead_ready(void)
{
    return sodium_init() >= 0;
}

uint32_t aead_suite_of_cpu(void)
{
    bool has_aes = sodium_runtime_has_aesni() || sodium_runtime_has_armcrypto();
    return has_aes ? AEAD_AEGIS256 : AEAD_XCHACHA20_POLY1305;
}

bool aead_suite_known(uint32_t suite)
{
    return suite == AEAD_AEGIS256 || suite == AEAD_XCHACHA20_POLY1305;
}

void aead_encrypt(uint32_t suite, uint8_t *ciphertext, uint8_t ret_tag[AEAD_TAG_BYTES], const uint8_t *plaintext,
                  size_t len, const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t key[AEAD_KEY_BYTES])
{
    if (suite == AEAD_AEGIS256) {
        crypto_aead_aegis256_encrypt_detached(ciphertext, ret_tag, NULL, plaintext, len, NULL, 0, NULL, nonce, key);
        return;
    }
    memset(ret_tag + XCHACHA_TAG_BYTES, 0, AEAD_TAG_BYTES - XCHACHA_TAG_BYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(ciphertext, ret_tag, NULL, plaintext, len, NULL, 0, NULL,
                                                        nonce + XCHACHA_NONCE_OFFSET, key);
}

bool aead_decrypt(uint32_t suite, uint8_t *plaintext, const uint8_t *ciphertext, size_t len,
                  const uint8_t tag[AEAD_TAG_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES],
                  const uint8_t key[AEAD_KEY_BYTES])
{
    if (suite == AEAD_AEGIS256)
        return crypto_aead_aegis256_decrypt_detached(plaintext, NULL, ciphertext, len, tag, NULL, 0, nonce, key) == 0;
    return sodium_is_zero(tag + XCHACHA_TAG_BYTES, AEAD_TAG_BYTES - XCHACHA_TAG_BYTES) &&
           crypto_aead_xchacha20poly1305_ietf_decrypt_detached(plaintext, NULL, ciphertext, len, tag, NULL, 0,
                                                               nonce + XCHACHA_NONCE_OFFSET, key) == 0;
}

void aead_encrypt_pair(uint32_t suite, const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                       uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
    if (suite == AEAD_AEGIS256 && aegis_pair_available()) {
        aegis_pair_encrypt(messages, len, key, ret_tags);
        return;
    }
    for (int i = 0; i < 2; i++)
        aead_encrypt(suite, messages->to[i], ret_tags[i], messages->from[i], len, messages->nonces[i], key);
}

int aead_decrypt_pair(uint32_t suite, const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                      const uint8_t tags[2][AEAD_TAG_BYTES])
{
    int good = 0;
    if (suite == AEAD_AEGIS256 && aegis_pair_available()) {
        uint8_t expected[2][AEAD_TAG_BYTES];
        aegis_pair_decrypt(messages, len, key, expected);
        while (good < 2 && sodium_memcmp(expected[good], tags[good], AEAD_TAG_BYTES) == 0)
            good++;
        sodium_memzero(expected, sizeof expected); /* of a forgery, they would be the right ones */
    } else {
        while (good < 2 && aead_decrypt(suite, messages->to[good], messages->from[good], len, tags[good],
                                        messages->nonces[good], key))
            good++;
    }
    for (int i = 0; good < 2 && i < 2; i++)
        memset(messages->to[i], 0, len);
    return good;
}

void kdf_derive(uint8_t ret_subkey[AEAD_KEY_BYTES], const uint8_t key[AEAD_KEY_BYTES],
                const uint8_t salt[KDF_SALT_BYTES], const char label[KDF_LABEL_BYTES + 1], const void *context,
                size_t context_len)
{
    crypto_generichash_blake2b_salt_personal(ret_subkey, AEAD_KEY_BYTES, context, context_len, key, AEAD_KEY_BYTES,
                                             salt, (const uint8_t *) label);
}
