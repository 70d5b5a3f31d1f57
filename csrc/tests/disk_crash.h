/* disk_crash.h: a file that loses what was not synced, and random work on a disk above it.
 *
 * Since the last sync every write is remembered sector by sector. A power failure keeps an arbitrary part of them: of
 * a sector written twice perhaps the first version only, of a write of many sectors perhaps every other one. The
 * failure comes at a random call into the file, in the middle of a write too. Afterwards the disk must be what it was
 * after some operation that was not followed by an answered flush, and every block must verify.
 */
#ifndef DISK_CRASH_H
#define DISK_CRASH_H

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"

enum {
    FILE_MAX = 24 << 20,
    BLOCKS = 300,
    BASE_BLOCKS = 100,
    OPERATIONS_MAX = 400,
    MARKS_MAX = 32,
    CHANGES_MAX = 16384,
    JOURNAL_MAX = 1 << 18
};

/* ---- random numbers: one seed, one trial ---------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_of(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    uint64_t mixed = (*state ^ *state >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

static uint64_t random_next(void)
{
    return random_of(&random_state);
}

static uint64_t random_below(uint64_t n)
{
    return random_next() % n;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

typedef struct sector_write {
    uint64_t sector;
    uint8_t bytes[DISK_SECTOR];
} sector_write;

typedef struct fragile_file {
    uint8_t *now, *durable;
    uint64_t size, size_durable;
    sector_write *journal;
    size_t journal_len;
    uint64_t calls_left;         /* until the power fails */
    uint64_t random;             /* of its own: other threads than the one that draws the operations come here */
    pthread_mutex_t lock;
    int sync_lies;               /* a control: says yes and does nothing */
} fragile_file;

static int with_company;         /* other threads beside the one that draws the operations */

/* A disk takes a while: that is when the others get on. */
static void take_a_while(void)
{
    if (with_company)
        (void) sched_yield();
}

static int calls_end(fragile_file *file)
{
    if (file->calls_left == 0)
        return 1;
    file->calls_left--;
    return 0;
}

static int fragile_read(void *context, void *buffer, size_t len, uint64_t offset)
{
    fragile_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    uint64_t there = offset >= file->size ? 0 : file->size - offset;
    if (there > len)
        there = len;
    memcpy(buffer, file->now + (there == 0 ? 0 : offset), (size_t) there);
    memset((uint8_t *) buffer + there, 0, len - (size_t) there);
    (void) pthread_mutex_unlock(&file->lock);
    return 0;
}

static int fragile_change(fragile_file *file, const uint8_t *bytes, uint64_t len, uint64_t offset)
{
    if (offset + len > FILE_MAX || offset % DISK_SECTOR != 0 || len % DISK_SECTOR != 0)
        return EIO;
    if (calls_end(file))
        len = random_of(&file->random) % (len / DISK_SECTOR + 1) * DISK_SECTOR;  /* torn: the rest is never seen */
    for (uint64_t at = 0; at < len; at += DISK_SECTOR) {
        if (file->journal_len == JOURNAL_MAX)
            abort();
        sector_write *entry = &file->journal[file->journal_len++];
        entry->sector = (offset + at) / DISK_SECTOR;
        if (bytes == NULL)
            memset(entry->bytes, 0, DISK_SECTOR);
        else
            memcpy(entry->bytes, bytes + at, DISK_SECTOR);
        memcpy(file->now + offset + at, entry->bytes, DISK_SECTOR);
    }
    if (offset + len > file->size)
        file->size = offset + len;
    return file->calls_left == 0 ? EIO : 0;
}

static int fragile_write(void *context, const void *bytes, size_t len, uint64_t offset)
{
    fragile_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    int error = fragile_change(file, bytes, len, offset);
    (void) pthread_mutex_unlock(&file->lock);
    take_a_while();
    return error;
}

