/* disk_checkpoint.c: the pages of the tree that have changed, written as all of them were at one moment, and a superblock.
 *
 * It goes on beside writers. Where the file system has no room for a page, what was written stays where it is, nothing
 * refers to it but the tree in memory, and the next commit tries again; the last superblock and the log still hold
 * everything.
 */
#include <stdlib.h>
#include <string.h>

#include "disk.h"

/* A copy of a page as it is at this moment. Its blocks count as committed from here on: either the superblock becomes
 * durable with them in it, or the disk has failed. The lock is held. */
static void copy_page(tccp_disk *disk, unsigned level, uint64_t page, uint8_t bytes[DISK_BLOCK])
{
    disk_entry *entries = disk->level[level].entries + page * DISK_FANOUT;
    disk->level[level].changed[page / 64] &= ~(UINT64_C(1) << (page % 64));
    for (unsigned i = 0; i < DISK_FANOUT; i++) {
        entries[i].place &= ~DISK_DIRTY;
        disk_entry_encode(&entries[i], bytes + i * DISK_ENTRY_BYTES);
    }
}

/* From here on, until snapshot_ends, all pages of blocks are those of this moment: who changes a block of a page that was not
 * copied yet keeps a copy first. Otherwise a write that went into a page copied late could be durable without one before it
 * that went into a page copied early. The lock is held. */
static int snapshot_begins(tccp_disk *disk)
{
    size_t pages = (size_t) disk->level[1].count, words = (pages + 63) / 64;
    disk->due = malloc(words * sizeof *disk->due);
    disk->kept = calloc(pages, sizeof *disk->kept);
    if (disk->due == NULL || disk->kept == NULL)
        return 0;
    memcpy(disk->due, disk->level[0].changed, words * sizeof *disk->due);
    return 1;
}

/* 0: a page could not be kept, so what was written is of no moment. */
static int snapshot_ends(tccp_disk *disk)
{
    (void) pthread_mutex_lock(&disk->lock);
    int whole = !disk->failed;
    for (uint64_t page = 0; disk->kept != NULL && page < disk->level[1].count; page++)
        free(disk->kept[page]);
    free(disk->kept);
    free(disk->due);
    disk->kept = NULL;
    disk->due = NULL;
    (void) pthread_mutex_unlock(&disk->lock);
    return whole;
}

/* Whether the checkpoint has still to copy this page; not any more after this. The lock is held. */
static int was_due(tccp_disk *disk, uint64_t page)
{
    uint64_t bit = UINT64_C(1) << (page % 64);
    int due = disk->due != NULL && (disk->due[page / 64] & bit) != 0;
    if (due)
        disk->due[page / 64] &= ~bit;
    return due;
}

void disk_tree_keep(tccp_disk *disk, uint64_t page)
{
    if (!was_due(disk, page))
        return;
    disk->kept[page] = malloc(DISK_BLOCK);
    if (disk->kept[page] == NULL)
        disk->failed = 1;
    else
        copy_page(disk, 0, page, disk->kept[page]);
}

/* The page as it was when the checkpoint began. 0: there was no memory to keep it. */
static int capture(tccp_disk *disk, unsigned level, uint64_t page, uint8_t bytes[DISK_BLOCK])
{
    int there = 1;
    (void) pthread_mutex_lock(&disk->lock);
    if (level != 0 || was_due(disk, page))
        copy_page(disk, level, page, bytes);
    else if ((there = disk->kept[page] != NULL))
        memcpy(bytes, disk->kept[page], DISK_BLOCK);
    (void) pthread_mutex_unlock(&disk->lock);
    return there;
}

/* Seal a page into a free slot. */
static tccp_status store_page(tccp_disk *disk, uint64_t number, const uint8_t bytes[DISK_BLOCK], disk_entry *ret_entry)
{
    uint8_t sealed[DISK_BLOCK];
    uint64_t slot;
    (void) pthread_mutex_lock(&disk->lock);
    uint32_t got = disk_slots_take(&disk->slots, 1, !disk->no_room, &slot);
    ret_entry->counter = ++disk->counter;
    (void) pthread_mutex_unlock(&disk->lock);
    if (got == 0)
        return TCCP_ERR_NO_MEMORY;
    ret_entry->place = DISK_STATE_DATA | slot;
    memcpy(ret_entry->salt, disk->salt, sizeof ret_entry->salt);
    disk_seal(&disk->keys->tree, ret_entry->counter, number, ret_entry->salt, bytes, sealed, DISK_BLOCK, ret_entry->tag);
    int error = disk->io.write(disk->io.context, sealed, DISK_BLOCK, disk_slot_offset(disk, slot));
    if (error != 0) {
        (void) pthread_mutex_lock(&disk->lock);
        disk_slots_give(&disk->slots, slot);
        disk_no_room(disk, disk_status_of(error));
        (void) pthread_mutex_unlock(&disk->lock);
    }
    return disk_status_of(error);
}

/* The slot of a page that was written anew: free at once, unless the last superblock refers to it. 0: no memory. */
static int supersede(tccp_disk *disk, const disk_entry *before)
{
    if (disk_state(before) != DISK_STATE_DATA)
        return 1;
    if (before->counter <= disk->counter_then || memcmp(before->salt, disk->salt, sizeof disk->salt) != 0)
        return disk_list_push(&disk->superseded, disk_slot(before));
    (void) pthread_mutex_lock(&disk->lock);
    disk_slots_give(&disk->slots, disk_slot(before));
    (void) pthread_mutex_unlock(&disk->lock);
    return 1;
}

