/* image_seal.c: plaintext in, sealed chunks and their tags out, in one pass. */
#define _GNU_SOURCE /* fstat, ftruncate */
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_job.h"

/* How many of the chunks are of the same kind, data or zeros, as the first of them. */
static size_t plain_run_of(const uint8_t *chunks, size_t count, bool *ret_zero)
{
    size_t run = 1;
    *ret_zero = image_is_zero(chunks, IMAGE_CHUNK_BYTES);
    while (run < count && image_is_zero(chunks + run * IMAGE_CHUNK_BYTES, IMAGE_CHUNK_BYTES) == *ret_zero)
        run++;
    return run;
}

/* Encrypts chunks [first, first + count) in place and writes what is not zero, neighbours in one call. */
static bool seal_chunks(image_job *job, const tccp_image_info *info, uint64_t first, size_t count, uint8_t *chunks,
                        uint8_t *tags)
{
    for (size_t at = 0, run; at < count; at += run) {
        bool zero;
        uint8_t *data = chunks + at * IMAGE_CHUNK_BYTES;
        run = plain_run_of(data, count - at, &zero);
        for (size_t i = at; zero && i < at + run; i++)
            image_chunk_seal_zero(info, job->keys, first + i, tags + i * AEAD_TAG_BYTES);
        if (zero)
            continue;
        image_chunks_seal(info, job->keys, first + at, run, data, tags + at * AEAD_TAG_BYTES);
        if (!image_job_write(job, first + at, data, run * IMAGE_CHUNK_BYTES, image_chunk_offset(first + at)))
            return false;
    }
    return true;
}

static bool finish_group(image_job *job, uint64_t group, const uint8_t page[IMAGE_PAGE_BYTES])
{
    if (!image_job_write(job, group * IMAGE_GROUP_CHUNKS, page, IMAGE_PAGE_BYTES, image_page_offset(group)))
        return false;
    image_begin_writeback(job->target_fd, image_page_offset(group), IMAGE_PAGE_BYTES + IMAGE_GROUP_BYTES);
    uint8_t leaf[IMAGE_DIGEST_BYTES];
    if (!image_leaf_hash(page, leaf))
        return image_job_fail(job, TCCP_ERR_INTERNAL, 0);
    pthread_mutex_lock(&job->turn); /* the array may move */
    memcpy(job->leaves + group * IMAGE_DIGEST_BYTES, leaf, sizeof leaf);
    pthread_mutex_unlock(&job->turn);
    return true;
}

/* ---- from a file ------------------------------------------------------------------------------------------------ */

static bool seal_group_of_file(image_job *job, uint64_t group, uint8_t *buffer)
{
    uint64_t chunks = image_chunks(job->info.size);
    if (group >= image_groups(job->info.size))
        return false;
    uint8_t page[IMAGE_PAGE_BYTES] = {0};
    uint64_t first = group * IMAGE_GROUP_CHUNKS;
    uint64_t end = first + IMAGE_GROUP_CHUNKS < chunks ? first + IMAGE_GROUP_CHUNKS : chunks;
    for (uint64_t at = first; at < end; at += JOB_BATCH_CHUNKS) {
        if (image_job_stopping(job))
            return false;
        size_t count = end - at < JOB_BATCH_CHUNKS ? (size_t) (end - at) : JOB_BATCH_CHUNKS;
        uint64_t offset = at * IMAGE_CHUNK_BYTES, left = job->info.size - offset;
        size_t len = left < count * IMAGE_CHUNK_BYTES ? (size_t) left : count * IMAGE_CHUNK_BYTES;
        uint8_t *tags = page + (at - first) * AEAD_TAG_BYTES;
        if (image_is_hole(job->source_fd, offset, len)) {
            for (size_t i = 0; i < count; i++)
                image_chunk_seal_zero(&job->info, job->keys, at + i, tags + i * AEAD_TAG_BYTES);
        } else {
            memset(buffer + len, 0, count * IMAGE_CHUNK_BYTES - len);
            if (!image_read_at(job->source_fd, buffer, len, offset))
                return image_job_fail(job, TCCP_ERR_IO, at);
            if (!seal_chunks(job, &job->info, at, count, buffer, tags))
                return false;
        }
        image_job_advance(job, len);
    }
    return finish_group(job, group, page);
}

/* ---- from a pipe ------------------------------------------------------------------------------------------------ */

