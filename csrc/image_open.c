/* image_open.c: tags first, then every chunk against its tag, and only then plaintext out. */
#define _GNU_SOURCE /* fstat, ftruncate */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_job.h"

/* What is searched when a chunk is not the one that it should be; more would take long. */
enum { MOVED_SEARCH_MAX = 1 << 16 };

/* The file ends although its length was checked: somebody cuts it while we read. */
static bool read_failed(image_job *job, uint64_t chunk)
{
    return image_job_fail(job, errno == ENODATA ? TCCP_ERR_TRUNCATED : TCCP_ERR_IO, chunk);
}

/* The slots of zero chunks hold nothing: a file has one form only, and nobody hides anything in it. */
static bool check_empty_slots(image_job *job, uint64_t first, size_t count, uint8_t *buffer)
{
    uint64_t offset = image_chunk_offset(first);
    size_t len = count * IMAGE_CHUNK_BYTES;
    if (image_is_hole(job->source_fd, offset, len))
        return true;
    if (!image_read_at(job->source_fd, buffer, len, offset))
        return read_failed(job, first);
    for (size_t i = 0; i < count; i++) {
        if (!image_is_zero(buffer + i * IMAGE_CHUNK_BYTES, IMAGE_CHUNK_BYTES))
            return image_job_fail(job, TCCP_ERR_CHUNK_ALTERED, first + i);
    }
    return true;
}

/* How many of the chunks from `first` on are of the same kind, data or zeros, as the first of them. */
static size_t run_of(const image_job *job, uint64_t first, size_t count, const uint8_t *tags, bool *ret_zero)
{
    *ret_zero = image_chunk_is_zero(&job->info, job->keys, first, tags);
    size_t run = 1;
    while (run < count &&
           image_chunk_is_zero(&job->info, job->keys, first + run, tags + run * AEAD_TAG_BYTES) == *ret_zero)
        run++;
    return run;
}

/* Chunks [first, first + count), data all of them: read, verified and decrypted in buffer. */
static bool open_data(image_job *job, uint64_t first, size_t count, const uint8_t *tags, uint8_t *buffer)
{
    if (!image_read_at(job->source_fd, buffer, count * IMAGE_CHUNK_BYTES, image_chunk_offset(first)))
        return read_failed(job, first);
    size_t good = image_chunks_open(&job->info, job->keys, first, count, buffer, tags);
    if (good < count)
        return image_job_fail(job, TCCP_ERR_CHUNK_ALTERED, first + good);
    uint64_t end = (first + count) * IMAGE_CHUNK_BYTES;
    if (end > job->info.size) {
        size_t padding = (size_t) (end - job->info.size);
        if (!image_is_zero(buffer + count * IMAGE_CHUNK_BYTES - padding, padding))
            return image_job_fail(job, TCCP_ERR_MALFORMED, first + count - 1);
    }
    return true;
}

static size_t bytes_of(const image_job *job, uint64_t first, size_t count)
{
    uint64_t left = job->info.size - first * IMAGE_CHUNK_BYTES;
    return left < count * IMAGE_CHUNK_BYTES ? (size_t) left : count * IMAGE_CHUNK_BYTES;
}

static bool open_batch(image_job *job, uint64_t first, size_t count, const uint8_t *tags, uint8_t *buffer)
{
    for (size_t at = 0, run; at < count; at += run) {
        bool zero;
        run = run_of(job, first + at, count - at, tags + at * AEAD_TAG_BYTES, &zero);
        uint8_t *plaintext = buffer + at * IMAGE_CHUNK_BYTES;
        if (zero) {
            if (!check_empty_slots(job, first + at, run, plaintext))
                return false;
            if (job->target_is_stream)
                memset(plaintext, 0, run * IMAGE_CHUNK_BYTES);
            continue;
        }
        if (!open_data(job, first + at, run, tags + at * AEAD_TAG_BYTES, plaintext))
            return false;
        if (job->target_fd >= 0 && !job->target_is_stream &&
            !image_job_write(job, first + at, plaintext, bytes_of(job, first + at, run),
                             (first + at) * IMAGE_CHUNK_BYTES))
            return false;
    }
    image_job_advance(job, bytes_of(job, first, count));
    return true;
}

static bool write_in_turn(image_job *job, uint64_t group, const uint8_t *buffer, size_t len)
{
    if (!image_job_take_turn(job, &job->groups_written, group))
        return false;
    tccp_status status = TCCP_OK;
    for (size_t done = 0; status == TCCP_OK && done < len;) {
        size_t room = image_stream_room(job->target_fd, len - done);
        ssize_t put = room == 0 ? 0 : write(job->target_fd, buffer + done, room);
        if (put >= 0)
            done += (size_t) put;
        else if (errno != EINTR)
            status = TCCP_ERR_IO;
        if (status == TCCP_OK && __atomic_load_n(&job->progress->cancel, __ATOMIC_RELAXED) != 0)
            status = TCCP_ERR_CANCELLED;
    }
    if (status != TCCP_OK)
        return image_job_fail_in_turn(job, status, group * IMAGE_GROUP_CHUNKS);
    image_job_end_turn(job, &job->groups_written);
    return true;
}

