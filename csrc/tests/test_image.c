/* test_image.c: sealing, opening and reading at random, in files that have no name; keys, the tree, and what is refused. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../hash.h"
#include "../image.h"
#include "../tpm_public.h"

static int failures;

#define CHECK(condition) check((condition), #condition, __LINE__)

static void check(int holds, const char *what, int line)
{
    if (holds)
        return;
    fprintf(stderr, "test_image.c:%d: %s\n", line, what);
    failures++;
}

static int empty_file(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        abort();
    return fd;
}

/* Chunk number c is full of the number c + 1, but every third chunk is zeros. */
static int plain_file(uint64_t size)
{
    int fd = empty_file();
    static uint8_t chunk[IMAGE_CHUNK_BYTES];
    for (uint64_t at = 0; at < size; at += sizeof chunk) {
        uint64_t number = at / sizeof chunk;
        size_t len = size - at < sizeof chunk ? (size_t) (size - at) : sizeof chunk;
        memset(chunk, number % 3 == 2 ? 0 : (int) (number % 255 + 1), len);
        CHECK(image_write_at(fd, chunk, len, at));
    }
    return fd;
}

static int seal(int plain, const tccp_image_key *key, uint32_t suite, tccp_image_info *ret_info)
{
    static uint8_t header[TCCP_IMAGE_HEADER_BYTES];
    tccp_image_progress progress = {0};
    int sealed = empty_file();
    CHECK(tccp_image_seal(plain, sealed, key, suite, 3, &progress, ret_info) == TCCP_OK);
    CHECK(progress.done_bytes == ret_info->size);
    CHECK(tccp_image_header_write(ret_info, header, 0, key, header, sizeof header) == TCCP_OK);
    CHECK(image_write_at(sealed, header, sizeof header, 0));
    return sealed;
}

static bool same_content(int one, int other, uint64_t size)
{
    static uint8_t a[IMAGE_CHUNK_BYTES], b[IMAGE_CHUNK_BYTES];
    bool same = lseek(one, 0, SEEK_END) == (off_t) size && lseek(other, 0, SEEK_END) == (off_t) size;
    for (uint64_t at = 0; same && at < size; at += sizeof a) {
        size_t len = size - at < sizeof a ? (size_t) (size - at) : sizeof a;
        same = image_read_at(one, a, len, at) && image_read_at(other, b, len, at) && memcmp(a, b, len) == 0;
    }
    return same;
}

static void test_round_trip(uint64_t size, uint32_t suite)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    tccp_image_progress progress = {0};
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    int plain = plain_file(size), sealed = seal(plain, key, suite, &info), opened = empty_file();
    CHECK(lseek(sealed, 0, SEEK_END) == (off_t) info.file_bytes);
    CHECK(tccp_image_check_tags(sealed, &info, &progress) == TCCP_OK);
    CHECK(tccp_image_open(sealed, opened, 0, &info, key, 3, &progress) == TCCP_OK);
    CHECK(same_content(plain, opened, size));
    (void) close(plain), (void) close(sealed), (void) close(opened);
    tccp_image_key_free(key);
}

/* ---- random access ------------------------------------------------------------------------------------------------ */

enum { READER_CHUNKS = 2 * IMAGE_GROUP_CHUNKS + 3 };

static void *read_all(void *argument)
{
    const image_reader *reader = argument;
    uint8_t *chunk = malloc(IMAGE_CHUNK_BYTES);
    for (uint64_t number = 0; chunk != NULL && number < READER_CHUNKS; number++) {
        uint8_t expected = number % 3 == 2 ? 0 : (uint8_t) (number % 255 + 1);
        bool right = image_reader_chunk(reader, number, chunk) == TCCP_OK && chunk[0] == expected &&
                     image_reader_chunk_is_zero(reader, number) == (expected == 0);
        if (!right)
            return argument;
    }
    free(chunk);
    return NULL;
}