static tccp_status write_page(tccp_disk *disk, unsigned level, uint64_t page)
{
    uint8_t bytes[DISK_BLOCK];
    disk_entry entry;
    if (!capture(disk, level, page, bytes))
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = store_page(disk, disk_page_number(level, page), bytes, &entry);
    if (status == TCCP_ERR_NO_SPACE)  /* there may be room in the file itself */
        status = store_page(disk, disk_page_number(level, page), bytes, &entry);
    if (status != TCCP_OK) {
        (void) pthread_mutex_lock(&disk->lock);
        disk_tree_changed(disk, level, page);
        (void) pthread_mutex_unlock(&disk->lock);
        return status;
    }
    /* Entries above level 0 are touched by checkpoints alone. */
    disk_entry *above = &disk->level[level + 1].entries[page];
    if (!supersede(disk, above))
        return TCCP_ERR_NO_MEMORY;
    *above = entry;
    if (level + 1 < disk->levels)
        disk_tree_changed(disk, level + 1, page / DISK_FANOUT);
    return TCCP_OK;
}

/* The pages of a word that the checkpoint has to write: of blocks, those that had changed when it began. */
static uint64_t pages_to_write(tccp_disk *disk, unsigned level, uint64_t word)
{
    (void) pthread_mutex_lock(&disk->lock);
    uint64_t pages = level == 0 ? disk->due[word] : disk->level[level].changed[word];
    for (uint64_t bit = 0; level == 0 && bit < 64 && word * 64 + bit < disk->level[1].count; bit++)
        pages |= (uint64_t) (disk->kept[word * 64 + bit] != NULL) << bit;
    (void) pthread_mutex_unlock(&disk->lock);
    return pages;
}

static tccp_status write_pages(tccp_disk *disk)
{
    for (unsigned level = 0; level < disk->levels; level++) {
        uint64_t words = (disk->level[level + 1].count + 63) / 64;
        for (uint64_t word = 0; word < words; word++) {
            uint64_t changed = pages_to_write(disk, level, word);
            for (; changed != 0; changed &= changed - 1) {
                uint64_t page = word * 64 + (uint64_t) __builtin_ctzll(changed);
                tccp_status status = write_page(disk, level, page);
                if (status != TCCP_OK)
                    return status;
            }
        }
    }
    return TCCP_OK;
}

/* What is in the superblock is not dirty any more; blocks that were changed meanwhile are. The lock is held. */
static void forget_clean(tccp_disk *disk)
{
    size_t left = 0;
    for (size_t i = 0; i < disk->dirty.len; i++)
        if ((disk->level[0].entries[disk->dirty.items[i]].place & DISK_DIRTY) != 0)
            disk->dirty.items[left++] = disk->dirty.items[i];
    disk->dirty.len = left;
}

static tccp_status write_superblock(tccp_disk *disk)
{
    uint8_t bytes[DISK_BLOCK];
    disk_superblock next = disk->superblock;
    next.size_bytes = disk->blocks * DISK_BLOCK;
    next.generation++;
    next.log_position = disk->log_head;
    next.sequence = disk->sequence;
    memcpy(next.chain, disk->chain, sizeof next.chain);
    next.root = disk->level[disk->levels].entries[0];
    disk_superblock_encode(&next, disk->keys, bytes);

    /* First what the superblock speaks of, then the superblock itself, never over the last one. */
    int error = disk->io.sync(disk->io.context);
    if (error == 0)
        error = disk->io.write(disk->io.context, bytes, DISK_BLOCK, next.generation % 2 * DISK_BLOCK);
    if (error == 0)
        error = disk->io.sync(disk->io.context);
    if (error != 0)
        return disk_status_of(error);
    disk->superblock = next;
    disk_superblock_root(bytes, disk->root);
    disk->log_used = 0;
    (void) pthread_mutex_lock(&disk->lock);
    disk->counter_then = disk->counter;
    disk->log_full = 0;
    forget_clean(disk);
    (void) pthread_mutex_unlock(&disk->lock);
    return TCCP_OK;
}

/* There was no room for all pages. Those that were written are in the tree in memory, and need not be written again; but
 * what the copies took for committed is not. The last record still needs the slots of `retired`. The lock is held; 0: no
 * memory. */
static int take_back(tccp_disk *disk, const disk_list *retired)
{
    for (size_t i = 0; i < disk->dirty.len; i++)
        disk->level[0].entries[disk->dirty.items[i]].place |= DISK_DIRTY;
    for (size_t i = 0; i < retired->len; i++)
        if (!disk_list_push(&disk->retired, retired->items[i]))
            return 0;
    return 1;
}

tccp_status disk_checkpoint(tccp_disk *disk)
{
    /* Slots retired before any page is captured are in no captured page; the last record may still need them until
     * the superblock is durable. Those retired meanwhile may be in a captured page, and wait for the next commit. */
    (void) pthread_mutex_lock(&disk->lock);
    tccp_status status = disk->failed ? TCCP_ERR_IO : snapshot_begins(disk) ? TCCP_OK : TCCP_ERR_NO_MEMORY;
    disk_list retired = disk->retired;
    disk->retired = (disk_list){.items = NULL};
    (void) pthread_mutex_unlock(&disk->lock);

    if (status == TCCP_OK)
        status = write_pages(disk);
    int whole = snapshot_ends(disk), no_room = status == TCCP_ERR_NO_SPACE;
    if (!whole && status == TCCP_OK)
        status = TCCP_ERR_NO_MEMORY;
    if (status == TCCP_OK)
        status = write_superblock(disk);
    if (status == TCCP_OK) {
        disk_release(disk, &retired);
        disk_release(disk, &disk->superseded);
    } else {
        (void) pthread_mutex_lock(&disk->lock);
        if (!no_room || !take_back(disk, &retired))
            disk->failed = 1;
        (void) pthread_mutex_unlock(&disk->lock);
    }
    free(retired.items);
    return status;
}