static bool open_group(image_job *job, uint64_t group, uint8_t *buffer)
{
    uint64_t chunks = image_chunks(job->info.size), first = group * IMAGE_GROUP_CHUNKS;
    if (first >= chunks)
        return false;
    uint8_t page[IMAGE_PAGE_BYTES], leaf[IMAGE_DIGEST_BYTES];
    if (!image_read_at(job->source_fd, page, sizeof page, image_page_offset(group)))
        return read_failed(job, first);
    if (!image_leaf_hash(page, leaf))
        return image_job_fail(job, TCCP_ERR_INTERNAL, first);
    /* Its hash led to the root a moment ago: if it does not now, somebody writes while we read. */
    if (memcmp(leaf, job->leaves + group * IMAGE_DIGEST_BYTES, sizeof leaf) != 0)
        return image_job_fail(job, TCCP_ERR_TAGS_ALTERED, first);
    size_t count = chunks - first < IMAGE_GROUP_CHUNKS ? (size_t) (chunks - first) : IMAGE_GROUP_CHUNKS;
    if (!image_is_zero(page + count * AEAD_TAG_BYTES, (IMAGE_GROUP_CHUNKS - count) * AEAD_TAG_BYTES))
        return image_job_fail(job, TCCP_ERR_MALFORMED, first);
    for (size_t at = 0; at < count; at += JOB_BATCH_CHUNKS) {
        size_t batch = count - at < JOB_BATCH_CHUNKS ? count - at : JOB_BATCH_CHUNKS;
        uint8_t *place = job->target_is_stream ? buffer + at * IMAGE_CHUNK_BYTES : buffer;
        if (image_job_stopping(job) || !open_batch(job, first + at, batch, page + at * AEAD_TAG_BYTES, place))
            return false;
    }
    if (job->target_is_stream)
        return write_in_turn(job, group, buffer, bytes_of(job, first, count));
    if (job->target_fd >= 0)
        image_begin_writeback(job->target_fd, first * IMAGE_CHUNK_BYTES, IMAGE_GROUP_BYTES);
    return true;
}

/* A chunk that is not the one that it should be: is it another one of this image? */
static tccp_status find_moved(const image_job *job)
{
    uint64_t chunks = image_chunks(job->info.size);
    uint8_t page[IMAGE_PAGE_BYTES];
    uint8_t *found = malloc(2 * IMAGE_CHUNK_BYTES);
    bool moved = false;
    if (found != NULL &&
        image_read_at(job->source_fd, found, IMAGE_CHUNK_BYTES, image_chunk_offset(job->progress->chunk))) {
        for (uint64_t chunk = 0; chunk < chunks && chunk < MOVED_SEARCH_MAX && !moved; chunk++) {
            size_t at = chunk % IMAGE_GROUP_CHUNKS;
            if (at == 0 && !image_read_at(job->source_fd, page, sizeof page,
                                          image_page_offset(chunk / IMAGE_GROUP_CHUNKS)))
                break;
            moved = chunk != job->progress->chunk &&
                    image_chunk_open(&job->info, job->keys, chunk, found + IMAGE_CHUNK_BYTES, found,
                                     page + at * AEAD_TAG_BYTES);
            if (moved)
                job->progress->moved_from = chunk;
        }
    }
    if (found != NULL)
        sodium_memzero(found, 2 * IMAGE_CHUNK_BYTES);
    free(found);
    return moved ? TCCP_ERR_CHUNK_MOVED : TCCP_ERR_CHUNK_ALTERED;
}

static tccp_status prepare(image_job *job, const tccp_image_key *key)
{
    struct stat target;
    if (!aead_ready())
        return TCCP_ERR_INTERNAL;
    if (job->target_fd >= 0) {
        if (fstat(job->target_fd, &target) != 0)
            return TCCP_ERR_IO;
        job->target_is_stream |= !S_ISREG(target.st_mode);
        if (!job->target_is_stream && ftruncate(job->target_fd, (off_t) job->info.size) != 0)
            return TCCP_ERR_IO;
    }
    job->buffer_bytes = job->target_is_stream ? IMAGE_GROUP_BYTES : JOB_BATCH_BYTES;
    job->keys = image_keys_derive(tccp_image_key_bytes(key), &job->info);
    job->leaves = malloc((image_groups(job->info.size) + 1) * IMAGE_DIGEST_BYTES);
    if (job->keys == NULL || job->leaves == NULL)
        return TCCP_ERR_NO_MEMORY;
    return image_check_pages(job->source_fd, &job->info, job->leaves, NULL);
}

tccp_status tccp_image_open(int image_fd, int target_fd, int in_order, const tccp_image_info *info,
                            const tccp_image_key *key, uint32_t threads, tccp_image_progress *progress)
{
    if (info == NULL || key == NULL || progress == NULL || info->size > TCCP_IMAGE_SIZE_MAX || threads == 0 ||
        threads > TCCP_IMAGE_THREADS_MAX)
        return TCCP_ERR_USAGE;
    image_job job = {.progress = progress, .source_fd = image_fd, .target_fd = target_fd, .info = *info,
                     .target_is_stream = in_order != 0, .work = open_group};
    __atomic_store_n(&progress->total_bytes, info->size, __ATOMIC_RELAXED);
    tccp_status status = prepare(&job, key);
    if (status == TCCP_ERR_IO)
        progress->os_error = errno;
    if (status == TCCP_OK)
        status = image_job_run(&job, threads);
    if (status == TCCP_ERR_CHUNK_ALTERED)
        status = find_moved(&job);
    image_keys_free(job.keys);
    free(job.leaves);
    return status;
}

tccp_status tccp_image_check_tags(int image_fd, const tccp_image_info *info, tccp_image_progress *progress)
{
    if (info == NULL || progress == NULL || info->size > TCCP_IMAGE_SIZE_MAX)
        return TCCP_ERR_USAGE;
    tccp_status status = image_check_pages(image_fd, info, NULL, NULL);
    if (status == TCCP_ERR_IO)
        progress->os_error = errno;
    return status;
}
