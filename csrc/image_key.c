/* image_key.c: the key of one image, in memory that is locked, guarded and wiped. */
#include <sodium.h>
#include <string.h>

#include "image.h"

struct tccp_image_key {
    uint8_t bytes[TCCP_IMAGE_KEY_BYTES];
};

static tccp_image_key *allocate(void)
{
    return aead_ready() ? sodium_malloc(sizeof(tccp_image_key)) : NULL;
}

tccp_status tccp_image_key_generate(tccp_image_key **ret_key)
{
    if (ret_key == NULL)
        return TCCP_ERR_USAGE;
    tccp_image_key *key = allocate();
    if (key == NULL)
        return TCCP_ERR_NO_MEMORY;
    randombytes_buf(key->bytes, sizeof key->bytes);
    *ret_key = key;
    return TCCP_OK;
}

tccp_status tccp_image_key_take(uint8_t *bytes, size_t bytes_len, tccp_image_key **ret_key)
{
    if (bytes == NULL || bytes_len != TCCP_IMAGE_KEY_BYTES || ret_key == NULL)
        return TCCP_ERR_USAGE;
    tccp_image_key *key = allocate();
    if (key == NULL)
        return TCCP_ERR_NO_MEMORY;
    memcpy(key->bytes, bytes, sizeof key->bytes);
    sodium_memzero(bytes, bytes_len);
    *ret_key = key;
    return TCCP_OK;
}

void tccp_image_key_free(tccp_image_key *key)
{
    sodium_free(key);
}

const uint8_t *tccp_image_key_bytes(const tccp_image_key *key)
{
    return key->bytes;
}

uint32_t tccp_image_suite_of_cpu(void)
{
    return aead_ready() ? aead_suite_of_cpu() : AEAD_XCHACHA20_POLY1305;
}
