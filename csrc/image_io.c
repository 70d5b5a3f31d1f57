/* image_io.c: reading and writing at a place, completely or not at all. */
#define _GNU_SOURCE /* pread, pwrite, sync_file_range, F_GETPIPE_SZ */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

enum {
    /* The page cache takes memory in pieces as large as what is written at once (ext4's large folios). On a virtual
     * machine large free pieces are those that the host has taken back: to fill one costs up to thrice what many small
     * ones cost, and on a real one as much. */
    WRITE_BYTES = 128 << 10
};

bool image_read_at(int fd, void *buffer, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (uint8_t *) buffer + done, len - done, (off_t) (offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = ENODATA;
        if (got <= 0)
            return false;
        done += (size_t) got;
    }
    return true;
}

bool image_write_at(int fd, const void *buffer, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        size_t part = len - done < WRITE_BYTES ? len - done : WRITE_BYTES;
        ssize_t put = pwrite(fd, (const uint8_t *) buffer + done, part, (off_t) (offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = EIO;
        if (put <= 0)
            return false;
        done += (size_t) put;
    }
    return true;
}

size_t image_stream_room(int fd, size_t len)
{
    struct stat about;
    struct pollfd target = {.fd = fd, .events = POLLOUT};
    if (fstat(fd, &about) != 0 || S_ISREG(about.st_mode))
        return len;
    if (poll(&target, 1, IMAGE_POLL_MS) <= 0)
        return 0;
    /* A pipe in which there is nothing has room for as much as it holds. Else all that is known is that there is some. */
    int waiting = 0, capacity = fcntl(fd, F_GETPIPE_SZ);
    size_t room = PIPE_BUF;
    if (capacity > PIPE_BUF && ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0)
        room = (size_t) capacity;
    return len < room ? len : room;
}

void image_begin_writeback(int fd, uint64_t offset, uint64_t len)
{
    /* What it could say of errors is said by the fsync that follows. */
    (void) sync_file_range(fd, (off_t) offset, (off_t) len, SYNC_FILE_RANGE_WRITE);
}

/* Data is told from zeros by its first words, so only zeros are looked at whole. */
bool image_is_zero(const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    for (; at + 64 <= len; at += 64) {
        uint64_t words[8], any = 0;
        memcpy(words, bytes + at, sizeof words);
        for (int i = 0; i < 8; i++)
            any |= words[i];
        if (any != 0)
            return false;
    }
    for (; at < len; at++) {
        if (bytes[at] != 0)
            return false;
    }
    return true;
}