static void test_reader(void)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    image_reader *reader = NULL;
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    int plain = plain_file((uint64_t) READER_CHUNKS * IMAGE_CHUNK_BYTES - 100), sealed = seal(plain, key, 1, &info);
    const uint8_t *key_bytes = tccp_image_key_bytes(key);

    uint8_t other_root[32] = {0}, other_key[32] = {0};
    CHECK(image_reader_open(sealed, key_bytes, other_root, &reader) == TCCP_ERR_ROOT);
    CHECK(image_reader_open(sealed, other_key, info.root, &reader) == TCCP_ERR_WRONG_KEY);
    CHECK(image_reader_open(sealed, key_bytes, info.root, &reader) == TCCP_OK);
    CHECK(image_reader_info(reader)->size == info.size);

    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, read_all, reader) == 0);
    for (int i = 0; i < 3; i++) {
        void *wrong = NULL;
        CHECK(pthread_join(threads[i], &wrong) == 0 && wrong == NULL);
    }

    uint8_t *chunk = malloc(IMAGE_CHUNK_BYTES), byte;
    CHECK(image_reader_chunk(reader, READER_CHUNKS - 1, chunk) == TCCP_OK);
    CHECK(chunk[IMAGE_CHUNK_BYTES - 100] == 0 && chunk[IMAGE_CHUNK_BYTES - 101] != 0);
    CHECK(image_reader_chunk(reader, READER_CHUNKS, chunk) == TCCP_OK && image_is_zero(chunk, IMAGE_CHUNK_BYTES));
    uint64_t at = image_chunk_offset(130) + 77;
    CHECK(image_read_at(sealed, &byte, 1, at));
    byte ^= 1;
    CHECK(image_write_at(sealed, &byte, 1, at));
    CHECK(image_reader_chunk(reader, 130, chunk) == TCCP_ERR_CHUNK_ALTERED && image_is_zero(chunk, IMAGE_CHUNK_BYTES));
    CHECK(image_reader_chunk(reader, 129, chunk) == TCCP_OK);
    free(chunk);
    image_reader_close(reader);
    image_reader_close(NULL);
    (void) close(plain), (void) close(sealed);
    tccp_image_key_free(key);
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

/* RFC 6962's definition, which splits from the top; ours grows from the bottom. */
static void tree_by_definition(const uint8_t (*leaves)[32], size_t count, uint8_t ret_root[32])
{
    uint8_t input[65] = {1}, digest[TCCP_DIGEST_BYTES_MAX];
    size_t left = 1;
    if (count == 1) {
        memcpy(ret_root, leaves[0], 32);
        return;
    }
    while (left * 2 < count)
        left *= 2;
    tree_by_definition(leaves, left, input + 1);
    tree_by_definition(leaves + left, count - left, input + 33);
    CHECK(hash_bytes(TPM_ALG_SHA256, input, sizeof input, digest));
    memcpy(ret_root, digest, 32);
}

static void test_tree(void)
{
    static uint8_t leaves[70][32];
    image_tree tree;
    randombytes_buf(leaves, sizeof leaves);
    image_tree_start(&tree);
    for (size_t count = 1; count <= 70; count++) {
        uint8_t expected[32], got[32];
        CHECK(image_tree_add(&tree, leaves[count - 1]));
        CHECK(image_tree_root(&tree, got));
        tree_by_definition((const uint8_t(*)[32]) leaves, count, expected);
        CHECK(memcmp(expected, got, 32) == 0);
    }
}

static void test_aead(uint32_t suite)
{
    uint8_t key[32] = {1}, nonce[32] = {2}, message[100] = {3}, text[100], back[100], tag[32];
    aead_encrypt(suite, text, tag, message, sizeof message, nonce, key);
    CHECK(aead_decrypt(suite, back, text, sizeof text, tag, nonce, key) && memcmp(back, message, sizeof back) == 0);
    for (size_t i = 0; i < sizeof tag; i++) {
        tag[i] ^= 1;
        CHECK(!aead_decrypt(suite, back, text, sizeof text, tag, nonce, key));
        tag[i] ^= 1;
    }
    for (size_t i = suite == AEAD_AEGIS256 ? 0 : 8; i < sizeof nonce; i++) {
        nonce[i] ^= 1;
        CHECK(!aead_decrypt(suite, back, text, sizeof text, tag, nonce, key));
        nonce[i] ^= 1;
    }
    aead_encrypt(suite, message, tag, message, sizeof message, nonce, key); /* in place */
    CHECK(memcmp(message, text, sizeof text) == 0);
}

static void test_key_is_wiped_where_it_came_from(void)
{
    uint8_t bytes[32];
    tccp_image_key *key = NULL;
    memset(bytes, 9, sizeof bytes);
    CHECK(tccp_image_key_take(bytes, 31, &key) == TCCP_ERR_USAGE);
    CHECK(tccp_image_key_take(bytes, sizeof bytes, &key) == TCCP_OK);
    CHECK(image_is_zero(bytes, sizeof bytes) && tccp_image_key_bytes(key)[31] == 9);
    tccp_image_key_free(key);
}

