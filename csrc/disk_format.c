/* disk_format.c: superblocks and entries as bytes; docs/DISK_FORMAT.md is the reference. */
#define _GNU_SOURCE
#include <endian.h>
#include <sodium.h>
#include <string.h>

#include "aead.h"
#include "disk.h"

static const uint8_t MAGIC[8] = {'T', 'C', 'D', 'S', 'K', '\r', '\n', 0x1a};

enum {
    VERSION = 1,
    AT_VERSION = 8, AT_SUITE = 12, AT_BLOCK_BYTES = 16, AT_SIZE = 24, AT_ID = 32, AT_GENERATION = 48,
    AT_LOG_BYTES = 56, AT_LOG_POSITION = 64, AT_SEQUENCE = 72, AT_CHAIN = 80, AT_ROOT = 112, AT_COMMITMENT = 176,
    AT_BASE_ROOT = 208, AT_BASE_BLOCKS = 240, AT_MARKS_COUNT = 248, AT_MARKS = 256,
    AT_ZERO = AT_MARKS + DISK_MARKS_MAX * TCCP_DISK_MARK_BYTES, AT_MAC = DISK_BLOCK - 32
};

void disk_put64(uint8_t *bytes, uint64_t value)
{
    value = htole64(value);
    memcpy(bytes, &value, sizeof value);
}

uint64_t disk_get64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

void disk_put32(uint8_t *bytes, uint32_t value)
{
    value = htole32(value);
    memcpy(bytes, &value, sizeof value);
}

uint32_t disk_get32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return le32toh(value);
}

void disk_entry_encode(const disk_entry *entry, uint8_t bytes[DISK_ENTRY_BYTES])
{
    memcpy(bytes, entry->tag, DISK_TAG_BYTES);
    disk_put64(bytes + 32, entry->place & ~DISK_DIRTY);
    disk_put64(bytes + 40, entry->counter);
    memcpy(bytes + 48, entry->salt, DISK_SALT_BYTES);
}

tccp_status disk_entry_decode(const uint8_t bytes[DISK_ENTRY_BYTES], disk_entry *ret_entry)
{
    disk_entry entry;
    memcpy(entry.tag, bytes, DISK_TAG_BYTES);
    entry.place = disk_get64(bytes + 32);
    entry.counter = disk_get64(bytes + 40);
    memcpy(entry.salt, bytes + 48, DISK_SALT_BYTES);
    uint64_t state = disk_state(&entry);
    if (entry.place != (state | disk_slot(&entry)) || state > DISK_STATE_DATA ||
        (state != DISK_STATE_DATA && disk_slot(&entry) != 0))
        return TCCP_ERR_DISK_CORRUPT;
    *ret_entry = entry;
    return TCCP_OK;
}

static void mac(const uint8_t bytes[DISK_BLOCK], const disk_keys *keys, uint8_t ret_mac[32])
{
    (void) crypto_generichash(ret_mac, 32, bytes, AT_MAC, keys->header, sizeof keys->header);
}

void disk_superblock_root(const uint8_t bytes[DISK_BLOCK], uint8_t ret_root[TCCP_DISK_ROOT_BYTES])
{
    (void) crypto_generichash(ret_root, TCCP_DISK_ROOT_BYTES, bytes, AT_MAC, NULL, 0);
}

void disk_superblock_encode(const disk_superblock *superblock, const disk_keys *keys, uint8_t ret_bytes[DISK_BLOCK])
{
    memset(ret_bytes, 0, DISK_BLOCK);
    memcpy(ret_bytes, MAGIC, sizeof MAGIC);
    disk_put32(ret_bytes + AT_VERSION, VERSION);
    disk_put32(ret_bytes + AT_SUITE, superblock->suite);
    disk_put32(ret_bytes + AT_BLOCK_BYTES, DISK_BLOCK);
    disk_put64(ret_bytes + AT_SIZE, superblock->size_bytes);
    memcpy(ret_bytes + AT_ID, superblock->disk_id, sizeof superblock->disk_id);
    disk_put64(ret_bytes + AT_GENERATION, superblock->generation);
    disk_put64(ret_bytes + AT_LOG_BYTES, superblock->log_bytes);
    disk_put64(ret_bytes + AT_LOG_POSITION, superblock->log_position);
    disk_put64(ret_bytes + AT_SEQUENCE, superblock->sequence);
    memcpy(ret_bytes + AT_CHAIN, superblock->chain, sizeof superblock->chain);
    disk_entry_encode(&superblock->root, ret_bytes + AT_ROOT);
    memcpy(ret_bytes + AT_COMMITMENT, keys->commitment, sizeof keys->commitment);
    memcpy(ret_bytes + AT_BASE_ROOT, superblock->base_root, sizeof superblock->base_root);
    disk_put64(ret_bytes + AT_BASE_BLOCKS, superblock->base_blocks);
    disk_put64(ret_bytes + AT_MARKS_COUNT, superblock->marks_count);
    for (uint64_t i = 0; i < superblock->marks_count; i++)
        disk_mark_encode(&superblock->marks[i], ret_bytes + AT_MARKS + i * TCCP_DISK_MARK_BYTES);
    mac(ret_bytes, keys, ret_bytes + AT_MAC);
}

