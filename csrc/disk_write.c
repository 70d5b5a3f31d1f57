/* disk_write.c: writing, zeroing and flushing, from any number of threads. */
#include <sched.h>
#include <string.h>

#include "disk.h"

enum { WRITE_BATCH = 32 };  /* sealed on the stack, and still in the cache when the kernel copies it */

static const uint8_t ZEROS[DISK_BLOCK];

int disk_change_waits(tccp_disk *disk, uint64_t offset, uint64_t len)
{
    if (offset % DISK_BLOCK != 0 || len % DISK_BLOCK != 0)
        return 1;
    (void) pthread_mutex_lock(&disk->lock);
    int waits = disk->dirty.len + disk->reserved + len / DISK_BLOCK > disk->dirty_max;
    (void) pthread_mutex_unlock(&disk->lock);
    return waits;
}

/* Wait until the next record has room for count more blocks. */
static tccp_status reserve(tccp_disk *disk, uint64_t count)
{
    tccp_status status = TCCP_OK;
    (void) pthread_mutex_lock(&disk->lock);
    while (status == TCCP_OK && disk->dirty.len + disk->reserved + count > disk->dirty_max) {
        (void) pthread_mutex_unlock(&disk->lock);
        status = tccp_disk_flush(disk);
        (void) sched_yield();  /* the others that hold reservations are about to make them dirty */
        (void) pthread_mutex_lock(&disk->lock);
    }
    if (status == TCCP_OK && disk->failed)
        status = TCCP_ERR_IO;
    if (status == TCCP_OK)
        disk->reserved += count;
    (void) pthread_mutex_unlock(&disk->lock);
    return status;
}

static void unreserve(tccp_disk *disk, uint64_t count)
{
    (void) pthread_mutex_lock(&disk->lock);
    disk->reserved -= count;
    (void) pthread_mutex_unlock(&disk->lock);
}

/* The lock is held. */
static void publish(tccp_disk *disk, uint64_t block, const disk_entry *entry)
{
    disk_entry *at = &disk->level[0].entries[block];
    disk_tree_keep(disk, block / DISK_FANOUT);
    int was_dirty = (at->place & DISK_DIRTY) != 0;
    if (disk_state(at) == DISK_STATE_DATA) {
        uint64_t punch = disk_state(entry) == DISK_STATE_ZERO ? DISK_RETIRED_PUNCH : 0;
        if (was_dirty)
            disk_slots_give(&disk->slots, disk_slot(at));
        else if (!disk_list_push(&disk->retired, disk_slot(at) | punch))
            disk->failed = 1;  /* a slot that leaks is no harm, one that is given away too early would be */
    }
    if (!was_dirty && !disk_list_push(&disk->dirty, block))
        disk->failed = 1;
    *at = *entry;
    at->place |= DISK_DIRTY;
    disk_tree_changed(disk, 0, block / DISK_FANOUT);
}

void disk_no_room(tccp_disk *disk, tccp_status status)
{
    if (status != TCCP_ERR_NO_SPACE)
        return;
    disk->no_room = 1;
    disk->slots.next = 0;
}

/* Take count slots, as few runs as there are; slots[i] is that of block i. */
static tccp_status take_slots(tccp_disk *disk, uint32_t count, uint64_t *slots, uint64_t *ret_counter)
{
    uint32_t taken = 0;
    (void) pthread_mutex_lock(&disk->lock);
    while (taken < count) {
        uint64_t first;
        uint32_t got = disk_slots_take(&disk->slots, count - taken, !disk->no_room, &first);
        if (got == 0)
            break;
        for (uint32_t i = 0; i < got; i++)
            slots[taken + i] = first + i;
        taken += got;
    }
    for (uint32_t i = 0; taken < count && i < taken; i++)
        disk_slots_give(&disk->slots, slots[i]);
    *ret_counter = disk->counter + 1;
    disk->counter += count;
    (void) pthread_mutex_unlock(&disk->lock);
    return taken == count ? TCCP_OK : TCCP_ERR_NO_MEMORY;
}

/* Seal blocks into free slots and make entries of them; nothing refers to the slots yet. */
static tccp_status store_once(tccp_disk *disk, uint64_t block, uint32_t count, const uint8_t *bytes, disk_entry *entries)
{
    uint8_t sealed[WRITE_BATCH * DISK_BLOCK];
    uint64_t slots[WRITE_BATCH], counter = 0;
    tccp_status status = take_slots(disk, count, slots, &counter);
    if (status != TCCP_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        entries[i].place = DISK_STATE_DATA | slots[i];
        entries[i].counter = counter + i;
        memcpy(entries[i].salt, disk->salt, DISK_SALT_BYTES);
        disk_seal(&disk->keys->data, counter + i, block + i, disk->salt, bytes + (size_t) i * DISK_BLOCK,
                  sealed + (size_t) i * DISK_BLOCK, DISK_BLOCK, entries[i].tag);
    }
    for (uint32_t i = 0, run; i < count && status == TCCP_OK; i += run) {
        run = disk_run_of(entries + i, count - i);
        status = disk_status_of(disk->io.write(disk->io.context, sealed + (size_t) i * DISK_BLOCK,
                                               (size_t) run * DISK_BLOCK, disk_slot_offset(disk, slots[i])));
    }
    if (status != TCCP_OK) {
        (void) pthread_mutex_lock(&disk->lock);
        for (uint32_t i = 0; i < count; i++)
            disk_slots_give(&disk->slots, slots[i]);
        disk_no_room(disk, status);
        (void) pthread_mutex_unlock(&disk->lock);
    }
    return status;
}

