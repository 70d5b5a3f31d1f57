/* image_job.h: worker threads over the groups of an image, for sealing and for opening.
 *
 * Workers take groups in order and never wait for each other while both ends are files. Where an end is a pipe, they
 * take turns at it, in the order of the groups. The first thing that goes wrong ends all of them.
 */
#ifndef TCCP_IMAGE_JOB_H
#define TCCP_IMAGE_JOB_H

#include <pthread.h>

#include "image.h"

enum {
    /* Read, encrypted and written at once, 1 MiB: few enough turns at the file, and still in a core's second cache. */
    JOB_BATCH_CHUNKS = 16,
    JOB_BATCH_BYTES = JOB_BATCH_CHUNKS * IMAGE_CHUNK_BYTES,
    /* All buffers together: a batch for each thread, or a group where an end is a pipe. 64 MiB are promised. */
    JOB_BUFFERS_BYTES_MAX = 36 << 20
};

typedef struct image_job image_job;

struct image_job {
    /* Works on one group in a buffer of buffer_bytes. False: this was behind the last group, or image_job_fail was
     * called; this worker ends. */
    bool (*work)(image_job *job, uint64_t group, uint8_t *buffer);
    size_t buffer_bytes;
    tccp_image_progress *progress;
    tccp_image_info info;
    image_keys *keys;
    int source_fd;
    int target_fd;
    bool source_is_stream;
    bool target_is_stream;

    /* File systems let one thread at a time write to a file, and the others spin; here they sleep. */
    pthread_mutex_t writing;

    pthread_mutex_t turn; /* guards what follows */
    pthread_cond_t turned;
    uint64_t next_group;
    uint64_t groups_read;    /* from a stream */
    uint64_t groups_written; /* into a stream */
    tccp_status status;

    uint8_t *leaves; /* a hash for each tag page */
    uint64_t leaves_room;
    uint8_t carried; /* sealing a stream: the byte that showed that the last group was not the end */
    bool has_carried;
    bool at_end;
};

/* Runs the job to its end on so many threads, this one among them; returns how it ended. */
tccp_status image_job_run(image_job *job, uint32_t threads);

/* Ends the job; the first call counts. With TCCP_ERR_IO, errno is kept. Returns false, for `return image_job_fail(..)`. */
bool image_job_fail(image_job *job, tccp_status status, uint64_t chunk);

/* Whether to stop: somebody failed, or the caller cancelled. */
bool image_job_stopping(image_job *job);

void image_job_advance(image_job *job, uint64_t bytes);

/* Waits until *counter has come to group; false when the job ended meanwhile. Holds the lock on true. */
bool image_job_take_turn(image_job *job, const uint64_t *counter, uint64_t group);
void image_job_end_turn(image_job *job, uint64_t *counter);

/* As image_job_fail, instead of image_job_end_turn: nobody has a turn any more. */
bool image_job_fail_in_turn(image_job *job, tccp_status status, uint64_t chunk);

/* All of len bytes into the target file at offset; false after image_job_fail, which names the chunk. */
bool image_job_write(image_job *job, uint64_t chunk, const void *bytes, size_t len, uint64_t offset);

/* Whether these bytes are a hole: they are in the file, and its next data begins behind them. */
bool image_is_hole(int fd, uint64_t offset, uint64_t len);

#endif /* TCCP_IMAGE_JOB_H */
