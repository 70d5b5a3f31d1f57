/* disk_crash.h: random work on a disk above a file that loses what was not synced, and power failures. Now and then the file
 * system is full, for a while or until the end.
 *
 * After a failure the disk must be what it was after some operation that was not followed by an answered flush, and
 * every block must verify.
 */
#ifndef DISK_CRASH_H
#define DISK_CRASH_H

#include <stdio.h>

#include "fragile_file.h"

enum { BLOCKS = 300, BASE_BLOCKS = 100, OPERATIONS_MAX = 400, MARKS_MAX = 32, CHANGES_MAX = 16384 };

/* ---- the model: what each block holds, and which changes no flush has answered for ------------------------------------ */

typedef struct change {
    uint32_t block;
    uint64_t hash;               /* of the contents after it */
    int last;                    /* ends an operation: a crash may leave the disk here */
} change;

static uint8_t marks[MARKS_MAX][TCCP_DISK_MARK_BYTES];  /* those given out in this trial */
static size_t marks_len;

static uint8_t contents[BLOCKS][DISK_BLOCK];
static uint64_t flushed[BLOCKS];
static change changes[CHANGES_MAX];
static size_t changes_len;

static uint64_t hash_of(const uint8_t *bytes)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < DISK_BLOCK; i += 8)
        hash = (hash ^ disk_get64(bytes + i)) * 0x100000001b3u, hash ^= hash >> 29;
    return hash;
}

static void fill(uint8_t *bytes, size_t len)
{
    uint64_t pattern = random_next();
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t) (pattern >> (8 * (i % 8)));
}

static void base_block(uint64_t block, uint8_t *bytes)
{
    memset(bytes, (int) (block * 7 + 1), DISK_BLOCK);
}

static tccp_status base_read(void *context, uint64_t block, uint32_t count, uint8_t *buffer)
{
    for (uint32_t i = 0; i < count; i++)
        base_block(block + i, buffer + (size_t) i * DISK_BLOCK);
    return TCCP_OK;
}

static void model_changed(uint64_t offset, uint64_t len)
{
    for (uint64_t block = offset / DISK_BLOCK; block <= (offset + len - 1) / DISK_BLOCK; block++) {
        if (changes_len == CHANGES_MAX)
            abort();
        /* Blocks of one call are separate: a disk need not write more than a sector at once. */
        changes[changes_len++] = (change){(uint32_t) block, hash_of(contents[block]), 1};
    }
}

static void model_flushed(void)
{
    for (size_t i = 0; i < changes_len; i++)
        flushed[changes[i].block] = changes[i].hash;
    changes_len = 0;
}

/* A change that failed for want of room: some of it was done, in order, and the disk says what. */
static tccp_status model_asks(tccp_disk *disk, uint64_t offset, uint64_t len, size_t changes_before)
{
    uint64_t first = offset / DISK_BLOCK, last = (offset + len - 1) / DISK_BLOCK;
    changes_len = changes_before;
    tccp_status status = tccp_disk_read(disk, first * DISK_BLOCK, (size_t) (last - first + 1) * DISK_BLOCK, contents[first]);
    model_changed(offset, len);
    return status;
}

/* Is the disk what it was after some number of the changes? Then that is where the model goes on. */
static const char *model_accepts(tccp_disk *disk)
{
    static uint64_t found[BLOCKS], expected[BLOCKS];
    size_t wrong = 0;
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint8_t bytes[DISK_BLOCK];
        if (tccp_disk_read(disk, block * DISK_BLOCK, DISK_BLOCK, bytes) != TCCP_OK)
            return "a block does not verify";
        memcpy(contents[block], bytes, DISK_BLOCK);
        found[block] = hash_of(bytes);
        expected[block] = flushed[block];
        wrong += found[block] != expected[block];
    }
    for (size_t i = 0; wrong != 0; i++) {
        if (i == changes_len)
            return "the disk is in no state it was in since the last flush";
        const change *at = &changes[i];
        wrong -= found[at->block] != expected[at->block];
        expected[at->block] = at->hash;
        wrong += found[at->block] != expected[at->block];
    }
    memcpy(flushed, found, sizeof flushed);
    changes_len = 0;
    return NULL;
}

