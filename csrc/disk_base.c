/* disk_base.c: a sealed image as what a live disk shows where nothing has been written yet. */
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "image.h"

enum { BLOCKS_A_CHUNK = IMAGE_CHUNK_BYTES / DISK_BLOCK };

typedef struct image_base {
    tccp_disk_base base;         /* first: what the caller has is a pointer to it */
    image_reader *reader;
} image_base;

static tccp_status read_image(void *context, uint64_t block, uint32_t count, uint8_t *buffer)
{
    const image_base *from = context;
    uint8_t chunk[IMAGE_CHUNK_BYTES];
    tccp_status status = TCCP_OK;
    while (count > 0 && status == TCCP_OK) {
        uint32_t first = (uint32_t) (block % BLOCKS_A_CHUNK), part = BLOCKS_A_CHUNK - first;
        if (part > count)
            part = count;
        /* Only a whole chunk verifies; what is asked for is cut out of it. */
        uint8_t *into = part == BLOCKS_A_CHUNK ? buffer : chunk;
        status = image_reader_chunk(from->reader, block / BLOCKS_A_CHUNK, into);
        if (status == TCCP_OK && into == chunk)
            memcpy(buffer, chunk + (size_t) first * DISK_BLOCK, (size_t) part * DISK_BLOCK);
        buffer += (size_t) part * DISK_BLOCK;
        block += part;
        count -= part;
    }
    return status;
}

static int is_zero(void *context, uint64_t block)
{
    const image_base *from = context;
    return image_reader_chunk_is_zero(from->reader, block / BLOCKS_A_CHUNK);
}

tccp_status tccp_disk_base_open(int image, const tccp_disk_key *key, const uint8_t *root, tccp_disk_base **ret_base)
{
    if (image < 0 || key == NULL || ret_base == NULL)
        return TCCP_ERR_USAGE;
    image_base *made = calloc(1, sizeof *made);
    if (made == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = image_reader_open(image, key->bytes, root, &made->reader);
    if (status != TCCP_OK) {
        free(made);
        return status;
    }
    const tccp_image_info *info = image_reader_info(made->reader);
    made->base = (tccp_disk_base){
        .context = made,
        .blocks = info->size / DISK_BLOCK + (info->size % DISK_BLOCK != 0),
        .read = read_image,
        .is_zero = is_zero,
    };
    memcpy(made->base.root, info->root, sizeof made->base.root);
    *ret_base = &made->base;
    return TCCP_OK;
}

void tccp_disk_base_close(tccp_disk_base *base)
{
    image_base *made = (image_base *) base;
    if (made == NULL)
        return;
    image_reader_close(made->reader);
    free(made);
}
