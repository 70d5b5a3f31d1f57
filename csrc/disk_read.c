/* disk_read.c: reading, from any number of threads. */
#include <errno.h>
#include <string.h>

#include "disk.h"

int disk_inside(const tccp_disk *disk, uint64_t offset, uint64_t len)
{
    uint64_t size = disk->blocks * DISK_BLOCK;
    return offset <= size && len <= size - offset;
}

tccp_status disk_read_slot(tccp_disk *disk, uint64_t block, const disk_entry *entry, uint8_t *buffer)
{
    int error = disk->io.read(disk->io.context, buffer, DISK_BLOCK, disk_slot_offset(disk, disk_slot(entry)));
    if (error != 0)
        return disk_status_of(error);
    return disk_unseal(&disk->keys->data, entry->counter, block, entry->salt, buffer, DISK_BLOCK, entry->tag);
}

/* With the lock held nobody can give this block's slot away: what does not verify now is altered. */
static tccp_status read_again(tccp_disk *disk, uint64_t block, disk_entry *ret_entry, uint8_t *buffer)
{
    tccp_status status = TCCP_OK;
    (void) pthread_mutex_lock(&disk->lock);
    *ret_entry = disk->level[0].entries[block];
    if (disk_state(ret_entry) == DISK_STATE_DATA)
        status = disk_read_slot(disk, block, ret_entry, buffer);
    else
        memset(buffer, 0, DISK_BLOCK);
    (void) pthread_mutex_unlock(&disk->lock);
    return status;
}

static tccp_status read_base(tccp_disk *disk, uint64_t block, uint32_t count, uint8_t *buffer)
{
    uint64_t there = block < disk->base.blocks ? disk->base.blocks - block : 0;
    if (there > count)
        there = count;
    if (there < count)
        memset(buffer + there * DISK_BLOCK, 0, (count - there) * DISK_BLOCK);
    return there == 0 ? TCCP_OK : disk->base.read(disk->base.context, block, (uint32_t) there, buffer);
}

uint32_t disk_run_of(const disk_entry *entries, uint32_t count)
{
    uint32_t run = 1;
    uint64_t step = disk_state(entries) == DISK_STATE_DATA;
    while (run < count && disk_state(&entries[run]) == disk_state(entries) &&
           disk_slot(&entries[run]) == disk_slot(entries) + run * step)
        run++;
    return run;
}

/* A base always waits: whether its file is in memory is not ours to know. */
static int base_waits(const tccp_disk *disk, uint64_t block, uint32_t count)
{
    for (uint32_t i = 0; i < count && block + i < disk->base.blocks; i++)
        if (disk->base.is_zero == NULL || !disk->base.is_zero(disk->base.context, block + i))
            return 1;
    return 0;
}

static int read_slots(tccp_disk *disk, const disk_entry *first, uint32_t count, uint8_t *buffer, int now)
{
    uint64_t offset = disk_slot_offset(disk, disk_slot(first));
    size_t len = (size_t) count * DISK_BLOCK;
    return now && disk->io.read_now != NULL ? disk->io.read_now(disk->io.context, buffer, len, offset)
                                            : disk->io.read(disk->io.context, buffer, len, offset);
}

tccp_status disk_read_blocks(tccp_disk *disk, uint64_t block, uint32_t count, disk_entry *entries, uint8_t *buffer,
                             int *ret_waits)
{
    (void) pthread_mutex_lock(&disk->lock);
    memcpy(entries, disk->level[0].entries + block, count * sizeof *entries);
    (void) pthread_mutex_unlock(&disk->lock);
    tccp_status status = TCCP_OK;
    int error;
    for (uint32_t i = 0; i < count && status == TCCP_OK && (ret_waits == NULL || !*ret_waits);) {
        uint32_t run = disk_run_of(entries + i, count - i);
        uint8_t *at = buffer + (size_t) i * DISK_BLOCK;
        switch (disk_state(&entries[i])) {
        case DISK_STATE_BASE:
            if (ret_waits != NULL && base_waits(disk, block + i, run))
                *ret_waits = 1;
            else
                status = read_base(disk, block + i, run, at);
            break;
        case DISK_STATE_ZERO: memset(at, 0, (size_t) run * DISK_BLOCK); break;
        default:
            error = read_slots(disk, &entries[i], run, at, ret_waits != NULL);
            if (ret_waits != NULL && error == EAGAIN) {
                *ret_waits = 1;
                break;
            }
            status = disk_status_of(error);
            for (uint32_t k = 0; k < run && status == TCCP_OK; k++, at += DISK_BLOCK)
                if (disk_unseal(&disk->keys->data, entries[i + k].counter, block + i + k, entries[i + k].salt, at,
                                DISK_BLOCK, entries[i + k].tag) != TCCP_OK)
                    status = read_again(disk, block + i + k, &entries[i + k], at);
        }
        i += run;
    }
    return status;
}

