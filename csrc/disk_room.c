/* disk_room.c: room in the file: made ready before it is needed, and given back when it is not.
 *
 * A flush is slow where the file system has to find room for what was written: blocks to allocate, a size to change, its
 * own journal to sync. Room that was allocated ahead is not enough, for it is marked as unwritten until it is written
 * first. So a thread, the keeper, writes zeros into the slots that come next. It also commits early when much has been
 * written and nobody flushes, so that no writer has to wait for the sync.
 *
 * All of this happens in slots that are free: they are marked as used while it is going on, and nothing on the disk
 * refers to them. A crash at any moment leaves free slots with zeros or without, and free slots may hold anything.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>

#include "disk.h"

enum {
    READY_SLOTS = 2048,          /* 8 MiB: more than most flushes bring */
    STEP_SLOTS = 512,            /* written at once: 2 MiB, which a flush that comes meanwhile has to wait for */
    WINDOW_SLOTS = 1024,         /* looked at in one go by compaction, with the lock held */
    ZEROS_BYTES = 65536
};

static const uint8_t ZEROS[ZEROS_BYTES];

/* ---- making room ready ---------------------------------------------------------------------------------------------- */

tccp_status disk_prepare(tccp_disk *disk, uint64_t count)
{
    uint64_t first;
    (void) pthread_mutex_lock(&disk->lock);
    int got = disk_slots_extend(&disk->slots, count, &first);
    (void) pthread_mutex_unlock(&disk->lock);
    if (!got)
        return TCCP_ERR_NO_MEMORY;
    int error = 0;
    uint64_t at = disk_slot_offset(disk, first), end = disk_slot_offset(disk, first + count);
    if (first < disk->slots_max)  /* the file was that long already when it was opened */
        at = end;
    for (uint64_t part; at < end && error == 0; at += part) {
        part = end - at < ZEROS_BYTES ? end - at : ZEROS_BYTES;
        error = disk->io.write(disk->io.context, ZEROS, (size_t) part, at);
    }
    (void) pthread_mutex_lock(&disk->lock);
    for (uint64_t slot = first; slot < first + count; slot++)
        disk_slots_give(&disk->slots, slot);
    if (error != 0)
        disk->no_room = 1;
    (void) pthread_mutex_unlock(&disk->lock);
    return disk_status_of(error);
}

/* ---- the keeper ------------------------------------------------------------------------------------------------------ */

enum work { NOTHING, COMMIT, PREPARE };

/* The lock is held. */
static enum work work_to_do(const tccp_disk *disk)
{
    if (disk->failed)
        return NOTHING;
    if (disk->dirty.len > disk->dirty_max / 4 && !disk->log_full)
        return COMMIT;
    /* As the allocator would grow, but before it has to. */
    return disk->slots.empty_words < READY_SLOTS / 64 && !disk->no_room &&
                   disk->slots.free + disk->slots.held < disk_slots_spare(&disk->slots) + READY_SLOTS
               ? PREPARE
               : NOTHING;
}

void disk_keeper_look(tccp_disk *disk)
{
    if (disk->keeper_waits && work_to_do(disk) != NOTHING)
        (void) pthread_cond_signal(&disk->keeper_wanted);
}

static void *keep(void *argument)
{
    tccp_disk *disk = argument;
    (void) pthread_mutex_lock(&disk->lock);
    while (!disk->keeper_ends) {
        enum work work = work_to_do(disk);
        if (work == NOTHING) {
            disk->keeper_waits = 1;
            (void) pthread_cond_wait(&disk->keeper_wanted, &disk->lock);
            disk->keeper_waits = 0;
            continue;
        }
        (void) pthread_mutex_unlock(&disk->lock);
        /* What fails here is heard of by whoever flushes or writes next. */
        tccp_status status = work == COMMIT ? tccp_disk_flush(disk) : disk_prepare(disk, STEP_SLOTS);
        (void) pthread_mutex_lock(&disk->lock);
        if (status != TCCP_OK && work == PREPARE)
            disk->no_room = 1;
        else if (status != TCCP_OK && status != TCCP_ERR_NO_SPACE)
            break;
    }
    (void) pthread_mutex_unlock(&disk->lock);
    return NULL;
}

