/* disk_check.c: proving and growing a disk that nobody is using. */
#include <stdlib.h>
#include <string.h>

#include "disk.h"

tccp_status tccp_disk_verify(tccp_disk *disk, uint64_t block, uint64_t count, uint64_t *ret_bad,
                             uint64_t *ret_first_bad)
{
    uint8_t bytes[DISK_BLOCK];
    uint64_t bad = 0, first_bad = 0;
    if (disk == NULL || ret_bad == NULL || ret_first_bad == NULL || block > disk->blocks ||
        count > disk->blocks - block)
        return TCCP_ERR_USAGE;
    for (uint64_t at = block; at < block + count; at++) {
        tccp_status status = tccp_disk_read(disk, at * DISK_BLOCK, DISK_BLOCK, bytes);
        if (status != TCCP_OK && bad++ == 0)
            first_bad = at;
    }
    *ret_bad = bad;
    *ret_first_bad = first_bad;
    return TCCP_OK;
}

tccp_status tccp_disk_grow(tccp_disk *disk, uint64_t size_bytes)
{
    if (disk == NULL || disk->read_only || size_bytes % DISK_BLOCK != 0 ||
        size_bytes / DISK_BLOCK > DISK_BLOCKS_MAX || size_bytes / DISK_BLOCK < disk->blocks)
        return TCCP_ERR_USAGE;
    (void) pthread_mutex_lock(&disk->commit_lock);
    tccp_status status = disk_tree_size(disk, size_bytes / DISK_BLOCK);
    if (status == TCCP_OK)
        status = disk_checkpoint(disk);
    /* No record may speak of blocks that the superblock does not know. */
    (void) pthread_mutex_lock(&disk->lock);
    disk->failed |= status != TCCP_OK;
    (void) pthread_mutex_unlock(&disk->lock);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    return status;
}
