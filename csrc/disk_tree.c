/* disk_tree.c: the tree of entries in memory and in the file; disk_checkpoint.c writes it.
 *
 *     superblock: root entry
 *          |
 *     level 2: entries of level-1 pages        64 entries a page; a page lies sealed in a slot like a block,
 *          |                                   and its tag stands in the entry above it
 *     level 1: entries of level-0 pages
 *          |
 *     level 0: entries of blocks
 *
 * Tag over tag up to the superblock this is a Merkle tree: nothing below can be changed, moved or replaced by an older
 * version without the root changing. All of it stays in memory, which costs 64 bytes for each block of pages in use.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "disk.h"

static uint64_t pages_of(uint64_t entries)
{
    return (entries + DISK_FANOUT - 1) / DISK_FANOUT;
}

/* Whole pages of entries, so that a page can be read and written without looking where its level ends. */
static size_t entries_bytes(uint64_t count)
{
    return (size_t) (pages_of(count) * DISK_BLOCK);
}

static size_t changed_bytes(uint64_t count)
{
    return (size_t) ((pages_of(count) + 63) / 64 * 8);
}

/* Untouched memory costs nothing, so a large disk with little on it stays small here, too. */
static void *reserve_memory(void *old, size_t old_bytes, size_t bytes)
{
    void *memory = old == NULL ? mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                               : mremap(old, old_bytes, bytes, MREMAP_MAYMOVE);
    return memory == MAP_FAILED ? NULL : memory;
}

static tccp_status level_size(disk_level *level, uint64_t count)
{
    disk_entry *entries = reserve_memory(level->entries, entries_bytes(level->count), entries_bytes(count));
    if (entries == NULL)
        return TCCP_ERR_NO_MEMORY;
    level->entries = entries;
    uint64_t *changed = reserve_memory(level->changed, changed_bytes(level->count), changed_bytes(count));
    if (changed == NULL) {
        /* Only ever grown: the larger mapping serves the old count, but its size must be known when it is freed. */
        (void) munmap(entries, entries_bytes(count));
        level->entries = NULL;
        return TCCP_ERR_NO_MEMORY;
    }
    level->changed = changed;
    level->count = count;
    return TCCP_OK;
}

tccp_status disk_tree_size(tccp_disk *disk, uint64_t blocks)
{
    unsigned levels = 0;
    uint64_t count = blocks;
    tccp_status status = level_size(&disk->level[0], blocks);
    while (status == TCCP_OK && (levels == 0 || count > 1)) {
        count = pages_of(count);
        levels++;
        status = level_size(&disk->level[levels], count);
    }
    if (status != TCCP_OK)
        return status;
    /* What was the root is now the first of several pages, and the level above must be written to say so. */
    for (unsigned level = disk->levels; level != 0 && level < levels; level++)
        disk_tree_changed(disk, level, 0);
    disk->levels = levels;
    disk->blocks = blocks;
    return TCCP_OK;
}

void disk_tree_free(tccp_disk *disk)
{
    for (unsigned i = 0; i <= DISK_LEVELS_MAX; i++) {
        disk_level *level = &disk->level[i];
        if (level->entries != NULL)
            (void) munmap(level->entries, entries_bytes(level->count));
        if (level->changed != NULL)
            (void) munmap(level->changed, changed_bytes(level->count));
        *level = (disk_level){.entries = NULL};
    }
}

