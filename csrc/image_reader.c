/* image_reader.c: reading a sealed image at random, for the live disk above it. */
#define _XOPEN_SOURCE 700 /* fstat */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image.h"

struct image_reader {
    int fd;
    tccp_image_info info;
    image_keys *keys;
    uint8_t *tags; /* image_groups pages */
};

static tccp_status check_header(int fd, const uint8_t key[AEAD_KEY_BYTES], tccp_image_info *ret_info)
{
    struct stat file;
    if (fstat(fd, &file) != 0)
        return TCCP_ERR_IO;
    size_t len = file.st_size < TCCP_IMAGE_HEADER_BYTES ? (size_t) file.st_size : TCCP_IMAGE_HEADER_BYTES;
    uint8_t *header = malloc(TCCP_IMAGE_HEADER_BYTES);
    if (header == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = image_read_at(fd, header, len, 0) ? TCCP_OK : TCCP_ERR_IO;
    if (status == TCCP_OK)
        status = tccp_image_header_parse(header, len, (uint64_t) file.st_size, ret_info);
    if (status == TCCP_OK)
        status = image_header_check(header, ret_info, key);
    free(header);
    return status;
}

tccp_status image_reader_open(int fd, const uint8_t key[AEAD_KEY_BYTES], const uint8_t root[IMAGE_DIGEST_BYTES],
                              image_reader **ret_reader)
{
    if (!aead_ready())
        return TCCP_ERR_INTERNAL;
    tccp_image_info info;
    tccp_status status = check_header(fd, key, &info);
    if (status != TCCP_OK)
        return status;
    if (root != NULL && memcmp(root, info.root, sizeof info.root) != 0)
        return TCCP_ERR_ROOT;
    image_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return TCCP_ERR_NO_MEMORY;
    *reader = (image_reader){.fd = fd, .info = info, .keys = image_keys_derive(key, &info)};
    reader->tags = malloc((image_groups(info.size) + 1) * IMAGE_PAGE_BYTES);
    if (reader->keys == NULL || reader->tags == NULL)
        status = TCCP_ERR_NO_MEMORY;
    else
        status = image_check_pages(fd, &info, NULL, reader->tags);
    if (status != TCCP_OK) {
        image_reader_close(reader);
        return status;
    }
    *ret_reader = reader;
    return TCCP_OK;
}

void image_reader_close(image_reader *reader)
{
    if (reader == NULL)
        return;
    image_keys_free(reader->keys);
    free(reader->tags);
    free(reader);
}

const tccp_image_info *image_reader_info(const image_reader *reader)
{
    return &reader->info;
}

bool image_reader_chunk_is_zero(const image_reader *reader, uint64_t chunk)
{
    return chunk >= image_chunks(reader->info.size) ||
           image_chunk_is_zero(&reader->info, reader->keys, chunk, reader->tags + chunk * AEAD_TAG_BYTES);
}

tccp_status image_reader_chunk(const image_reader *reader, uint64_t chunk, uint8_t ret_plaintext[IMAGE_CHUNK_BYTES])
{
    if (image_reader_chunk_is_zero(reader, chunk)) {
        memset(ret_plaintext, 0, IMAGE_CHUNK_BYTES);
        return TCCP_OK;
    }
    if (!image_read_at(reader->fd, ret_plaintext, IMAGE_CHUNK_BYTES, image_chunk_offset(chunk)))
        return errno == ENODATA ? TCCP_ERR_TRUNCATED : TCCP_ERR_IO;
    if (image_chunk_open(&reader->info, reader->keys, chunk, ret_plaintext, ret_plaintext,
                         reader->tags + chunk * AEAD_TAG_BYTES))
        return TCCP_OK;
    memset(ret_plaintext, 0, IMAGE_CHUNK_BYTES); /* no ciphertext for plaintext */
    return TCCP_ERR_CHUNK_ALTERED;
}
