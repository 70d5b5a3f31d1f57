/* disk_slots.c: which 4 KiB slots of the file are free. Kept in memory only: the tree and the log say what is used.
 *
 * Neighbours are written in one go, so slots are taken where 64 of them are free together. Overwriting at random leaves
 * free ones one by one; before those are taken the file grows, by an eighth of what is used.
 */
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
    slots->empty_words += (count - slots->count) / 64;
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

static void use(disk_slots *slots, uint64_t slot)
{
    slots->empty_words -= slots->used[slot / 64] == 0;
    slots->used[slot / 64] |= UINT64_C(1) << (slot % 64);
    slots->free--;
}

/* The first free slot from a place on, or the first of a word without used ones, going round once; there is one. */
static uint64_t find(const disk_slots *slots, uint64_t from, int whole_word)
{
    if (from >= slots->count)
        from = 0;
    uint64_t words = slots->count / 64, word = from / 64;
    uint64_t open = ~slots->used[word] & ~UINT64_C(0) << (from % 64);
    while (whole_word ? open != ~UINT64_C(0) : open == 0) {
        word = word + 1 < words ? word + 1 : 0;
        open = ~slots->used[word];
    }
    return word * 64 + (uint64_t) __builtin_ctzll(open);
}

uint64_t disk_slots_spare(const disk_slots *slots)
{
    return GROWTH + (slots->count - slots->free - slots->held) / 8;
}

uint32_t disk_slots_take(disk_slots *slots, uint32_t wanted, int may_grow, uint64_t *ret_first)
{
    /* On from the last one; else 64 neighbours, from new room as long as the spare allows; else wherever one is free. Behind
     * the others there may be room that we know of and the file system does not have. */
    uint64_t first = slots->next;
    if (first % 64 == 0 || first >= slots->count || is_used(slots, first)) {
        if (slots->empty_words == 0 && (slots->free == 0 || (may_grow && slots->free + slots->held < disk_slots_spare(slots))) &&
            !grow(slots, slots->count + 1) && slots->free == 0)
            return 0;
        first = find(slots, slots->next, may_grow && slots->empty_words != 0);
    }
    uint64_t got = disk_slots_take_run(slots, first, wanted);
    slots->next = first + got;
    *ret_first = first;
    return (uint32_t) got;
}

uint64_t disk_slots_take_run(disk_slots *slots, uint64_t first, uint64_t wanted)
{
    uint64_t got = 0;
    for (; got < wanted && first + got < slots->count && !is_used(slots, first + got); got++)
        use(slots, first + got);
    return got;
}

int disk_slots_extend(disk_slots *slots, uint64_t count, uint64_t *ret_first)
{
    uint64_t before = slots->count;
    if (!grow_to(slots, before + count))
        return 0;
    (void) disk_slots_take_run(slots, before, count);
    *ret_first = before;
    return 1;
}

uint64_t disk_slots_cut(disk_slots *slots)
{
    while (slots->count > 0 && slots->used[slots->count / 64 - 1] == 0) {
        slots->count -= 64;
        slots->free -= 64;
        slots->empty_words--;
    }
    slots->next = 0;
    return slots->count;
}

void disk_slots_give(disk_slots *slots, uint64_t slot)
{
    slots->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    slots->free++;
    slots->empty_words += slots->used[slot / 64] == 0;
}

tccp_status disk_slots_mark(disk_slots *slots, uint64_t slot, uint64_t slots_max)
{
    if (slot >= slots_max)
        return TCCP_ERR_DISK_CORRUPT;
    if (!grow(slots, slot + 1))
        return TCCP_ERR_NO_MEMORY;
    if (is_used(slots, slot))
        return TCCP_ERR_DISK_CORRUPT;
    use(slots, slot);
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