static int fragile_punch(void *context, uint64_t offset, uint64_t len)
{
    fragile_file *file = context;
    int error = 0;
    (void) pthread_mutex_lock(&file->lock);
    if (offset < file->size)
        error = fragile_change(file, NULL, offset + len > file->size ? file->size - offset : len, offset);
    (void) pthread_mutex_unlock(&file->lock);
    return error;
}

static int make_durable(fragile_file *file)
{
    if (calls_end(file))
        return EIO;
    if (file->sync_lies)
        return 0;
    for (size_t i = 0; i < file->journal_len; i++)
        memcpy(file->durable + file->journal[i].sector * DISK_SECTOR, file->journal[i].bytes, DISK_SECTOR);
    file->journal_len = 0;
    file->size_durable = file->size;
    return 0;
}

static int fragile_sync(void *context)
{
    fragile_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    int error = make_durable(file);
    (void) pthread_mutex_unlock(&file->lock);
    take_a_while();
    return error;
}

static int fragile_cut(void *context, uint64_t size)
{
    fragile_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    int error = calls_end(file) ? EIO : 0;
    if (error == 0 && size < file->size)
        memset(file->now + size, 0, (size_t) (file->size - size));
    if (error == 0)
        file->size = size;
    (void) pthread_mutex_unlock(&file->lock);
    return error;
}

static int fragile_size(void *context, uint64_t *ret_size)
{
    *ret_size = ((fragile_file *) context)->size;
    return 0;
}

static void power_fails(fragile_file *file)
{
    static const unsigned kept_percent[] = {0, 10, 50, 90, 99, 100};
    unsigned percent = kept_percent[random_below(6)];
    for (size_t i = 0; i < file->journal_len; i++)
        if (random_below(100) < percent)
            memcpy(file->durable + file->journal[i].sector * DISK_SECTOR, file->journal[i].bytes, DISK_SECTOR);
    file->journal_len = 0;
    /* A file never shrinks by this: sectors that were lost read as zeros. */
    if (file->size < file->size_durable)
        file->size = file->size_durable;
    memcpy(file->now, file->durable, (size_t) file->size);
}

static void fragile_make(fragile_file *file)
{
    *file = (fragile_file){.now = calloc(1, FILE_MAX), .durable = calloc(1, FILE_MAX),
                           .journal = calloc(JOURNAL_MAX, sizeof *file->journal)};
    (void) pthread_mutex_init(&file->lock, NULL);
    if (file->now == NULL || file->durable == NULL || file->journal == NULL)
        abort();
}

static void fragile_reset(fragile_file *file)
{
    memset(file->now, 0, (size_t) file->size);
    memset(file->durable, 0, (size_t) file->size);
    file->size = file->size_durable = 0;
    file->journal_len = 0;
    file->calls_left = UINT64_MAX;
    file->random = random_next();
}

static void fragile_free(fragile_file *file)
{
    free(file->now);
    free(file->durable);
    free(file->journal);
}

static disk_io fragile_io(fragile_file *file)
{
    return (disk_io){.context = file, .read = fragile_read, .write = fragile_write, .sync = fragile_sync,
                     .punch = fragile_punch, .cut = fragile_cut, .size = fragile_size};
}

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
        return kind == 78 ? tccp_disk_compact(disk, &freed) : disk_prepare(disk, 64);
    }
    if (kind >= 80) {
        status = tccp_disk_flush(disk);
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
    memcpy(&contents[0][0] + offset, scratch, (size_t) len);
    model_changed(offset, len);
    return zero ? tccp_disk_zero(disk, offset, len) : tccp_disk_write(disk, offset, (size_t) len, scratch);
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
    company beside;
    if (status == TCCP_OK)
        company_comes(&beside, disk);
    int has_company = status == TCCP_OK;
    for (uint64_t left = random_below(OPERATIONS_MAX); status == TCCP_OK && left > 0; left--)
        status = one_operation(disk);
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
