/* image_chunk.c: the keys of an image, and one chunk under them. */
#include <sodium.h>
#include <string.h>

#include "image.h"

/* Where a chunk stands and what it is, in 32 bytes: no two messages under one key have the same. */
enum { KIND_DATA = 0, KIND_ZERO = 1 };

static void put_le(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t) (value >> 8 * i);
}

static void make_nonce(uint8_t nonce[AEAD_NONCE_BYTES], const tccp_image_info *info, uint64_t chunk, uint8_t kind)
{
    memcpy(nonce, info->file_nonce, 16);
    put_le(nonce + 16, chunk, 8);
    memset(nonce + 24, 0, 8);
    nonce[24] = chunk + 1 == image_chunks(info->size);
    nonce[25] = kind;
}

image_keys *image_keys_derive(const uint8_t key[AEAD_KEY_BYTES], const tccp_image_info *info)
{
    image_keys *keys = sodium_malloc(sizeof *keys);
    if (keys == NULL)
        return NULL;
    uint8_t context[16 + 4];
    memcpy(context, info->image_id, 16);
    put_le(context + 16, info->suite, 4);
    kdf_derive(keys->data, key, info->file_nonce, "tccp.image.data.", context, sizeof context);
    kdf_derive(keys->header, key, info->file_nonce, "tccp.image.head.", context, sizeof context);
    kdf_derive(keys->commitment, key, info->file_nonce, "tccp.image.comm.", context, sizeof context);
    return keys;
}

void image_keys_free(image_keys *keys)
{
    sodium_free(keys); /* wipes */
}

void image_chunk_seal_zero(const tccp_image_info *info, const image_keys *keys, uint64_t chunk,
                           uint8_t ret_tag[AEAD_TAG_BYTES])
{
    uint8_t nonce[AEAD_NONCE_BYTES], nothing[1] = {0};
    make_nonce(nonce, info, chunk, KIND_ZERO);
    aead_encrypt(info->suite, nothing, ret_tag, nothing, 0, nonce, keys->data);
}

bool image_chunk_is_zero(const tccp_image_info *info, const image_keys *keys, uint64_t chunk,
                         const uint8_t tag[AEAD_TAG_BYTES])
{
    uint8_t expected[AEAD_TAG_BYTES];
    image_chunk_seal_zero(info, keys, chunk, expected);
    return sodium_memcmp(expected, tag, AEAD_TAG_BYTES) == 0;
}

bool image_chunk_open(const tccp_image_info *info, const image_keys *keys, uint64_t chunk, uint8_t *plaintext,
                      const uint8_t *ciphertext, const uint8_t tag[AEAD_TAG_BYTES])
{
    uint8_t nonce[AEAD_NONCE_BYTES];
    make_nonce(nonce, info, chunk, KIND_DATA);
    return aead_decrypt(info->suite, plaintext, ciphertext, IMAGE_CHUNK_BYTES, tag, nonce, keys->data);
}

/* ---- many of them, two at a time --------------------------------------------------------------------------------- */

/* Chunks number `chunk` and the next, in place; nonces is where their nonces go. */
static aead_pair pair_at(const tccp_image_info *info, uint64_t chunk, uint8_t *bytes, uint8_t nonces[2][AEAD_NONCE_BYTES])
{
    uint8_t *second = bytes + IMAGE_CHUNK_BYTES;
    make_nonce(nonces[0], info, chunk, KIND_DATA);
    make_nonce(nonces[1], info, chunk + 1, KIND_DATA);
    return (aead_pair){{bytes, second}, {bytes, second}, {nonces[0], nonces[1]}};
}

void image_chunks_seal(const tccp_image_info *info, const image_keys *keys, uint64_t first, size_t count,
                       uint8_t *chunks, uint8_t *ret_tags)
{
    uint8_t nonces[2][AEAD_NONCE_BYTES];
    uint8_t(*tags)[AEAD_TAG_BYTES] = (uint8_t(*)[AEAD_TAG_BYTES]) ret_tags;
    size_t i = 0;
    for (; i + 1 < count; i += 2) {
        const aead_pair pair = pair_at(info, first + i, chunks + i * IMAGE_CHUNK_BYTES, nonces);
        aead_encrypt_pair(info->suite, &pair, IMAGE_CHUNK_BYTES, keys->data, tags + i);
    }
    if (i < count) {
        uint8_t *last = chunks + i * IMAGE_CHUNK_BYTES;
        make_nonce(nonces[0], info, first + i, KIND_DATA);
        aead_encrypt(info->suite, last, tags[i], last, IMAGE_CHUNK_BYTES, nonces[0], keys->data);
    }
}

size_t image_chunks_open(const tccp_image_info *info, const image_keys *keys, uint64_t first, size_t count,
                         uint8_t *chunks, const uint8_t *tags)
{
    uint8_t nonces[2][AEAD_NONCE_BYTES];
    size_t i = 0;
    for (; i + 1 < count; i += 2) {
        const aead_pair pair = pair_at(info, first + i, chunks + i * IMAGE_CHUNK_BYTES, nonces);
        int good = aead_decrypt_pair(info->suite, &pair, IMAGE_CHUNK_BYTES, keys->data,
                                     (const uint8_t(*)[AEAD_TAG_BYTES]) (tags + i * AEAD_TAG_BYTES));
        if (good < 2)
            return i + (size_t) good;
    }
    uint8_t *last = chunks + i * IMAGE_CHUNK_BYTES;
    if (i < count && !image_chunk_open(info, keys, first + i, last, last, tags + i * AEAD_TAG_BYTES))
        return i;
    return count;
}