tccp_status disk_superblock_peek(const uint8_t bytes[DISK_BLOCK], uint8_t ret_disk_id[16], uint32_t *ret_suite)
{
    if (memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return TCCP_ERR_MALFORMED;
    memcpy(ret_disk_id, bytes + AT_ID, 16);
    *ret_suite = disk_get32(bytes + AT_SUITE);
    return TCCP_OK;
}

tccp_status disk_superblock_decode(const uint8_t bytes[DISK_BLOCK], const disk_keys *keys,
                                   disk_superblock *ret_superblock)
{
    uint8_t expected[32];
    if (memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return TCCP_ERR_MALFORMED;
    if (sodium_memcmp(bytes + AT_COMMITMENT, keys->commitment, sizeof keys->commitment) != 0)
        return TCCP_ERR_DISK_KEY;
    mac(bytes, keys, expected);
    if (sodium_memcmp(bytes + AT_MAC, expected, sizeof expected) != 0)
        return TCCP_ERR_DISK_CORRUPT;

    /* From here on these are bytes of ours, perhaps of a version to come. */
    if (disk_get32(bytes + AT_VERSION) != VERSION || !aead_suite_known(disk_get32(bytes + AT_SUITE)) ||
        disk_get32(bytes + AT_BLOCK_BYTES) != DISK_BLOCK || !sodium_is_zero(bytes + AT_ZERO, AT_MAC - AT_ZERO))
        return TCCP_ERR_UNSUPPORTED;
    disk_superblock out = {
        .suite = disk_get32(bytes + AT_SUITE),
        .size_bytes = disk_get64(bytes + AT_SIZE),
        .generation = disk_get64(bytes + AT_GENERATION),
        .log_bytes = disk_get64(bytes + AT_LOG_BYTES),
        .log_position = disk_get64(bytes + AT_LOG_POSITION),
        .sequence = disk_get64(bytes + AT_SEQUENCE),
        .base_blocks = disk_get64(bytes + AT_BASE_BLOCKS),
        .marks_count = disk_get64(bytes + AT_MARKS_COUNT),
    };
    memcpy(out.disk_id, bytes + AT_ID, sizeof out.disk_id);
    memcpy(out.chain, bytes + AT_CHAIN, sizeof out.chain);
    memcpy(out.base_root, bytes + AT_BASE_ROOT, sizeof out.base_root);
    if (disk_entry_decode(bytes + AT_ROOT, &out.root) != TCCP_OK || out.size_bytes == 0 ||
        out.size_bytes % DISK_BLOCK != 0 || out.size_bytes / DISK_BLOCK > DISK_BLOCKS_MAX ||
        out.log_bytes < DISK_LOG_BYTES_MIN || out.log_bytes > DISK_LOG_BYTES_MAX || out.log_bytes % DISK_BLOCK != 0 ||
        out.log_position > out.log_bytes || out.log_position % DISK_BLOCK != 0 ||
        out.base_blocks > out.size_bytes / DISK_BLOCK || out.marks_count > DISK_MARKS_MAX)
        return TCCP_ERR_DISK_CORRUPT;
    for (uint64_t i = 0; i < out.marks_count; i++)
        disk_mark_decode(bytes + AT_MARKS + i * TCCP_DISK_MARK_BYTES, &out.marks[i]);
    *ret_superblock = out;
    return TCCP_OK;
}
