/* disk_slots.c: which 4 KiB slots of the file are free. Kept in memory only: the tree and the log say what is used. */
#include <stdlib.h>
#include <string.h>

#include "disk.h"

enum { GROWTH = 1024 };  /* slots added at once; a sparse file pays for none of them before it is written */

static int grow_to(disk_slots *slots, uint64_t count)
{
    if (count > DISK_SLOTS_MAX)
        return 0;
    uint64_t *used = realloc(slots->used, count / 8);
    if (used == NULL)
        return 0;
    memset(used + slots->count / 64, 0, (count - slots->count) / 8);
    slots->used = used;
    slots->free += count - slots->count;
    slots->count = count;
    return 1;
}

static int grow(disk_slots *slots, uint64_t count)
{
    return count <= slots->count || grow_to(slots, (count + GROWTH - 1) / GROWTH * GROWTH);
}

static int is_used(const disk_slots *slots, uint64_t slot)
{
    return (int) (slots->used[slot / 64] >> (slot % 64) & 1);
}

/* The first free slot from a place on, going round once; there is one. */
static uint64_t find(const disk_slots *slots, uint64_t from)
{
    if (from >= slots->count)
        from = 0;
    uint64_t word = from / 64;
    uint64_t open = ~slots->used[word] & ~UINT64_C(0) << (from % 64);
    while (open == 0) {
        word = word + 1 < slots->count / 64 ? word + 1 : 0;
        open = ~slots->used[word];
    }
    return word * 64 + (uint64_t) __builtin_ctzll(open);
}

uint32_t disk_slots_take(disk_slots *slots, uint32_t wanted, uint64_t *ret_first)
{
    /* A little more room than needed keeps the search short. */
    if (slots->free <= slots->count / 128 && !grow(slots, slots->count + 1) && slots->free == 0)
        return 0;
    *ret_first = find(slots, slots->next);
    uint64_t got = disk_slots_take_run(slots, *ret_first, wanted);
    slots->next = *ret_first + got;
    return (uint32_t) got;
}

uint64_t disk_slots_take_run(disk_slots *slots, uint64_t first, uint64_t wanted)
{
    uint64_t got = 0;
    while (got < wanted && first + got < slots->count && !is_used(slots, first + got)) {
        slots->used[(first + got) / 64] |= UINT64_C(1) << ((first + got) % 64);
        got++;
    }
    slots->free -= got;
    return got;
}

int disk_slots_extend(disk_slots *slots, uint64_t count, uint64_t *ret_first)
{
    uint64_t before = slots->count;
    if (!grow_to(slots, before + count))
        return 0;
    memset(slots->used + before / 64, 0xff, count / 8);
    slots->free -= count;
    *ret_first = before;
    return 1;
}

uint64_t disk_slots_cut(disk_slots *slots)
{
    while (slots->count > 0 && slots->used[slots->count / 64 - 1] == 0) {
        slots->count -= 64;
        slots->free -= 64;
    }
    slots->next = 0;
    return slots->count;
}

void disk_slots_give(disk_slots *slots, uint64_t slot)
{
    slots->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    slots->free++;
}

tccp_status disk_slots_mark(disk_slots *slots, uint64_t slot, uint64_t slots_max)
{
    if (slot >= slots_max)
        return TCCP_ERR_DISK_CORRUPT;
    if (!grow(slots, slot + 1))
        return TCCP_ERR_NO_MEMORY;
    if (is_used(slots, slot))
        return TCCP_ERR_DISK_CORRUPT;
    slots->used[slot / 64] |= UINT64_C(1) << (slot % 64);
    slots->free--;
    return TCCP_OK;
}

void disk_slots_free(disk_slots *slots)
{
    free(slots->used);
    *slots = (disk_slots){.used = NULL};
}

/* ---- slots that are still referred to for a while ---------------------------------------------------------------- */

int disk_list_push(disk_list *list, uint64_t item)
{
    if (list->len == list->capacity) {
        size_t capacity = list->capacity == 0 ? 256 : list->capacity * 2;
        uint64_t *items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL)
            return 0;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->len++] = item;
    return 1;
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *) a, right = *(const uint64_t *) b;
    return left < right ? -1 : left > right;
}

void disk_release(tccp_disk *disk, disk_list *retired)
{
    if (retired->len == 0)
        return;
    /* Those to punch sort behind the others. They go while nobody can have them; a file system that cannot punch
     * holes keeps the room, and it is used again. */
    qsort(retired->items, retired->len, sizeof *retired->items, by_number);
    for (size_t i = 0; i < retired->len;) {
        size_t run = 1;
        while (i + run < retired->len && retired->items[i + run] == retired->items[i] + run)
            run++;
        if ((retired->items[i] & DISK_RETIRED_PUNCH) != 0)
            (void) disk->io.punch(disk->io.context, disk_slot_offset(disk, retired->items[i] & DISK_SLOT_MASK),
                                  (uint64_t) run * DISK_BLOCK);
        i += run;
    }
    (void) pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i < retired->len; i++)
        disk_slots_give(&disk->slots, retired->items[i] & DISK_SLOT_MASK);
    if ((retired->items[retired->len - 1] & DISK_RETIRED_PUNCH) != 0)
        disk->no_room = 0;
    (void) pthread_mutex_unlock(&disk->lock);
    retired->len = 0;
}
