/* fragile_file.h: a file that loses what was not synced when the power fails.
 *
 * Since the last sync every write is remembered sector by sector. A power failure keeps an arbitrary part of them: of
 * a sector written twice perhaps the first version only, of a write of many sectors perhaps every other one. The
 * failure comes at a random call into the file, in the middle of a write too.
 */
#ifndef FRAGILE_FILE_H
#define FRAGILE_FILE_H

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"

enum { FILE_MAX = 24 << 20, JOURNAL_MAX = 1 << 18 };

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
    uint64_t room;               /* the file system is full beyond this */
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
    if (bytes != NULL && offset + len > file->room)
        return ENOSPC;
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
    file->room = UINT64_MAX;
    file->random = random_next();
}

static void fragile_has_room(fragile_file *file)
{
    (void) pthread_mutex_lock(&file->lock);
    file->room = UINT64_MAX;
    (void) pthread_mutex_unlock(&file->lock);
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

#endif /* FRAGILE_FILE_H */
