/* test_image_cut.c: what is cut from a file while it is sealed or opened is missed, and not taken for a hole. */
#define _GNU_SOURCE /* memfd_create */
#include <fcntl.h>
#include <sys/mman.h>

#include "../image_seal.c"
#include "check.h"

enum { GROUPS = 2, SIZE = GROUPS * IMAGE_GROUP_BYTES };

static int empty_file(void)
{
    int fd = memfd_create("cut", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

/* Seal a file of SIZE bytes that is found to be cut when the work begins. */
static tccp_status seal_cut(uint64_t size_then, tccp_image_progress *progress)
{
    tccp_image_key *key = NULL;
    image_job job = {.progress = progress, .source_fd = empty_file(), .target_fd = empty_file(),
                     .info.suite = AEAD_XCHACHA20_POLY1305};
    CHECK(tccp_image_key_generate(&key) == TCCP_OK);
    CHECK(image_write_at(job.source_fd, "x", 1, 0) && ftruncate(job.source_fd, SIZE) == 0);
    tccp_status status = prepare(&job, key);
    CHECK(ftruncate(job.source_fd, (off_t) size_then) == 0);
    if (status == TCCP_OK)
        status = image_job_run(&job, 1);
    if (status == TCCP_OK)
        status = finish_image(&job);
    image_keys_free(job.keys);
    tccp_image_key_free(key);
    free(job.leaves);
    (void) close(job.source_fd);
    (void) close(job.target_fd);
    return status;
}

static void test_a_file_that_is_cut_while_it_is_sealed_does_not_end_in_zeros(void)
{
    tccp_image_progress progress = {0};
    CHECK(seal_cut(SIZE, &progress) == TCCP_OK);
    CHECK(seal_cut(SIZE - 1, &progress) == TCCP_ERR_IO && progress.os_error == ENODATA);
    CHECK(seal_cut(IMAGE_GROUP_BYTES, &progress) == TCCP_ERR_IO && progress.chunk == IMAGE_GROUP_CHUNKS);
}

static void test_a_hole_ends_where_its_file_does(void)
{
    int fd = empty_file();
    CHECK(image_write_at(fd, "x", 1, 0) && ftruncate(fd, SIZE) == 0);
    CHECK(!image_is_hole(fd, 0, IMAGE_CHUNK_BYTES));
    CHECK(image_is_hole(fd, IMAGE_CHUNK_BYTES, SIZE - IMAGE_CHUNK_BYTES));
    CHECK(!image_is_hole(fd, IMAGE_CHUNK_BYTES, SIZE));
    CHECK(!image_is_hole(fd, SIZE, 1));
    CHECK(image_write_at(fd, "x", 1, SIZE / 2));
    CHECK(image_is_hole(fd, IMAGE_CHUNK_BYTES, IMAGE_CHUNK_BYTES));
    CHECK(!image_is_hole(fd, IMAGE_CHUNK_BYTES, SIZE / 2));
    (void) close(fd);
}

int main(void)
{
    test_a_file_that_is_cut_while_it_is_sealed_does_not_end_in_zeros();
    test_a_hole_ends_where_its_file_does();
    return failures == 0 ? 0 : 1;
}
