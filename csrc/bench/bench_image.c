/* bench_image.c: throughput by size of chunk and number of threads.
 *
 *     bench_image MEBIBYTES ROUNDS FOLDER
 *
 * memcpy and the ciphers stream through memory; "files" is what sealing does, from one file in FOLDER to another: read
 * 1 MiB, encrypt it in chunks, write it when no other thread writes. Prints a JSON array of {work, chunk_bytes, threads,
 * gb_s}, each the median of the rounds, by turns.
 */
#define _GNU_SOURCE /* clock_gettime, mmap, O_TMPFILE */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../image_job.h"

enum { ROUNDS_MAX = 31, THREADS_MAX = 64 };

static uint8_t *source, *target;
static int source_fd, target_fd;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static size_t bytes;
static const uint8_t key[AEAD_KEY_BYTES] = {1};

static void encrypt(uint32_t suite, uint8_t *out, const uint8_t *in, size_t offset, size_t len)
{
    uint8_t nonce[AEAD_NONCE_BYTES] = {0}, tag[AEAD_TAG_BYTES];
    memcpy(nonce + 16, &offset, sizeof offset);
    aead_encrypt(suite, out, tag, in, len, nonce, key);
}

static void copy(size_t offset, size_t chunk_bytes, uint8_t *buffer)
{
    (void) buffer;
    memcpy(target + offset, source + offset, chunk_bytes);
}

static void encrypt_aegis(size_t offset, size_t chunk_bytes, uint8_t *buffer)
{
    (void) buffer;
    encrypt(AEAD_AEGIS256, target + offset, source + offset, offset, chunk_bytes);
}

static void encrypt_xchacha(size_t offset, size_t chunk_bytes, uint8_t *buffer)
{
    (void) buffer;
    encrypt(AEAD_XCHACHA20_POLY1305, target + offset, source + offset, offset, chunk_bytes);
}

static void encrypt_file(size_t offset, size_t chunk_bytes, uint8_t *buffer)
{
    if (!image_read_at(source_fd, buffer, JOB_BATCH_BYTES, offset))
        abort();
    for (size_t at = 0; at < JOB_BATCH_BYTES; at += chunk_bytes)
        encrypt(AEAD_AEGIS256, buffer + at, buffer + at, offset + at, chunk_bytes);
    pthread_mutex_lock(&writing);
    if (!image_write_at(target_fd, buffer, JOB_BATCH_BYTES, offset))
        abort();
    pthread_mutex_unlock(&writing);
}

static const struct work {
    const char *name;
    size_t unit_bytes; /* at once; 0: a chunk */
    void (*work)(size_t offset, size_t chunk_bytes, uint8_t *buffer);
} works[] = {
    {"memcpy", 0, copy},
    {"AEGIS-256", 0, encrypt_aegis},
    {"XChaCha20-Poly1305", 0, encrypt_xchacha},
    {"files", JOB_BATCH_BYTES, encrypt_file},
};
static const size_t chunk_sizes[] = {4096, 16384, 65536, 262144, JOB_BATCH_BYTES};
enum { WORKS = sizeof works / sizeof *works, SIZES = sizeof chunk_sizes / sizeof *chunk_sizes, THREADS = 3 };

/* What one thread does: every count-th unit, beginning with its own. */
struct share {
    const struct work *work;
    size_t chunk_bytes, number, count;
};

static void *run_share(void *argument)
{
    const struct share *share = argument;
    size_t unit = share->work->unit_bytes != 0 ? share->work->unit_bytes : share->chunk_bytes;
    uint8_t *buffer = malloc(JOB_BATCH_BYTES);
    if (buffer == NULL)
        abort();
    for (size_t offset = share->number * unit; offset < bytes; offset += share->count * unit)
        share->work->work(offset, share->chunk_bytes, buffer);
    free(buffer);
    return NULL;
}

static double seconds_of(const struct work *work, size_t chunk_bytes, size_t threads)
{
    struct timespec start, end;
    struct share shares[THREADS_MAX];
    pthread_t others[THREADS_MAX];
    if (ftruncate(target_fd, 0) != 0)
        abort();
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t i = 0; i < threads; i++) {
        shares[i] = (struct share){.work = work, .chunk_bytes = chunk_bytes, .number = i, .count = threads};
        if (i > 0 && pthread_create(&others[i], NULL, run_share, &shares[i]) != 0)
            abort();
    }
    (void) run_share(&shares[0]);
    for (size_t i = 1; i < threads; i++)
        pthread_join(others[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double) (end.tv_sec - start.tv_sec) + (double) (end.tv_nsec - start.tv_nsec) / 1e9;
}

static int ascending(const void *one, const void *other)
{
    double a = *(const double *) one, b = *(const double *) other;
    return (a > b) - (a < b);
}

/* Filled: a page that is touched for the first time costs more than what is measured. */
static uint8_t *make_memory(int filling)
{
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    memset(memory, filling, bytes);
    return memory;
}

int main(int argc, char **argv)
{
    static double times[WORKS][SIZES][THREADS][ROUNDS_MAX];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t all = cpus < 1 ? 1 : cpus > THREADS_MAX / 2 ? THREADS_MAX / 2 : (size_t) cpus;
    const size_t threads[THREADS] = {1, all, 2 * all};
    int rounds = argc == 4 ? atoi(argv[2]) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX || !aead_ready()) {
        fprintf(stderr, "usage: bench_image MEBIBYTES ROUNDS FOLDER\n");
        return 2;
    }
    bytes = (size_t) atoi(argv[1]) << 20;
    source = make_memory(5);
    target = make_memory(6);
    source_fd = open(argv[3], O_TMPFILE | O_RDWR, 0600);
    target_fd = open(argv[3], O_TMPFILE | O_RDWR, 0600);
    if (source_fd < 0 || target_fd < 0 || !image_write_at(source_fd, source, bytes, 0) ||
        !image_write_at(target_fd, source, bytes, 0))
        abort();
    for (int round = 0; round < rounds; round++)
        for (size_t work = 0; work < WORKS; work++)
            for (size_t size = 0; size < SIZES; size++)
                for (size_t many = 0; many < THREADS; many++)
                    times[work][size][many][round] = seconds_of(&works[work], chunk_sizes[size], threads[many]);
    const char *separator = "[";
    for (size_t work = 0; work < WORKS; work++)
        for (size_t size = 0; size < SIZES; size++)
            for (size_t many = 0; many < THREADS; many++) {
                double *found = times[work][size][many];
                qsort(found, (size_t) rounds, sizeof *found, ascending);
                printf("%s{\"work\": \"%s\", \"chunk_bytes\": %zu, \"threads\": %zu, \"gb_s\": %.3f}", separator,
                       works[work].name, chunk_sizes[size], threads[many], (double) bytes / found[rounds / 2] / 1e9);
                separator = ",\n";
            }
    printf("]\n");
    return 0;
}