void disk_tree_changed(tccp_disk *disk, unsigned level, uint64_t page)
{
    disk->level[level].changed[page / 64] |= UINT64_C(1) << (page % 64);
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static tccp_status load_page(tccp_disk *disk, unsigned level, uint64_t page)
{
    uint8_t bytes[DISK_BLOCK];
    const disk_entry *above = &disk->level[level + 1].entries[page];
    if (disk_state(above) == DISK_STATE_BASE)
        return TCCP_OK;
    if (disk_state(above) != DISK_STATE_DATA)
        return TCCP_ERR_DISK_CORRUPT;
    tccp_status status =
        disk_status_of(disk->io.read(disk->io.context, bytes, DISK_BLOCK, disk_slot_offset(disk, disk_slot(above))));
    if (status == TCCP_OK)
        status = disk_unseal(&disk->keys->tree, above->counter, disk_page_number(level, page), above->salt, bytes,
                             DISK_BLOCK, above->tag);
    disk_entry *entries = disk->level[level].entries + page * DISK_FANOUT;
    for (unsigned i = 0; i < DISK_FANOUT && status == TCCP_OK; i++) {
        disk_entry entry;
        status = disk_entry_decode(bytes + i * DISK_ENTRY_BYTES, &entry);
        if (status == TCCP_OK && entry.place == 0)
            continue;  /* leaves the memory of what the base shows untouched */
        if (status == TCCP_OK && page * DISK_FANOUT + i >= disk->level[level].count)
            status = TCCP_ERR_DISK_CORRUPT;
        if (status == TCCP_OK)
            entries[i] = entry;
    }
    return status;
}

/* The pages below an absent page are absent: a whole absent subtree costs one look. */
static tccp_status load_below(tccp_disk *disk, unsigned level, uint64_t page)
{
    tccp_status status = load_page(disk, level, page);
    if (level == 0 || disk_state(&disk->level[level + 1].entries[page]) == DISK_STATE_BASE)
        return status;
    uint64_t end = (page + 1) * DISK_FANOUT;
    if (end > disk->level[level].count)
        end = disk->level[level].count;
    for (uint64_t child = page * DISK_FANOUT; child < end && status == TCCP_OK; child++)
        if (disk->level[level].entries[child].place != 0)
            status = load_below(disk, level - 1, child);
    return status;
}

tccp_status disk_tree_load(tccp_disk *disk)
{
    disk->level[disk->levels].entries[0] = disk->superblock.root;
    return load_below(disk, disk->levels - 1, 0);
}

/* Pages with anything in them: those of the last checkpoint, and those changed since. The 64 pages of one word of
 * `changed` share the page above them: where that is absent, too, they are passed over together. */
int disk_tree_next_page(const tccp_disk *disk, unsigned level, uint64_t *page)
{
    const disk_level *at = &disk->level[level];
    uint64_t pages = disk->level[level + 1].count;
    while (*page < pages) {
        uint64_t word = *page / 64;
        int shared_absent = level + 2 <= disk->levels && disk->level[level + 2].entries[word].place == 0 &&
                            (disk->level[level + 1].changed[word / 64] >> (word % 64) & 1) == 0;
        if (*page % 64 == 0 && at->changed[word] == 0 && shared_absent) {
            *page += 64;
            continue;
        }
        if (disk->level[level + 1].entries[*page].place != 0 || (at->changed[word] >> (*page % 64) & 1) != 0)
            return 1;
        (*page)++;
    }
    return 0;
}

tccp_status disk_tree_mark_slots(tccp_disk *disk)
{
    tccp_status status = TCCP_OK;
    const disk_entry *root = &disk->level[disk->levels].entries[0];
    if (disk_state(root) == DISK_STATE_DATA)
        status = disk_slots_mark(&disk->slots, disk_slot(root), disk->slots_max);
    for (unsigned level = 0; level < disk->levels; level++)
        for (uint64_t page = 0; status == TCCP_OK && disk_tree_next_page(disk, level, &page); page++) {
            const disk_entry *entries = disk->level[level].entries + page * DISK_FANOUT;
            for (unsigned i = 0; i < DISK_FANOUT && status == TCCP_OK; i++)
                if (disk_state(&entries[i]) == DISK_STATE_DATA)
                    status = disk_slots_mark(&disk->slots, disk_slot(&entries[i]), disk->slots_max);
        }
    return status;
}