static void test_cancel_and_full_disk(void)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    tccp_image_progress cancelled = {.cancel = 1}, failed = {0};
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    int plain = plain_file(4 << 20), target = empty_file();
    CHECK(tccp_image_seal(plain, target, key, 1, 2, &cancelled, &info) == TCCP_ERR_CANCELLED);
    CHECK(ftruncate(target, 0) == 0 && fcntl(target, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    CHECK(tccp_image_seal(plain, target, key, 1, 2, &failed, &info) == TCCP_ERR_IO && failed.os_error == EPERM);
    (void) close(plain), (void) close(target);
    tccp_image_key_free(key);
}

typedef struct sealing {
    int source;
    tccp_image_progress progress;
    tccp_status status;
} sealing;

static void *seal_pipe(void *argument)
{
    sealing *mine = argument;
    tccp_image_key *key = NULL;
    tccp_image_info info;
    int target = empty_file();
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    mine->status = tccp_image_seal(mine->source, target, key, 1, 1, &mine->progress, &info);
    (void) close(mine->source), (void) close(target);
    tccp_image_key_free(key);
    return NULL;
}

/* A source that never rests: the job ends all the same, and not when a whole group has come. */
static void test_cancel_while_a_pipe_gives(void)
{
    static const uint8_t piece[4096] = {1};
    int ends[2];
    size_t given = 0;
    pthread_t thread;
    CHECK(pipe(ends) == 0);
    sealing job = {.source = ends[0]};
    CHECK(pthread_create(&thread, NULL, seal_pipe, &job) == 0);
    while (write(ends[1], piece, sizeof piece) == (ssize_t) sizeof piece) {
        given += sizeof piece;
        if (given > 1 << 18)  /* more than a pipe holds: it reads by now */
            __atomic_store_n(&job.progress.cancel, 1, __ATOMIC_RELAXED);
    }
    CHECK(errno == EPIPE && given < IMAGE_GROUP_BYTES / 2);
    CHECK(pthread_join(thread, NULL) == 0 && job.status == TCCP_ERR_CANCELLED);
    (void) close(ends[1]);
}

typedef struct opening {
    int sealed, target;
    const tccp_image_info *info;
    const tccp_image_key *key;
    tccp_image_progress progress;
    tccp_status status;
} opening;

static void *open_into_pipe(void *context)
{
    opening *job = context;
    job->status = tccp_image_open(job->sealed, job->target, 1, job->info, job->key, 2, &job->progress);
    return NULL;
}

/* Whoever has the other end does not read: the job ends all the same. */
static void test_cancel_while_a_pipe_is_full(void)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    int plain = empty_file(), sealed = empty_file(), ends[2], held = 0;
    pthread_t thread;
    tccp_image_progress progress = {0};
    CHECK(pipe(ends) == 0 && ftruncate(plain, 3 * (off_t) IMAGE_GROUP_BYTES) == 0);
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    CHECK(tccp_image_seal(plain, sealed, key, 1, 2, &progress, &info) == TCCP_OK);
    opening job = {.sealed = sealed, .target = ends[1], .info = &info, .key = key};
    CHECK(pthread_create(&thread, NULL, open_into_pipe, &job) == 0);
    while (ioctl(ends[0], FIONREAD, &held) == 0 && held < fcntl(ends[1], F_GETPIPE_SZ))
        (void) sched_yield();
    __atomic_store_n(&job.progress.cancel, 1, __ATOMIC_RELAXED);
    CHECK(pthread_join(thread, NULL) == 0 && job.status == TCCP_ERR_CANCELLED);
    (void) close(ends[0]), (void) close(ends[1]), (void) close(plain), (void) close(sealed);
    tccp_image_key_free(key);
}

int main(void)
{
    static const uint64_t sizes[] = {0, 1, IMAGE_CHUNK_BYTES, IMAGE_GROUP_BYTES, IMAGE_GROUP_BYTES + 1, 20000001};
    CHECK(aead_ready());
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_round_trip(sizes[i], TCCP_SUITE_AEGIS256);
        test_round_trip(sizes[i], TCCP_SUITE_XCHACHA20_POLY1305);
    }
    test_reader();
    test_tree();
    test_aead(AEAD_AEGIS256);
    test_aead(AEAD_XCHACHA20_POLY1305);
    test_key_is_wiped_where_it_came_from();
    test_cancel_and_full_disk();
    (void) signal(SIGPIPE, SIG_IGN);
    test_cancel_while_a_pipe_gives();
    test_cancel_while_a_pipe_is_full();
    return failures != 0;
}
