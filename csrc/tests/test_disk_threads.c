/* test_disk_threads.c: threads that write, zero, read and flush beside each other, down to parts of one block.
 *
 * Each thread owns every THREADS-th sector of the disk, so that all threads meet in every block; no change of one may
 * be lost by a change of another. Runs clean under gcc's thread sanitizer, too.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "disk_memory.h"

enum { THREADS = 4, BLOCKS = 64, ROUNDS = 600, SECTORS = BLOCKS * DISK_BLOCK / DISK_SECTOR };

static memory_file file;
static tccp_disk *disk;
static uint8_t expected[SECTORS];
static int wrong[THREADS];

static void *work(void *argument)
{
    unsigned me = (unsigned) (size_t) argument;
    uint64_t seed = me + 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t bytes[DISK_SECTOR];
        seed = seed * 6364136223846793005 + 1442695040888963407;
        unsigned sector = (unsigned) (seed >> 33) % (SECTORS / THREADS) * THREADS + me;
        uint64_t at = (uint64_t) sector * DISK_SECTOR;
        unsigned kind = (unsigned) (seed >> 24) % 16;
        if (kind == 0) {
            wrong[me] |= tccp_disk_flush(disk) != TCCP_OK;
        } else if (kind < 8) {
            wrong[me] |= tccp_disk_read(disk, at, sizeof bytes, bytes) != TCCP_OK;
            for (size_t k = 0; k < sizeof bytes; k++)
                wrong[me] |= bytes[k] != expected[sector];
        } else {
            expected[sector] = kind < 10 ? 0 : (uint8_t) (seed >> 40);
            memset(bytes, expected[sector], sizeof bytes);
            wrong[me] |= (kind < 10 ? tccp_disk_zero(disk, at, sizeof bytes)
                                    : tccp_disk_write(disk, at, sizeof bytes, bytes)) != TCCP_OK;
        }
    }
    return NULL;
}

/* Whole blocks of one thread between two others: slots change hands all the time, and every read must still verify. */
static void *overwrite(void *argument)
{
    uint64_t from = (BLOCKS + (uint64_t) (size_t) argument * 16) * DISK_BLOCK;
    uint8_t *bytes = malloc(16 * DISK_BLOCK);
    unsigned me = (unsigned) (size_t) argument;
    for (unsigned i = 0; bytes != NULL && i < ROUNDS / 4; i++) {
        memset(bytes, (int) i, 16 * DISK_BLOCK);
        wrong[me] |= tccp_disk_write(disk, from, 16 * DISK_BLOCK, bytes) != TCCP_OK;
        if (i % 8 == 0)
            wrong[me] |= tccp_disk_flush(disk) != TCCP_OK;
        /* Somebody else's blocks: whatever they hold, they hold it whole. */
        uint64_t other = (BLOCKS + (uint64_t) ((me + 1) % THREADS) * 16 + i % 16) * DISK_BLOCK;
        wrong[me] |= tccp_disk_read(disk, other, DISK_BLOCK, bytes) != TCCP_OK;
        for (size_t k = 1; k < DISK_BLOCK; k++)
            wrong[me] |= bytes[k] != bytes[0];
    }
    free(bytes);
    return NULL;
}

static int stop_compacting;

/* Beside all of them, as a served disk may be asked to. */
static void *compact(void *argument)
{
    int *bad = argument;
    while (!__atomic_load_n(&stop_compacting, __ATOMIC_RELAXED)) {
        uint64_t freed;
        *bad |= tccp_disk_compact(disk, &freed) != TCCP_OK || disk_prepare(disk, 64) != TCCP_OK;
    }
    return NULL;
}

static void together(void *(*what)(void *))
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, what, (void *) i) != 0)
            abort();
    for (size_t i = 0; i < THREADS; i++)
        (void) pthread_join(threads[i], NULL);
}

int main(void)
{
    int failures = 0, bad = 0;
    pthread_t compacting;
    disk = memory_disk(&file, (BLOCKS + THREADS * 16) * DISK_BLOCK);
    if (tccp_disk_keeper_start(disk) != TCCP_OK || pthread_create(&compacting, NULL, compact, &bad) != 0)
        abort();
    together(work);
    together(overwrite);
    __atomic_store_n(&stop_compacting, 1, __ATOMIC_RELAXED);
    (void) pthread_join(compacting, NULL);
    failures += bad;
    for (unsigned i = 0; i < THREADS; i++)
        failures += wrong[i];
    for (unsigned sector = 0; sector < SECTORS; sector++) {
        uint8_t bytes[DISK_SECTOR];
        if (tccp_disk_read(disk, (uint64_t) sector * DISK_SECTOR, sizeof bytes, bytes) != TCCP_OK ||
            bytes[0] != expected[sector] || bytes[sizeof bytes - 1] != expected[sector])
            failures++;
    }
    tccp_disk_free(disk);
    memory_free(&file);
    if (failures != 0)
        fprintf(stderr, "test_disk_threads: %d failures\n", failures);
    return failures != 0;
}
