/* image_job.c: the threads behind image_job.h. */
#define _GNU_SOURCE /* SEEK_DATA, MAP_ANONYMOUS */
#include "image_job.h"

#include <errno.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool image_job_fail_in_turn(image_job *job, tccp_status status, uint64_t chunk)
{
    int os_error = status == TCCP_ERR_IO ? errno : 0;
    if (job->status == TCCP_OK) {
        job->progress->os_error = os_error;
        job->progress->chunk = chunk;
        __atomic_store_n(&job->status, status, __ATOMIC_RELAXED);
    }
    pthread_cond_broadcast(&job->turned);
    pthread_mutex_unlock(&job->turn);
    return false;
}

bool image_job_fail(image_job *job, tccp_status status, uint64_t chunk)
{
    int os_error = errno;
    pthread_mutex_lock(&job->turn);
    errno = os_error;
    return image_job_fail_in_turn(job, status, chunk);
}

bool image_job_stopping(image_job *job)
{
    if (__atomic_load_n(&job->progress->cancel, __ATOMIC_RELAXED) != 0)
        (void) image_job_fail(job, TCCP_ERR_CANCELLED, 0);
    return __atomic_load_n(&job->status, __ATOMIC_RELAXED) != TCCP_OK;
}

void image_job_advance(image_job *job, uint64_t bytes)
{
    __atomic_fetch_add(&job->progress->done_bytes, bytes, __ATOMIC_RELAXED);
}

bool image_job_take_turn(image_job *job, const uint64_t *counter, uint64_t group)
{
    pthread_mutex_lock(&job->turn);
    while (*counter != group && job->status == TCCP_OK)
        pthread_cond_wait(&job->turned, &job->turn);
    if (job->status == TCCP_OK)
        return true;
    pthread_mutex_unlock(&job->turn);
    return false;
}

void image_job_end_turn(image_job *job, uint64_t *counter)
{
    (*counter)++;
    pthread_cond_broadcast(&job->turned);
    pthread_mutex_unlock(&job->turn);
}

bool image_job_write(image_job *job, uint64_t chunk, const void *bytes, size_t len, uint64_t offset)
{
    pthread_mutex_lock(&job->writing);
    bool written = image_write_at(job->target_fd, bytes, len, offset);
    pthread_mutex_unlock(&job->writing);
    return written || image_job_fail(job, TCCP_ERR_IO, chunk);
}

bool image_is_hole(int fd, uint64_t offset, uint64_t len)
{
    struct stat about;
    off_t data = lseek(fd, (off_t) offset, SEEK_DATA);
    if (data >= 0)
        return (uint64_t) data >= offset + len;
    /* No data up to the end of the file, which somebody may have cut since its length was asked for. */
    return errno == ENXIO && fstat(fd, &about) == 0 && (uint64_t) about.st_size >= offset + len;
}

static void *work(void *argument)
{
    image_job *job = argument;
    /* Pages of its own, at a page's boundary; they hold plaintext, so they are wiped. */
    uint8_t *buffer = mmap(NULL, job->buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        (void) image_job_fail(job, TCCP_ERR_NO_MEMORY, 0);
        return NULL;
    }
    (void) madvise(buffer, job->buffer_bytes, MADV_DONTDUMP);
    while (!image_job_stopping(job)) {
        uint64_t group = __atomic_fetch_add(&job->next_group, 1, __ATOMIC_RELAXED);
        if (!job->work(job, group, buffer))
            break;
    }
    sodium_memzero(buffer, job->buffer_bytes);
    (void) munmap(buffer, job->buffer_bytes);
    return NULL;
}

tccp_status image_job_run(image_job *job, uint32_t threads)
{
    if (threads > JOB_BUFFERS_BYTES_MAX / job->buffer_bytes)
        threads = (uint32_t) (JOB_BUFFERS_BYTES_MAX / job->buffer_bytes);
    pthread_t others[TCCP_IMAGE_THREADS_MAX];
    uint32_t started = 0;
    pthread_mutex_init(&job->writing, NULL);
    pthread_mutex_init(&job->turn, NULL);
    pthread_cond_init(&job->turned, NULL);
    /* Fewer threads than asked for are only slower. */
    while (started + 1 < threads && pthread_create(&others[started], NULL, work, job) == 0)
        started++;
    (void) work(job);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    pthread_cond_destroy(&job->turned);
    pthread_mutex_destroy(&job->turn);
    pthread_mutex_destroy(&job->writing);
    return job->status;
}