/* ---- one trial ----------------------------------------------------------------------------------------------------- */

static uint8_t scratch[BLOCKS * DISK_BLOCK];

static tccp_status one_operation(tccp_disk *disk)
{
    uint64_t offset = random_below(BLOCKS) * DISK_BLOCK, len = DISK_BLOCK;
    uint64_t kind = random_below(100);
    tccp_status status;
    if (kind < 10)
        len = random_below(140) * DISK_BLOCK + DISK_BLOCK;
    if (kind % 4 == 0) {
        offset += random_below(8) * DISK_SECTOR;
        len = random_below(24) * DISK_SECTOR + DISK_SECTOR;
    }
    if (len > BLOCKS * DISK_BLOCK - offset)
        len = BLOCKS * DISK_BLOCK - offset;
    if (kind == 79 || kind == 78) {
        uint64_t freed;
        status = kind == 78 ? tccp_disk_compact(disk, &freed) : disk_prepare(disk, 64);
        return status == TCCP_ERR_NO_SPACE ? TCCP_OK : status;
    }
    if (kind >= 80) {
        status = tccp_disk_flush(disk);
        if (status == TCCP_ERR_NO_SPACE)
            return TCCP_OK;
        if (status == TCCP_OK)
            model_flushed();
        if (status == TCCP_OK && kind == 99 && marks_len < MARKS_MAX)
            status = tccp_disk_mark(disk, marks[marks_len++]);
        if (status == TCCP_OK && kind == 98 && marks_len > 1) {
            status = tccp_disk_mark_kept(disk, marks[1]);  /* the first may be forgotten from here on */
            memmove(marks, marks + 1, --marks_len * sizeof marks[0]);
        }
        return status;
    }
    int zero = kind >= 65;
    if (zero)
        memset(scratch, 0, (size_t) len);
    else
        fill(scratch, (size_t) len);
    /* Into the model first: what fails half way may have happened. */
    size_t changes_before = changes_len;
    memcpy(&contents[0][0] + offset, scratch, (size_t) len);
    model_changed(offset, len);
    status = zero ? tccp_disk_zero(disk, offset, len) : tccp_disk_write(disk, offset, (size_t) len, scratch);
    return status == TCCP_ERR_NO_SPACE ? model_asks(disk, offset, len, changes_before) : status;
}

/* What a served disk has beside it: a keeper, and somebody who asks for compaction all the time. */
typedef struct company {
    tccp_disk *disk;
    pthread_t thread;
    int ends;
} company;

static void *compact_always(void *argument)
{
    company *mine = argument;
    uint64_t freed;
    while (!__atomic_load_n(&mine->ends, __ATOMIC_RELAXED) && tccp_disk_compact(mine->disk, &freed) == TCCP_OK)
        (void) sched_yield();
    return NULL;
}

static void company_comes(company *mine, tccp_disk *disk)
{
    *mine = (company){.disk = disk};
    if (with_company && (tccp_disk_keeper_start(disk) != TCCP_OK ||
                         pthread_create(&mine->thread, NULL, compact_always, mine) != 0))
        abort();
}

static void company_goes(company *mine)
{
    if (!with_company)
        return;
    __atomic_store_n(&mine->ends, 1, __ATOMIC_RELAXED);
    (void) pthread_join(mine->thread, NULL);
    disk_keeper_end(mine->disk);
}