static tccp_status read_bytes(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer, int *ret_waits)
{
    disk_entry entries[DISK_BATCH];
    uint8_t partial[DISK_BLOCK];
    tccp_status status = TCCP_OK;
    if (disk == NULL || (buffer == NULL && len > 0) || !disk_inside(disk, offset, len))
        return TCCP_ERR_USAGE;
    while (len > 0 && status == TCCP_OK && (ret_waits == NULL || !*ret_waits)) {
        uint64_t block = offset / DISK_BLOCK;
        size_t from = offset % DISK_BLOCK, part;
        if (from != 0 || len < DISK_BLOCK) {
            part = len < DISK_BLOCK - from ? len : DISK_BLOCK - from;
            status = disk_read_blocks(disk, block, 1, entries, partial, ret_waits);
            if (status == TCCP_OK)
                memcpy(buffer, partial + from, part);
        } else {
            size_t count = len / DISK_BLOCK < DISK_BATCH ? len / DISK_BLOCK : DISK_BATCH;
            part = count * DISK_BLOCK;
            status = disk_read_blocks(disk, block, (uint32_t) count, entries, buffer, ret_waits);
        }
        buffer += part;
        offset += part;
        len -= part;
    }
    return status;
}

tccp_status tccp_disk_read(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer)
{
    return read_bytes(disk, offset, len, buffer, NULL);
}

tccp_status disk_read_now(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer, int *ret_waits)
{
    *ret_waits = 0;
    return read_bytes(disk, offset, len, buffer, ret_waits);
}

int disk_reads_as_zeros(const tccp_disk *disk, uint64_t block)
{
    uint64_t state = disk_state(&disk->level[0].entries[block]);
    if (state != DISK_STATE_BASE)
        return state == DISK_STATE_ZERO;
    return block >= disk->base.blocks ||
           (disk->base.is_zero != NULL && disk->base.is_zero(disk->base.context, block));
}

tccp_status disk_extent_of_state(tccp_disk *disk, uint64_t offset, uint64_t len, uint64_t *ret_state,
                                 uint64_t *ret_len)
{
    if (len == 0 || !disk_inside(disk, offset, len))
        return TCCP_ERR_USAGE;
    uint64_t block = offset / DISK_BLOCK, end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK;
    (void) pthread_mutex_lock(&disk->lock);
    const disk_entry *entries = disk->level[0].entries;
    uint64_t state = disk_state(&entries[block]);
    while (block + 1 < end && disk_state(&entries[block + 1]) == state)
        block++;
    (void) pthread_mutex_unlock(&disk->lock);
    uint64_t found = (block + 1) * DISK_BLOCK - offset;
    *ret_state = state;
    *ret_len = found < len ? found : len;
    return TCCP_OK;
}

tccp_status tccp_disk_extent(tccp_disk *disk, uint64_t offset, uint64_t len, int *ret_is_data, uint64_t *ret_len)
{
    if (disk == NULL || ret_is_data == NULL || ret_len == NULL || len == 0 || !disk_inside(disk, offset, len))
        return TCCP_ERR_USAGE;
    uint64_t block = offset / DISK_BLOCK, end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK;
    (void) pthread_mutex_lock(&disk->lock);
    int zeros = disk_reads_as_zeros(disk, block);
    while (block + 1 < end && disk_reads_as_zeros(disk, block + 1) == zeros)
        block++;
    (void) pthread_mutex_unlock(&disk->lock);
    uint64_t found = (block + 1) * DISK_BLOCK - offset;
    *ret_is_data = !zeros;
    *ret_len = found < len ? found : len;
    return TCCP_OK;
}
