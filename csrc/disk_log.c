/* disk_log.c: the ring of commit records.
 *
 *     record   u32 magic | u32 count | u64 sequence | 16 salt | 32 tag | sealed: 32 previous tag, count x entry
 *     entry    u64 block | 32 tag | u64 place | u64 counter            (the salt is the record's)
 *
 * The count's highest bit says that the record before was given out as a mark. A record begins at a multiple of 4 KiB and does not go round the end of the ring: where it would, it begins at the
 * start. After every opening one empty record is written; it is one block long, so it fits wherever the last record
 * ended, and lies on top of what a torn commit may have left there.
 */
#include <stdlib.h>
#include <string.h>

#include "disk.h"

enum { RECORD_MAGIC = 0x4c574354 };  /* "TCWL" */

/* In the count: the moment before this record was given out as a mark. */
#define RECORD_AFTER_MARK (UINT32_C(1) << 31)

size_t disk_record_bytes(uint64_t entries)
{
    size_t bytes = DISK_RECORD_HEAD_BYTES + DISK_TAG_BYTES + (size_t) entries * DISK_RECORD_ENTRY_BYTES;
    return (bytes + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* Everything changed since the last commit, at this moment. Returns the room a record of it takes, or NULL. */
static uint8_t *collect(tccp_disk *disk, uint64_t *ret_count, disk_list *ret_retired)
{
    (void) pthread_mutex_lock(&disk->lock);
    uint8_t *record = malloc(disk_record_bytes(disk->dirty.len));
    uint64_t count = 0;
    for (size_t i = 0; record != NULL && i < disk->dirty.len; i++) {
        uint64_t block = disk->dirty.items[i];
        disk_entry *entry = &disk->level[0].entries[block];
        if ((entry->place & DISK_DIRTY) == 0)
            continue;  /* in the list twice, or taken by a checkpoint */
        entry->place &= ~DISK_DIRTY;
        uint8_t *at = record + DISK_RECORD_HEAD_BYTES + DISK_TAG_BYTES + count * DISK_RECORD_ENTRY_BYTES;
        disk_put64(at, block);
        memcpy(at + 8, entry->tag, DISK_TAG_BYTES);
        disk_put64(at + 40, entry->place);
        disk_put64(at + 48, entry->counter);
        count++;
    }
    if (record != NULL) {
        disk->commits_started++;
        disk->dirty.len = 0;
        *ret_count = count;
        *ret_retired = disk->retired;
        disk->retired = (disk_list){.items = NULL};
    }
    (void) pthread_mutex_unlock(&disk->lock);
    return record;
}

static tccp_status write_record(tccp_disk *disk, uint8_t *record, uint64_t count)
{
    size_t len = disk_record_bytes(count);
    uint8_t *body = record + DISK_RECORD_HEAD_BYTES;
    uint32_t marked_count = (uint32_t) count | (disk->mark_given ? RECORD_AFTER_MARK : 0);
    size_t body_len = DISK_TAG_BYTES + (size_t) count * DISK_RECORD_ENTRY_BYTES;
    memcpy(body, disk->chain, DISK_TAG_BYTES);
    memset(body + body_len, 0, len - DISK_RECORD_HEAD_BYTES - body_len);

    uint64_t start = disk->log_head + len <= disk->superblock.log_bytes ? disk->log_head : 0;
    uint64_t skipped = start == disk->log_head ? 0 : disk->superblock.log_bytes - disk->log_head;
    disk_put32(record, RECORD_MAGIC);
    disk_put32(record + 4, marked_count);
    disk_put64(record + 8, disk->sequence + 1);
    memcpy(record + 16, disk->salt, DISK_SALT_BYTES);
    disk_seal(&disk->keys->log, disk->sequence + 1, marked_count, disk->salt, body, body, body_len, record + 32);

    int error = disk->io.write(disk->io.context, record, len, DISK_LOG_OFFSET + start);
    if (error == 0)
        error = disk->io.sync(disk->io.context);
    if (error != 0)
        return disk_status_of(error);
    disk->mark_given = 0;
    disk->sequence++;
    memcpy(disk->chain, record + 32, DISK_TAG_BYTES);
    disk->log_head = start + len;
    disk->log_used += skipped + len;
    return TCCP_OK;
}

tccp_status disk_commit(tccp_disk *disk, int even_empty)
{
    uint64_t count = 0;
    disk_list retired = {.items = NULL};
    (void) pthread_mutex_lock(&disk->lock);
    int failed = disk->failed;
    disk->log_full = disk->log_used > disk->superblock.log_bytes / 4 * 3;
    int must_make_room = disk->log_full && (disk->dirty.len != 0 || even_empty);
    (void) pthread_mutex_unlock(&disk->lock);
    if (failed)
        return TCCP_ERR_IO;
    tccp_status status = must_make_room ? disk_checkpoint(disk) : TCCP_OK;
    if (status != TCCP_OK)
        return status;
    uint8_t *record = collect(disk, &count, &retired);
    if (record == NULL)
        return TCCP_ERR_NO_MEMORY;

    if (count != 0 || even_empty)
        status = write_record(disk, record, count);
    free(record);
    if (status == TCCP_OK) {
        disk->commits_done = disk->commits_started;  /* only changed under commit_lock, which we hold */
        disk_release(disk, &retired);
    } else {
        (void) pthread_mutex_lock(&disk->lock);
        disk->failed = 1;
        (void) pthread_mutex_unlock(&disk->lock);
    }
    free(retired.items);
    if (status != TCCP_OK || disk->log_used <= disk->superblock.log_bytes / 2)
        return status;
    /* A record is at most an eighth of the ring, and so is what is left at its end: there is room for one more as long as
     * three quarters are not used. What is asked for is durable, so that a checkpoint without room can wait until then. */
    status = disk_checkpoint(disk);
    return status == TCCP_ERR_NO_SPACE ? TCCP_OK : status;
}

/* ---- replay -------------------------------------------------------------------------------------------------------- */

typedef struct record {
    uint8_t *bytes;              /* the body, opened: NULL when there is no record */
    uint64_t count;
    uint64_t start;
    size_t len;
    uint8_t salt[DISK_SALT_BYTES];
    uint8_t tag[DISK_TAG_BYTES];
} record;

static tccp_status entry_at(const tccp_disk *disk, const record *from, uint64_t i, uint64_t *ret_block,
                            disk_entry *ret_entry)
{
    const uint8_t *at = from->bytes + DISK_TAG_BYTES + i * DISK_RECORD_ENTRY_BYTES;
    uint8_t whole[DISK_ENTRY_BYTES];
    memcpy(whole, at + 8, DISK_RECORD_ENTRY_BYTES - 8);
    memcpy(whole + 48, from->salt, DISK_SALT_BYTES);
    *ret_block = disk_get64(at);
    tccp_status status = disk_entry_decode(whole, ret_entry);
    if (status == TCCP_OK && (*ret_block >= disk->blocks || disk_state(ret_entry) == DISK_STATE_BASE))
        status = TCCP_ERR_DISK_CORRUPT;
    return status;
}

/* The record that follows the last one, when it begins at start. Anything else there is the end of the log, not an
 * error: a torn commit, or what was written the last time round. */
static tccp_status read_record(tccp_disk *disk, uint64_t start, record *ret_record)
{
    uint8_t head[DISK_RECORD_HEAD_BYTES];
    *ret_record = (record){.bytes = NULL, .start = start};
    if (start + DISK_BLOCK > disk->superblock.log_bytes)
        return TCCP_OK;
    int error = disk->io.read(disk->io.context, head, sizeof head, DISK_LOG_OFFSET + start);
    if (error != 0)
        return disk_status_of(error);
    uint32_t marked_count = disk_get32(head + 4);
    uint64_t count = marked_count & ~RECORD_AFTER_MARK;
    if (disk_get32(head) != RECORD_MAGIC || disk_get64(head + 8) != disk->sequence + 1 || count > DISK_DIRTY_MAX ||
        disk_record_bytes(count) > disk->superblock.log_bytes - start)
        return TCCP_OK;

    size_t body_len = DISK_TAG_BYTES + (size_t) count * DISK_RECORD_ENTRY_BYTES;
    uint8_t *body = malloc(body_len);
    if (body == NULL)
        return TCCP_ERR_NO_MEMORY;
    error = disk->io.read(disk->io.context, body, body_len, DISK_LOG_OFFSET + start + DISK_RECORD_HEAD_BYTES);
    if (error != 0 ||
        disk_unseal(&disk->keys->log, disk->sequence + 1, marked_count, head + 16, body, body_len, head + 32) !=
            TCCP_OK ||
        memcmp(body, disk->chain, DISK_TAG_BYTES) != 0) {
        free(body);
        return disk_status_of(error);
    }
    if (marked_count != count) {
        disk_mark before = disk_mark_now(disk);
        disk_mark_remember(disk, &before);
    }
    ret_record->bytes = body;
    ret_record->count = count;
    ret_record->len = disk_record_bytes(count);
    memcpy(ret_record->salt, head + 16, DISK_SALT_BYTES);
    memcpy(ret_record->tag, head + 32, DISK_TAG_BYTES);
    return TCCP_OK;
}

/* Does every slot that the record speaks of hold what it says? Not so after a crash during its own sync. */
static tccp_status record_holds(tccp_disk *disk, const record *last)
{
    uint8_t bytes[DISK_BLOCK];
    tccp_status status = TCCP_OK;
    for (uint64_t i = 0; i < last->count && status == TCCP_OK; i++) {
        uint64_t block;
        disk_entry entry;
        status = entry_at(disk, last, i, &block, &entry);
        if (status == TCCP_OK && disk_state(&entry) == DISK_STATE_DATA)
            status = disk_read_slot(disk, block, &entry, bytes);
    }
    return status;
}

static tccp_status apply(tccp_disk *disk, const record *from)
{
    tccp_status status = TCCP_OK;
    for (uint64_t i = 0; i < from->count && status == TCCP_OK; i++) {
        uint64_t block;
        disk_entry entry;
        status = entry_at(disk, from, i, &block, &entry);
        if (status != TCCP_OK)
            break;
        disk->level[0].entries[block] = entry;
        disk_tree_changed(disk, 0, block / DISK_FANOUT);
    }
    return status;
}

tccp_status disk_log_replay(tccp_disk *disk, int *ret_anything)
{
    record last = {.bytes = NULL};
    tccp_status status = TCCP_OK;
    *ret_anything = 0;
    for (;;) {
        /* From here on the sequence and the chain are those of `last`, which is not applied yet. */
        record next;
        uint64_t head = last.bytes != NULL ? last.start + last.len : disk->log_head;
        uint8_t chain[DISK_TAG_BYTES];
        memcpy(chain, disk->chain, sizeof chain);
        if (last.bytes != NULL) {
            memcpy(disk->chain, last.tag, sizeof chain);
            disk->sequence++;
        }
        status = read_record(disk, head, &next);
        if (status == TCCP_OK && next.bytes == NULL && head != 0)
            status = read_record(disk, 0, &next);
        int is_last = status != TCCP_OK || next.bytes == NULL;
        if (last.bytes != NULL) {
            tccp_status holds = is_last && status == TCCP_OK ? record_holds(disk, &last) : status;
            if (holds == TCCP_ERR_DISK_CORRUPT && status == TCCP_OK) {
                /* As if it had never been written. */
                memcpy(disk->chain, chain, sizeof chain);
                disk->sequence--;
                disk->dropped = 1;
            } else if (holds != TCCP_OK) {
                status = holds;
            } else {
                status = apply(disk, &last);
                disk->log_used += last.len + (last.start >= disk->log_head
                                                  ? last.start - disk->log_head
                                                  : disk->superblock.log_bytes - disk->log_head);
                disk->log_head = last.start + last.len;
                disk->replayed++;
                disk_mark_passed(disk);
                *ret_anything |= last.count != 0;
            }
        }
        free(last.bytes);
        last = next;
        if (is_last || status != TCCP_OK)
            break;
    }
    free(last.bytes);
    return status;
}
