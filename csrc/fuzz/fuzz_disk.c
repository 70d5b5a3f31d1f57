/* fuzz_disk.c: a disk whose file somebody changed: superblock and log as she likes, all else as it was.
 *
 * Without the key nothing she writes verifies, and the parsers behind the tags would never run. The input is therefore
 * plaintext: records and superblocks are sealed here with the right key, which is more than an attacker can do. The
 * disk must open or be refused, and what it shows must stay inside its bounds.
 */
#define _GNU_SOURCE
#include "disk_log.c"

#include <sodium.h>

#include "../tests/disk_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const tccp_disk_key KEY = {.bytes = {7}};

static disk_io io_of(memory_file *file)
{
    return (disk_io){.context = file, .read = memory_read, .write = memory_write, .sync = memory_sync,
                     .punch = memory_punch, .cut = memory_cut, .size = memory_size};
}

/* The next record of the log, with the input as its entries. */
static void put_record(tccp_disk *disk, const uint8_t *data, size_t size)
{
    uint64_t count = size / DISK_RECORD_ENTRY_BYTES;
    if (count > 100)
        count = 100;
    uint8_t *bytes = calloc(1, disk_record_bytes(count));
    if (bytes == NULL)
        return;
    memcpy(bytes + DISK_RECORD_HEAD_BYTES + DISK_TAG_BYTES, data, (size_t) count * DISK_RECORD_ENTRY_BYTES);
    disk->mark_given = (int) (size % 3);
    if (write_record(disk, bytes, count) != TCCP_OK)
        abort();
    free(bytes);
}

/* The input as a superblock, with what it takes to be ours; the rest of the input decides. */
static void put_superblock(memory_file *file, const tccp_disk *disk, const uint8_t *data, size_t size)
{
    static const struct { unsigned at, len; } changed[] = {{24, 8}, {48, 24}, {72, 40}, {112, 64}, {240, 16}};
    uint8_t bytes[DISK_BLOCK];
    disk_superblock_encode(&disk->superblock, disk->keys, bytes);
    for (unsigned i = 0; i < 5 && size >= changed[i].len; i++) {
        memcpy(bytes + changed[i].at, data, changed[i].len);
        data += changed[i].len;
        size -= changed[i].len;
    }
    (void) crypto_generichash(bytes + DISK_BLOCK - 32, 32, bytes, DISK_BLOCK - 32, disk->keys->header, 32);
    for (unsigned copy = 0; copy < 2; copy++)
        (void) memory_write(file, bytes, DISK_BLOCK, (uint64_t) copy * DISK_BLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memory_file file;
    uint8_t bytes[DISK_BLOCK] = {1};
    tccp_disk *disk = memory_disk(&file, 256 * DISK_BLOCK), *again = NULL;
    disk_io io = io_of(&file);
    if (tccp_disk_write(disk, 0, DISK_BLOCK, bytes) != TCCP_OK || tccp_disk_flush(disk) != TCCP_OK)
        abort();
    if (size > 0 && data[0] % 2 == 0)
        put_record(disk, data + 1, size - 1);
    else if (size > 0)
        put_superblock(&file, disk, data + 1, size - 1);
    tccp_disk_free(disk);
    if (disk_open_io(&io, &KEY, NULL, NULL, (int) (size % 2), &again) == TCCP_OK) {
        tccp_disk_info info;
        tccp_disk_describe(again, &info);
        /* Whether they verify is for the input to say. */
        tccp_status first = tccp_disk_read(again, 0, sizeof bytes, bytes);
        tccp_status last = tccp_disk_read(again, info.size_bytes - DISK_BLOCK, sizeof bytes, bytes);
        if (first == TCCP_ERR_USAGE || last == TCCP_ERR_USAGE)
            abort();
        tccp_disk_free(again);
    }
    memory_free(&file);
    return 0;
}
