/* test_aead.c: two messages at once give the very bytes that libsodium gives of each, and are refused when it refuses. */
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../aegis_pair.h"
#include "check.h"

enum { BYTES_MAX = 65536 };

static const size_t lengths[] = {0, 16, 32, 48, 4096, 65520, BYTES_MAX};
static const uint32_t suites[] = {AEAD_AEGIS256, AEAD_XCHACHA20_POLY1305};
static uint8_t plain[2][BYTES_MAX], sealed[2][BYTES_MAX], opened[2][BYTES_MAX];
static uint8_t nonces[2][AEAD_NONCE_BYTES], key[AEAD_KEY_BYTES], tags[2][AEAD_TAG_BYTES];

static aead_pair pair_of(uint8_t to[2][BYTES_MAX], uint8_t from[2][BYTES_MAX])
{
    return (aead_pair){{to[0], to[1]}, {from[0], from[1]}, {nonces[0], nonces[1]}};
}

/* New messages, keys and nonces, sealed one by one. */
static void begin(uint32_t suite, size_t len)
{
    randombytes_buf(plain, sizeof plain);
    randombytes_buf(nonces, sizeof nonces);
    randombytes_buf(key, sizeof key);
    for (int i = 0; i < 2; i++)
        aead_encrypt(suite, sealed[i], tags[i], plain[i], len, nonces[i], key);
    memset(opened, 0xaa, sizeof opened);
}

static bool is_filled(const uint8_t *bytes, size_t len, uint8_t with)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != with)
            return false;
    return true;
}

static void test_a_pair_is_sealed_to_what_each_is_sealed_to_alone(uint32_t suite, size_t len)
{
    uint8_t found[2][AEAD_TAG_BYTES];
    begin(suite, len);
    const aead_pair elsewhere = pair_of(opened, plain), in_place = pair_of(plain, plain);
    aead_encrypt_pair(suite, &elsewhere, len, key, found);
    CHECK(memcmp(found, tags, sizeof tags) == 0);
    aead_encrypt_pair(suite, &in_place, len, key, found);
    CHECK(memcmp(found, tags, sizeof tags) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(memcmp(opened[i], sealed[i], len) == 0 && is_filled(opened[i] + len, BYTES_MAX - len, 0xaa));
        CHECK(memcmp(plain[i], sealed[i], len) == 0);
    }
}

static void test_a_pair_is_opened_to_what_was_sealed(uint32_t suite, size_t len)
{
    begin(suite, len);
    const aead_pair elsewhere = pair_of(opened, sealed), in_place = pair_of(sealed, sealed);
    CHECK(aead_decrypt_pair(suite, &elsewhere, len, key, (const uint8_t(*)[AEAD_TAG_BYTES]) tags) == 2);
    CHECK(aead_decrypt_pair(suite, &in_place, len, key, (const uint8_t(*)[AEAD_TAG_BYTES]) tags) == 2);
    for (int i = 0; i < 2; i++) {
        CHECK(memcmp(opened[i], plain[i], len) == 0 && is_filled(opened[i] + len, BYTES_MAX - len, 0xaa));
        CHECK(memcmp(sealed[i], plain[i], len) == 0);
    }
}

/* Change one bit of what `which` of them needs; nothing of either may come out. */
static void refuse(uint32_t suite, size_t len, int which, uint8_t *byte)
{
    const aead_pair pair = pair_of(opened, sealed);
    memset(opened, 0xaa, sizeof opened);
    *byte ^= 1;
    CHECK(aead_decrypt_pair(suite, &pair, len, key, (const uint8_t(*)[AEAD_TAG_BYTES]) tags) == which);
    *byte ^= 1;
    for (int i = 0; i < 2; i++)
        CHECK(is_filled(opened[i], len, 0) || is_filled(opened[i], len, 0xaa));
}

static void test_whichever_of_a_pair_was_changed_neither_comes_out(uint32_t suite, size_t len)
{
    begin(suite, len);
    for (int which = 0; which < 2; which++) {
        for (size_t at = 0; at < len; at += len / 16)
            refuse(suite, len, which, &sealed[which][at]);
        refuse(suite, len, which, &sealed[which][len - 1]);
        for (size_t at = 0; at < AEAD_TAG_BYTES; at++)
            refuse(suite, len, which, &tags[which][at]);
        refuse(suite, len, which, &nonces[which][AEAD_NONCE_BYTES - 1]);
    }
    refuse(suite, len, 0, &key[0]);
    const aead_pair crossed = {{opened[0], opened[1]}, {sealed[1], sealed[0]}, {nonces[0], nonces[1]}};
    CHECK(aead_decrypt_pair(suite, &crossed, len, key, (const uint8_t(*)[AEAD_TAG_BYTES]) tags) == 0);
}

int main(void)
{
    if (!aead_ready())
        return 1;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            test_a_pair_is_sealed_to_what_each_is_sealed_to_alone(suites[i], lengths[k]);
            test_a_pair_is_opened_to_what_was_sealed(suites[i], lengths[k]);
        }
        test_whichever_of_a_pair_was_changed_neither_comes_out(suites[i], 256);
        test_whichever_of_a_pair_was_changed_neither_comes_out(suites[i], 4096);
    }
    return failures == 0 ? 0 : 1;
}
