/* test_image_failures.c: a write that fails is the last one into a stream, a lack of memory is not a wrong key, and a job that
 * is cancelled while it waits has not come to its end.
 *
 * The parts that fail are those below: the files of the core are taken in with other names for what they call.
 */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "image_job.h"

static unsigned writes;

static ssize_t failing_write(int fd, const void *bytes, size_t len)
{
    (void) fd, (void) bytes, (void) len;
    __atomic_fetch_add(&writes, 1, __ATOMIC_RELAXED);
    errno = EDQUOT;
    return -1;
}

static int memory_left = 1;

static image_keys *derive_or_not(const uint8_t *key, const tccp_image_info *info)
{
    return memory_left ? image_keys_derive(key, info) : NULL;
}

static tccp_image_progress *waiting;

static int cancelled_meanwhile(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    (void) fds, (void) count, (void) timeout_ms;
    __atomic_store_n(&waiting->cancel, 1, __ATOMIC_RELAXED);
    return 0;
}

#define write failing_write
#include "image_open.c"
#undef write
#define poll(fds, count, timeout_ms) cancelled_meanwhile(fds, count, timeout_ms)
#define prepare prepare_seal
#include "image_seal.c"
#define image_keys_derive derive_or_not
#include "image_header.c"

enum { ATTEMPTS = 20, GROUPS = 3 };

static void nothing_is_written_after_a_write_that_failed(void)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    tccp_image_progress progress = {0};
    int plain = memfd_create("plain", MFD_CLOEXEC), sealed = memfd_create("sealed", MFD_CLOEXEC);
    int target = memfd_create("target", MFD_CLOEXEC);
    CHECK(ftruncate(plain, (off_t) GROUPS * IMAGE_GROUP_BYTES) == 0);
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    CHECK(tccp_image_seal(plain, sealed, key, 1, 1, &progress, &info) == TCCP_OK);
    for (int i = 0; i < ATTEMPTS; i++) {
        writes = 0;
        CHECK(tccp_image_open(sealed, target, 1, &info, key, GROUPS, &progress) == TCCP_ERR_IO);
        CHECK(writes == 1 && progress.os_error == EDQUOT && progress.chunk == 0);
    }
    (void) close(plain), (void) close(sealed), (void) close(target);
    tccp_image_key_free(key);
}

static void a_lack_of_memory_is_not_a_wrong_key(void)
{
    static uint8_t header[TCCP_IMAGE_HEADER_BYTES];
    tccp_image_key *key = NULL;
    tccp_image_info info = {.suite = 1};
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    CHECK(tccp_image_header_check(header, sizeof header, &info, key) == TCCP_ERR_WRONG_KEY);
    memory_left = 0;
    CHECK(tccp_image_header_check(header, sizeof header, &info, key) == TCCP_ERR_NO_MEMORY);
    tccp_image_key_free(key);
}

static void a_job_that_is_cancelled_before_anything_came_is_cancelled(void)
{
    tccp_image_key *key = NULL;
    tccp_image_info info;
    tccp_image_progress progress = {0};
    int target = memfd_create("target", MFD_CLOEXEC), ends[2];
    waiting = &progress;
    CHECK(pipe(ends) == 0 && tccp_image_key_generate(&key) == TCCP_OK);
    CHECK(tccp_image_seal(ends[0], target, key, 1, 1, &progress, &info) == TCCP_ERR_CANCELLED);
    (void) close(ends[0]), (void) close(ends[1]), (void) close(target);
    tccp_image_key_free(key);
}

int main(void)
{
    a_job_that_is_cancelled_before_anything_came_is_cancelled();
    nothing_is_written_after_a_write_that_failed();
    a_lack_of_memory_is_not_a_wrong_key();
    return failures != 0;
}
