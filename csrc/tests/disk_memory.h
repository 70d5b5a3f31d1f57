/* disk_memory.h: a disk in memory, for what is about the layers above the file. */
#ifndef DISK_MEMORY_H
#define DISK_MEMORY_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "disk.h"

enum { MEMORY_MAX = 48 << 20 };

typedef struct memory_file {
    uint8_t *bytes;
    uint64_t size;
    pthread_mutex_t lock;
} memory_file;

static int memory_read(void *context, void *buffer, size_t len, uint64_t offset)
{
    memory_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    for (size_t i = 0; i < len; i += DISK_SECTOR) {
        size_t part = len - i < DISK_SECTOR ? len - i : DISK_SECTOR;
        if (offset + i + part <= MEMORY_MAX)
            memcpy((uint8_t *) buffer + i, file->bytes + offset + i, part);
        else
            memset((uint8_t *) buffer + i, 0, part);
    }
    (void) pthread_mutex_unlock(&file->lock);
    return 0;
}

static int memory_write(void *context, const void *bytes, size_t len, uint64_t offset)
{
    memory_file *file = context;
    if (offset + len > MEMORY_MAX)
        return 28;
    (void) pthread_mutex_lock(&file->lock);
    memcpy(file->bytes + offset, bytes, len);
    if (offset + len > file->size)
        file->size = offset + len;
    (void) pthread_mutex_unlock(&file->lock);
    return 0;
}

static int memory_sync(void *context)
{
    return 0;
}

static int memory_punch(void *context, uint64_t offset, uint64_t len)
{
    memory_file *file = context;
    (void) pthread_mutex_lock(&file->lock);
    if (offset < MEMORY_MAX)
        memset(file->bytes + offset, 0, (size_t) (offset + len > MEMORY_MAX ? MEMORY_MAX - offset : len));
    (void) pthread_mutex_unlock(&file->lock);
    return 0;
}

static int memory_cut(void *context, uint64_t size)
{
    return 0;
}

static int memory_size(void *context, uint64_t *ret_size)
{
    *ret_size = ((memory_file *) context)->size;
    return 0;
}

static tccp_disk *memory_disk(memory_file *file, uint64_t size_bytes)
{
    static const tccp_disk_key key = {.bytes = {7}};
    disk_io io = {.context = file, .read = memory_read, .write = memory_write, .sync = memory_sync,
                  .punch = memory_punch, .cut = memory_cut, .size = memory_size};
    tccp_disk *disk = NULL;
    /* Untouched, it costs nothing: unlike memory from calloc under a sanitizer. */
    void *bytes = mmap(NULL, MEMORY_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *file = (memory_file){.bytes = bytes};
    (void) pthread_mutex_init(&file->lock, NULL);
    if (bytes == MAP_FAILED || disk_create_io(&io, &key, NULL, 1, size_bytes, DISK_LOG_BYTES_MIN) != TCCP_OK ||
        disk_open_io(&io, &key, NULL, NULL, 0, &disk) != TCCP_OK)
        abort();
    return disk;
}

static inline void memory_free(memory_file *file)
{
    (void) munmap(file->bytes, MEMORY_MAX);
}

#endif /* DISK_MEMORY_H */