/* A full file system is tried once more: there may be room in the file itself. */
static tccp_status store(tccp_disk *disk, uint64_t block, uint32_t count, const uint8_t *bytes, disk_entry *entries)
{
    tccp_status status = store_once(disk, block, count, bytes, entries);
    return status == TCCP_ERR_NO_SPACE ? store_once(disk, block, count, bytes, entries) : status;
}

static tccp_status write_blocks(tccp_disk *disk, uint64_t block, uint32_t count, const uint8_t *bytes)
{
    disk_entry entries[WRITE_BATCH];
    tccp_status status = reserve(disk, count);
    if (status != TCCP_OK)
        return status;
    status = store(disk, block, count, bytes, entries);
    (void) pthread_mutex_lock(&disk->lock);
    disk->reserved -= count;
    for (uint32_t i = 0; i < count && status == TCCP_OK; i++)
        publish(disk, block + i, &entries[i]);
    disk_keeper_look(disk);
    (void) pthread_mutex_unlock(&disk->lock);
    return status;
}

static int same(const disk_entry *a, const disk_entry *b)
{
    return (a->place & ~DISK_DIRTY) == (b->place & ~DISK_DIRTY) && a->counter == b->counter &&
           memcmp(a->salt, b->salt, DISK_SALT_BYTES) == 0;
}

/* Change some bytes of a block. When somebody else changed the block meanwhile, both changes must be seen: begin again
 * with what is there now. */
static tccp_status change_block(tccp_disk *disk, uint64_t block, size_t from, size_t len, const uint8_t *bytes)
{
    uint8_t whole[DISK_BLOCK];
    for (int done = 0; !done;) {
        disk_entry before, after;
        tccp_status status = disk_read_blocks(disk, block, 1, &before, whole, NULL);
        if (status != TCCP_OK)
            return status;
        memcpy(whole + from, bytes, len);
        status = reserve(disk, 1);
        if (status != TCCP_OK)
            return status;
        status = store(disk, block, 1, whole, &after);
        if (status != TCCP_OK) {
            unreserve(disk, 1);
            return status;
        }
        (void) pthread_mutex_lock(&disk->lock);
        disk->reserved--;
        done = same(&before, &disk->level[0].entries[block]);
        if (done)
            publish(disk, block, &after);
        else
            disk_slots_give(&disk->slots, disk_slot(&after));
        (void) pthread_mutex_unlock(&disk->lock);
    }
    return TCCP_OK;
}

tccp_status tccp_disk_write(tccp_disk *disk, uint64_t offset, size_t len, const uint8_t *bytes)
{
    tccp_status status = TCCP_OK;
    if (disk == NULL || (bytes == NULL && len > 0) || disk->read_only || !disk_inside(disk, offset, len))
        return TCCP_ERR_USAGE;
    while (len > 0 && status == TCCP_OK) {
        uint64_t block = offset / DISK_BLOCK;
        size_t from = offset % DISK_BLOCK, part;
        if (from != 0 || len < DISK_BLOCK) {
            part = len < DISK_BLOCK - from ? len : DISK_BLOCK - from;
            status = change_block(disk, block, from, part, bytes);
        } else {
            size_t count = len / DISK_BLOCK < WRITE_BATCH ? len / DISK_BLOCK : WRITE_BATCH;
            part = count * DISK_BLOCK;
            status = write_blocks(disk, block, (uint32_t) count, bytes);
        }
        bytes += part;
        offset += part;
        len -= part;
    }
    return status;
}

static tccp_status zero_blocks(tccp_disk *disk, uint64_t block, uint32_t count)
{
    disk_entry zero = {.place = DISK_STATE_ZERO};
    tccp_status status = reserve(disk, count);
    if (status != TCCP_OK)
        return status;
    (void) pthread_mutex_lock(&disk->lock);
    disk->reserved -= count;
    for (uint32_t i = 0; i < count; i++)
        if (!disk_reads_as_zeros(disk, block + i)) {
            /* A counter of its own, so that a change to the block in between is seen. */
            zero.counter = ++disk->counter;
            memcpy(zero.salt, disk->salt, DISK_SALT_BYTES);
            publish(disk, block + i, &zero);
        }
    (void) pthread_mutex_unlock(&disk->lock);
    return TCCP_OK;
}

tccp_status tccp_disk_zero(tccp_disk *disk, uint64_t offset, uint64_t len)
{
    tccp_status status = TCCP_OK;
    if (disk == NULL || disk->read_only || !disk_inside(disk, offset, len))
        return TCCP_ERR_USAGE;
    while (len > 0 && status == TCCP_OK) {
        uint64_t block = offset / DISK_BLOCK, part;
        size_t from = offset % DISK_BLOCK;
        if (from != 0 || len < DISK_BLOCK) {
            part = len < DISK_BLOCK - from ? len : DISK_BLOCK - from;
            status = change_block(disk, block, from, (size_t) part, ZEROS);
        } else {
            uint64_t count = len / DISK_BLOCK < WRITE_BATCH ? len / DISK_BLOCK : WRITE_BATCH;
            part = count * DISK_BLOCK;
            status = zero_blocks(disk, block, (uint32_t) count);
        }
        offset += part;
        len -= part;
    }
    return status;
}

tccp_status tccp_disk_flush(tccp_disk *disk)
{
    if (disk == NULL)
        return TCCP_ERR_USAGE;
    if (disk->read_only)
        return TCCP_OK;
    (void) pthread_mutex_lock(&disk->lock);
    uint64_t wanted = disk->commits_started + 1;  /* the first commit that surely has all that was written so far */
    (void) pthread_mutex_unlock(&disk->lock);
    (void) pthread_mutex_lock(&disk->commit_lock);
    tccp_status status = disk->commits_done >= wanted ? TCCP_OK : disk_commit(disk, 0);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    return status;
}
