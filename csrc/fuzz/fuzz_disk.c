/* fuzz_disk.c: a disk whose file somebody changed: superblock and log as she likes, all else as it was.
 *
 * Without the key nothing she writes verifies, and the parsers behind the tags would never run. The input is therefore
 * plaintext: records and superblocks are sealed here with the right key, which is more than an attacker can do. The
 * disk must open or be refused, and what it shows must stay inside its bounds.
 *
 * The disk is made once: each input finds it as it was. And it is told to be large, but no larger than what can be looked
 * through many times in a second.
 */
#define _GNU_SOURCE
#include "disk_log.c"

#include <sodium.h>

#include "../tests/disk_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const tccp_disk_key KEY = {.bytes = {7}};

enum { SIZE_AT = 24, SIZE_BITS = 32 };

/* What every input begins with. */
static memory_file file;
static tccp_disk *made;
static tccp_disk made_so; /* as it was, for what a record changes of it */
static uint8_t *bytes_then;
static uint64_t size_then;

static disk_io io_of_file(void)
{
    return (disk_io){.context = &file, .read = memory_read, .write = memory_write, .sync = memory_sync,
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
static void put_superblock(const tccp_disk *disk, const uint8_t *data, size_t size)
{
    static const struct { unsigned at, len; } changed[] = {{SIZE_AT, 8}, {48, 24}, {72, 40}, {112, 64}, {240, 16}};
    uint8_t bytes[DISK_BLOCK];
    disk_superblock_encode(&disk->superblock, disk->keys, bytes);
    for (unsigned i = 0; i < 5 && size >= changed[i].len; i++) {
        memcpy(bytes + changed[i].at, data, changed[i].len);
        data += changed[i].len;
        size -= changed[i].len;
    }
    uint64_t size_bytes = disk_get64(bytes + SIZE_AT);
    if (size_bytes / DISK_BLOCK <= DISK_BLOCKS_MAX) /* what is larger is refused at once */
        disk_put64(bytes + SIZE_AT, size_bytes & ((UINT64_C(1) << SIZE_BITS) - 1));
    (void) crypto_generichash(bytes + DISK_BLOCK - 32, 32, bytes, DISK_BLOCK - 32, disk->keys->header, 32);
    for (unsigned copy = 0; copy < 2; copy++)
        (void) memory_write(&file, bytes, DISK_BLOCK, (uint64_t) copy * DISK_BLOCK);
}

static void make(void)
{
    static const uint8_t block[DISK_BLOCK] = {1};
    made = memory_disk(&file, 256 * DISK_BLOCK);
    if (tccp_disk_write(made, 0, DISK_BLOCK, block) != TCCP_OK || tccp_disk_flush(made) != TCCP_OK)
        abort();
    size_then = file.size;
    bytes_then = malloc(size_then);
    if (bytes_then == NULL)
        abort();
    memcpy(bytes_then, file.bytes, size_then);
    made_so = *made;
}

static void begin_again(void)
{
    memcpy(file.bytes, bytes_then, size_then);
    memset(file.bytes + size_then, 0, file.size - size_then);
    file.size = size_then;
    made->log_head = made_so.log_head;
    made->log_used = made_so.log_used;
    made->sequence = made_so.sequence;
    memcpy(made->chain, made_so.chain, sizeof made->chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[DISK_BLOCK];
    tccp_disk *again = NULL;
    disk_io io = io_of_file();
    if (made == NULL)
        make();
    begin_again();
    if (size > 0 && data[0] % 2 == 0)
        put_record(made, data + 1, size - 1);
    else if (size > 0)
        put_superblock(made, data + 1, size - 1);
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
    return 0;
}