tccp_status tccp_disk_keeper_start(tccp_disk *disk)
{
    if (disk == NULL)
        return TCCP_ERR_USAGE;
    if (disk->read_only || disk->has_keeper)
        return TCCP_OK;
    disk->keeper_ends = 0;
    /* Signals are for the thread that called us, or for others of its process. */
    sigset_t every, before;
    (void) sigfillset(&every);
    (void) pthread_sigmask(SIG_SETMASK, &every, &before);
    disk->has_keeper = pthread_create(&disk->keeper, NULL, keep, disk) == 0;
    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
    return disk->has_keeper ? TCCP_OK : TCCP_ERR_NO_MEMORY;
}

void disk_keeper_end(tccp_disk *disk)
{
    if (!disk->has_keeper)
        return;
    (void) pthread_mutex_lock(&disk->lock);
    disk->keeper_ends = 1;
    (void) pthread_cond_signal(&disk->keeper_wanted);
    (void) pthread_mutex_unlock(&disk->lock);
    (void) pthread_join(disk->keeper, NULL);
    disk->has_keeper = 0;
}

/* ---- giving room back -------------------------------------------------------------------------------------------------- */

/* Take all free slots between two, so that nobody else gets them meanwhile. Returns how many, as runs: first, length. */
static uint64_t take_window(tccp_disk *disk, uint64_t from, uint64_t to, disk_list *runs)
{
    uint64_t taken = 0;
    (void) pthread_mutex_lock(&disk->lock);
    for (uint64_t slot = from, run; slot < to && slot < disk->slots.count; slot += run) {
        run = disk_slots_take_run(&disk->slots, slot, to - slot);
        if (run == 0) {
            run = 1;
        } else if (disk_list_push(runs, slot) && disk_list_push(runs, run)) {
            taken += run;
        } else {
            for (uint64_t i = 0; i < run; i++)
                disk_slots_give(&disk->slots, slot + i);
            break;
        }
    }
    disk->slots.held += taken;
    (void) pthread_mutex_unlock(&disk->lock);
    return taken;
}

static tccp_status punch_window(tccp_disk *disk, uint64_t from, uint64_t *freed)
{
    disk_list runs = {.items = NULL};
    int error = 0;
    uint64_t taken = take_window(disk, from, from + WINDOW_SLOTS, &runs);
    for (size_t i = 0; i + 1 < runs.len && error == 0; i += 2)
        error = disk->io.punch(disk->io.context, disk_slot_offset(disk, runs.items[i]), runs.items[i + 1] * DISK_BLOCK);
    (void) pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i + 1 < runs.len; i += 2)
        for (uint64_t k = 0; k < runs.items[i + 1]; k++)
            disk_slots_give(&disk->slots, runs.items[i] + k);
    disk->slots.held -= taken;
    (void) pthread_mutex_unlock(&disk->lock);
    free(runs.items);
    *freed += taken * DISK_BLOCK;
    return disk_status_of(error);
}

tccp_status disk_cut_tail(tccp_disk *disk)
{
    /* With the lock held nobody takes a slot, and those that anybody has taken are marked. */
    (void) pthread_mutex_lock(&disk->lock);
    uint64_t end = disk_slots_cut(&disk->slots);
    int error = disk->io.cut(disk->io.context, disk_slot_offset(disk, end));
    if (disk->slots_max > end)
        disk->slots_max = end;
    disk->no_room = 0;
    (void) pthread_mutex_unlock(&disk->lock);
    return disk_status_of(error);
}

tccp_status tccp_disk_compact(tccp_disk *disk, uint64_t *ret_freed_bytes)
{
    if (disk == NULL || disk->read_only || ret_freed_bytes == NULL)
        return TCCP_ERR_USAGE;
    /* After a checkpoint nothing but the tree refers to slots: those retired are free. */
    (void) pthread_mutex_lock(&disk->commit_lock);
    tccp_status status = disk_checkpoint(disk);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    uint64_t freed = 0;
    (void) pthread_mutex_lock(&disk->lock);
    uint64_t count = disk->slots.count;
    (void) pthread_mutex_unlock(&disk->lock);
    for (uint64_t slot = 0; slot < count && status == TCCP_OK; slot += WINDOW_SLOTS)
        status = punch_window(disk, slot, &freed);
    if (status == TCCP_OK)
        status = disk_cut_tail(disk);
    if (status == TCCP_OK)
        *ret_freed_bytes = freed;
    return status;
}
