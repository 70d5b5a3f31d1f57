/* disk_file.c: the file below a live disk, as calls that do all or say why not. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "disk.h"

static int descriptor(void *context)
{
    return (int) (intptr_t) context;
}

static int file_read(void *context, void *buffer, size_t len, uint64_t offset)
{
    uint8_t *at = buffer;
    while (len > 0) {
        ssize_t got = pread(descriptor(context), at, len, (off_t) offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0) {  /* a file that was cut short: zeros, which do not verify */
            memset(at, 0, len);
            return 0;
        }
        at += got;
        offset += (uint64_t) got;
        len -= (size_t) got;
    }
    return 0;
}

/* Short counts and ends of files are left to those who may wait. */
static int file_read_now(void *context, void *buffer, size_t len, uint64_t offset)
{
    struct iovec into = {.iov_base = buffer, .iov_len = len};
    ssize_t got = preadv2(descriptor(context), &into, 1, (off_t) offset, RWF_NOWAIT);
    if (got < 0 && errno == EOPNOTSUPP)  /* a file system that cannot say; most of these are in memory */
        return file_read(context, buffer, len, offset);
    return got >= 0 && (size_t) got == len ? 0 : EAGAIN;
}

static int file_write(void *context, const void *bytes, size_t len, uint64_t offset)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        ssize_t put = pwrite(descriptor(context), at, len, (off_t) offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : EIO;
        at += put;
        offset += (uint64_t) put;
        len -= (size_t) put;
    }
    return 0;
}

/* The three that follow may be interrupted by a signal, on some file systems, before they have done anything. */
static int file_sync(void *context)
{
    int result;
    do
        result = fdatasync(descriptor(context));
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

static int file_punch(void *context, uint64_t offset, uint64_t len)
{
    int result, mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    do
        result = fallocate(descriptor(context), mode, (off_t) offset, (off_t) len);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

static int file_cut(void *context, uint64_t size)
{
    int result;
    do
        result = ftruncate(descriptor(context), (off_t) size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

static int file_size(void *context, uint64_t *ret_size)
{
    struct stat about;
    if (fstat(descriptor(context), &about) != 0)
        return errno;
    *ret_size = (uint64_t) about.st_size;
    return 0;
}

void disk_file_io(int file, disk_io *ret_io)
{
    *ret_io = (disk_io){
        .context = (void *) (intptr_t) file,
        .read = file_read, .read_now = file_read_now, .write = file_write, .sync = file_sync,
        .punch = file_punch, .cut = file_cut, .size = file_size,
    };
}

tccp_status disk_status_of(int error)
{
    switch (error) {
    case 0: return TCCP_OK;
    case ENOMEM: return TCCP_ERR_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return TCCP_ERR_NO_SPACE;
    default: return TCCP_ERR_IO;
    }
}