/* As much as there is, up to len; looks up now and then to see whether anybody still waits for it. */
static bool read_some(image_job *job, uint8_t *buffer, size_t len, size_t *ret_len)
{
    *ret_len = 0;
    while (*ret_len < len) {
        struct pollfd source = {.fd = job->source_fd, .events = POLLIN};
        int ready = poll(&source, 1, IMAGE_POLL_MS);
        if (__atomic_load_n(&job->progress->cancel, __ATOMIC_RELAXED) != 0)
            return true;
        if (ready == 0 || (ready < 0 && errno == EINTR))
            continue;
        ssize_t got = read(job->source_fd, buffer + *ret_len, len - *ret_len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            return true;
        *ret_len += (size_t) got;
    }
    return true;
}

/* One byte more than a group is read: only then it is known whether the group is the last one, as its nonces say.
 * ret_info is that of an image that ends with this group, or with that byte. */
static tccp_status read_group(image_job *job, uint64_t group, uint8_t *buffer, size_t *ret_len,
                              tccp_image_info *ret_info)
{
    size_t carried = job->has_carried ? 1 : 0, got = 0;
    buffer[0] = job->carried;
    if (!read_some(job, buffer + carried, IMAGE_GROUP_BYTES + 1 - carried, &got))
        return TCCP_ERR_IO;
    size_t len = carried + got;
    job->has_carried = len > IMAGE_GROUP_BYTES;
    job->carried = buffer[IMAGE_GROUP_BYTES];
    if (job->has_carried)
        len = IMAGE_GROUP_BYTES;
    else
        job->at_end = true;
    job->info.size += len;
    if (job->info.size > TCCP_IMAGE_SIZE_MAX)
        return TCCP_ERR_TOO_LARGE;
    if (group >= job->leaves_room) {
        uint8_t *larger = realloc(job->leaves, 2 * (group + 1) * IMAGE_DIGEST_BYTES);
        if (larger == NULL)
            return TCCP_ERR_NO_MEMORY;
        job->leaves = larger;
        job->leaves_room = 2 * (group + 1);
    }
    *ret_info = job->info;
    ret_info->size += job->has_carried;
    *ret_len = len;
    return TCCP_OK;
}

static bool seal_group_of_stream(image_job *job, uint64_t group, uint8_t *buffer)
{
    tccp_image_info info;
    size_t len = 0;
    if (!image_job_take_turn(job, &job->groups_read, group))
        return false;
    tccp_status status = job->at_end ? TCCP_OK : read_group(job, group, buffer, &len, &info);
    if (status != TCCP_OK)
        return image_job_fail_in_turn(job, status, group * IMAGE_GROUP_CHUNKS);
    image_job_end_turn(job, &job->groups_read);
    if (image_job_stopping(job) || len == 0)
        return false;
    size_t count = (size_t) image_chunks(len);
    memset(buffer + len, 0, count * IMAGE_CHUNK_BYTES - len);
    uint8_t page[IMAGE_PAGE_BYTES] = {0};
    for (size_t at = 0; at < count; at += JOB_BATCH_CHUNKS) {
        size_t batch = count - at < JOB_BATCH_CHUNKS ? count - at : JOB_BATCH_CHUNKS;
        if (image_job_stopping(job) || !seal_chunks(job, &info, group * IMAGE_GROUP_CHUNKS + at, batch,
                                                    buffer + at * IMAGE_CHUNK_BYTES, page + at * AEAD_TAG_BYTES))
            return false;
    }
    image_job_advance(job, len);
    return finish_group(job, group, page);
}

/* ---- both ------------------------------------------------------------------------------------------------------- */

static tccp_status finish_image(image_job *job)
{
    image_tree tree;
    image_tree_start(&tree);
    for (uint64_t group = 0; group < image_groups(job->info.size); group++) {
        if (!image_tree_add(&tree, job->leaves + group * IMAGE_DIGEST_BYTES))
            return TCCP_ERR_INTERNAL;
    }
    if (!image_tree_root(&tree, job->info.tree) || !image_root(&job->info, job->info.root))
        return TCCP_ERR_INTERNAL;
    job->info.file_bytes = image_file_bytes(job->info.size);
    if (ftruncate(job->target_fd, (off_t) job->info.file_bytes) != 0) {
        job->progress->os_error = errno;
        return TCCP_ERR_IO;
    }
    return TCCP_OK;
}

static tccp_status prepare(image_job *job, const tccp_image_key *key)
{
    struct stat source;
    if (!aead_ready())
        return TCCP_ERR_INTERNAL;
    if (fstat(job->source_fd, &source) != 0)
        return TCCP_ERR_IO;
    job->source_is_stream = !S_ISREG(source.st_mode);
    if (!job->source_is_stream) {
        job->info.size = (uint64_t) source.st_size;
        job->leaves_room = image_groups(job->info.size);
    }
    if (job->info.size > TCCP_IMAGE_SIZE_MAX)
        return TCCP_ERR_TOO_LARGE;
    __atomic_store_n(&job->progress->total_bytes, job->info.size, __ATOMIC_RELAXED);
    randombytes_buf(job->info.image_id, sizeof job->info.image_id);
    randombytes_buf(job->info.file_nonce, sizeof job->info.file_nonce);
    job->work = job->source_is_stream ? seal_group_of_stream : seal_group_of_file;
    job->buffer_bytes = job->source_is_stream ? IMAGE_GROUP_BYTES + 1 : JOB_BATCH_BYTES;
    job->leaves = malloc((job->leaves_room + 1) * IMAGE_DIGEST_BYTES);
    job->keys = image_keys_derive(tccp_image_key_bytes(key), &job->info);
    if (job->leaves == NULL || job->keys == NULL)
        return TCCP_ERR_NO_MEMORY;
    memcpy(job->info.commitment, job->keys->commitment, sizeof job->info.commitment);
    return TCCP_OK;
}

tccp_status tccp_image_seal(int source_fd, int target_fd, const tccp_image_key *key, uint32_t suite, uint32_t threads,
                            tccp_image_progress *progress, tccp_image_info *ret_info)
{
    if (key == NULL || progress == NULL || ret_info == NULL || !aead_suite_known(suite) || threads == 0 ||
        threads > TCCP_IMAGE_THREADS_MAX)
        return TCCP_ERR_USAGE;
    image_job job = {.progress = progress, .source_fd = source_fd, .target_fd = target_fd, .info.suite = suite};
    tccp_status status = prepare(&job, key);
    if (status == TCCP_ERR_IO)
        progress->os_error = errno;
    if (status == TCCP_OK)
        status = image_job_run(&job, threads);
    if (status == TCCP_OK)
        status = finish_image(&job);
    image_keys_free(job.keys);
    free(job.leaves);
    if (status == TCCP_OK)
        *ret_info = job.info;
    return status;
}
