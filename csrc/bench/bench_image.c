/* bench_image.c: ciphers beside memcpy, streaming through memory in chunks, on one thread and on all.
 *
 *     bench_image MEBIBYTES ROUNDS
 *
 * Prints JSON: GB/s by work and threads, the median of the rounds, by turns.
 */
#define _GNU_SOURCE /* clock_gettime, mmap */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../image.h"

enum { ROUNDS_MAX = 31, THREADS_MAX = 16 };

static uint8_t *source, *target;
static uint8_t (*tags)[AEAD_TAG_BYTES];
static size_t bytes;
static const uint8_t key[AEAD_KEY_BYTES] = {1};

static void copy(size_t chunk, size_t chunk_bytes)
{
    memcpy(target + chunk * chunk_bytes, source + chunk * chunk_bytes, chunk_bytes);
}

static void encrypt(uint32_t suite, size_t chunk, size_t chunk_bytes)
{
    uint8_t nonce[AEAD_NONCE_BYTES] = {0};
    memcpy(nonce + 16, &chunk, sizeof chunk);
    aead_encrypt(suite, target + chunk * chunk_bytes, tags[chunk], source + chunk * chunk_bytes, chunk_bytes, nonce, key);
}

static void encrypt_aegis(size_t chunk, size_t chunk_bytes)
{
    encrypt(AEAD_AEGIS256, chunk, chunk_bytes);
}

static void encrypt_xchacha(size_t chunk, size_t chunk_bytes)
{
    encrypt(AEAD_XCHACHA20_POLY1305, chunk, chunk_bytes);
}

static const struct {
    const char *name;
    size_t chunk_bytes;
    void (*work)(size_t chunk, size_t chunk_bytes);
} works[] = {
    {"memcpy 64 KiB", 65536, copy},
    {"AEGIS-256 4 KiB", 4096, encrypt_aegis},
    {"AEGIS-256 16 KiB", 16384, encrypt_aegis},
    {"AEGIS-256 64 KiB", 65536, encrypt_aegis},
    {"AEGIS-256 256 KiB", 262144, encrypt_aegis},
    {"XChaCha20-Poly1305 64 KiB", 65536, encrypt_xchacha},
};
enum { WORKS = sizeof works / sizeof *works };

struct share {
    size_t work, number, count;
};

static void *run_share(void *argument)
{
    const struct share *share = argument;
    size_t chunk_bytes = works[share->work].chunk_bytes, chunks = bytes / chunk_bytes;
    for (size_t chunk = share->number * chunks / share->count; chunk < (share->number + 1) * chunks / share->count; chunk++)
        works[share->work].work(chunk, chunk_bytes);
    return NULL;
}

static double seconds_of(size_t work, size_t threads)
{
    struct timespec start, end;
    struct share shares[THREADS_MAX];
    pthread_t others[THREADS_MAX];
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t i = 0; i < threads; i++) {
        shares[i] = (struct share){.work = work, .number = i, .count = threads};
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

int main(int argc, char **argv)
{
    static double times[2][WORKS][ROUNDS_MAX];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t all = cpus < 1 ? 1 : cpus > THREADS_MAX ? THREADS_MAX : (size_t) cpus;
    int rounds = argc == 3 ? atoi(argv[2]) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX || !aead_ready()) {
        fprintf(stderr, "usage: bench_image MEBIBYTES ROUNDS\n");
        return 2;
    }
    bytes = (size_t) atoi(argv[1]) << 20;
    source = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    target = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tags = calloc(bytes / 4096, sizeof *tags);
    if (source == MAP_FAILED || target == MAP_FAILED || tags == NULL)
        abort();
    memset(source, 5, bytes); /* a page that is touched for the first time costs more than what is measured */
    memset(target, 6, bytes);
    for (int round = 0; round < rounds; round++)
        for (size_t work = 0; work < WORKS; work++)
            for (int many = 0; many < 2; many++)
                times[many][work][round] = seconds_of(work, many ? all : 1);
    printf("{\"threads\": %zu", all);
    for (size_t work = 0; work < WORKS; work++)
        for (int many = 0; many < 2; many++) {
            qsort(times[many][work], (size_t) rounds, sizeof times[many][work][0], ascending);
            printf(", \"%s, %s\": %.2f", works[work].name, many ? "all" : "one",
                   (double) bytes / times[many][work][rounds / 2] / 1e9);
        }
    printf("}\n");
    return 0;
}