/* The end of a session: by a power failure at any call, by a kill that loses nothing, or cleanly. */
static const char *session(fragile_file *file, const tccp_disk_key *key, const tccp_disk_base *base)
{
    disk_io io = fragile_io(file);
    tccp_disk *disk = NULL;
    uint8_t root[TCCP_DISK_ROOT_BYTES];
    uint64_t ending = random_below(10);
    file->calls_left = ending < 7 ? random_below(ending < 2 ? 8 : with_company ? 3000 : 300) : UINT64_MAX;
    tccp_status status = disk_open_io(&io, key, base, NULL, 0, &disk);
    if (status != TCCP_OK && file->calls_left != 0)
        return tccp_status_name(status);
    uint64_t full_until = random_below(3) == 0 ? random_below(OPERATIONS_MAX) : UINT64_MAX;
    if (full_until != UINT64_MAX)
        file->room = file->size + random_below(32) * DISK_BLOCK;
    company beside;
    if (status == TCCP_OK)
        company_comes(&beside, disk);
    int has_company = status == TCCP_OK;
    for (uint64_t left = random_below(OPERATIONS_MAX); status == TCCP_OK && left > 0; left--) {
        if (left == full_until)
            fragile_has_room(file);
        status = one_operation(disk);
    }
    fragile_has_room(file);
    if (has_company)
        company_goes(&beside);
    if (status != TCCP_OK && file->calls_left != 0)
        return tccp_status_name(status);
    if (status == TCCP_OK && ending == 8) {
        uint64_t freed;
        status = tccp_disk_compact(disk, &freed);
    }
    if (status == TCCP_OK && ending >= 8) {
        if (tccp_disk_close_clean(disk, root) != TCCP_OK)
            return "a clean end failed";
        model_flushed();
    }
    tccp_disk_free(disk);
    if (ending < 7)
        power_fails(file);
    file->calls_left = UINT64_MAX;

    /* Every moment that was given out is one that the disk has passed, however it ended. */
    tccp_disk_demand demand = {.root = ending >= 8 ? root : NULL,
                               .mark = marks_len == 0 ? NULL : marks[random_below(marks_len)]};
    status = disk_open_io(&io, key, base, &demand, 1, &disk);
    if (status != TCCP_OK)
        return status == TCCP_ERR_DISK_MARK ? "a moment of the past is not known any more"
                                            : "the disk does not open any more";
    const char *complaint = model_accepts(disk);
    tccp_disk_free(disk);
    return complaint;
}

/* NULL, or what went wrong. */
static const char *trial(fragile_file *file, const tccp_disk_key *key, uint64_t seed)
{
    tccp_disk_base base = {.blocks = BASE_BLOCKS, .read = base_read, .root = {42}};
    disk_io io = fragile_io(file);
    random_state = seed;
    fragile_reset(file);
    if (disk_create_io(&io, key, &base, 1 + (uint32_t) (seed % 2), BLOCKS * DISK_BLOCK, DISK_LOG_BYTES_MIN) != TCCP_OK)
        return "the disk cannot be made";
    memset(contents, 0, sizeof contents);
    for (uint64_t block = 0; block < BASE_BLOCKS; block++)
        base_block(block, contents[block]);
    for (uint64_t block = 0; block < BLOCKS; block++)
        flushed[block] = hash_of(contents[block]);
    changes_len = 0;
    marks_len = 0;
    const char *complaint = NULL;
    for (uint64_t sessions = 1 + random_below(4); sessions > 0 && complaint == NULL; sessions--)
        complaint = session(file, key, &base);
    return complaint;
}

/* How many of the trials went wrong; the first complaint is printed. */
static uint64_t run_trials(uint64_t first, uint64_t count, int sync_lies)
{
    static const tccp_disk_key key = {.bytes = {1, 2, 3}};
    uint64_t wrong = 0;
    fragile_file file;
    fragile_make(&file);
    file.sync_lies = sync_lies;
    for (uint64_t seed = first; seed < first + count; seed++) {
        const char *complaint = trial(&file, &key, seed);
        if (complaint != NULL && wrong++ == 0 && !sync_lies)
            printf("trial %llu: %s\n", (unsigned long long) seed, complaint);
    }
    fragile_free(&file);
    return wrong;
}

#endif /* DISK_CRASH_H */
