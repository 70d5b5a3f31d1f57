/* disk.c: making, opening and closing a live disk. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "disk.h"

static uint64_t slots_offset(uint64_t log_bytes)
{
    return DISK_LOG_OFFSET + log_bytes;
}

/* ---- making -------------------------------------------------------------------------------------------------------- */

tccp_status disk_create_io(const disk_io *io, const tccp_disk_key *key, const tccp_disk_base *base,
                           uint32_t suite, uint64_t size_bytes, uint64_t log_bytes)
{
    uint64_t base_blocks = base == NULL ? 0 : base->blocks;
    uint64_t there;
    if (key == NULL || !aead_suite_known(suite) || size_bytes == 0 || size_bytes % DISK_BLOCK != 0 ||
        size_bytes / DISK_BLOCK > DISK_BLOCKS_MAX || base_blocks > size_bytes / DISK_BLOCK ||
        log_bytes < DISK_LOG_BYTES_MIN || log_bytes > DISK_LOG_BYTES_MAX || log_bytes % DISK_BLOCK != 0)
        return TCCP_ERR_USAGE;
    if (sodium_init() < 0)
        return TCCP_ERR_INTERNAL;
    if (io->size(io->context, &there) != 0)
        return TCCP_ERR_IO;
    /* An empty file, or one that was being made when its maker died: the superblock comes last, and slots after it. Nothing
     * else is written over by mistake. */
    uint8_t bytes[DISK_BLOCK], before[2 * DISK_BLOCK];
    if (there > slots_offset(log_bytes))
        return TCCP_ERR_USAGE;
    if (there != 0 && io->read(io->context, before, sizeof before, 0) != 0)
        return TCCP_ERR_IO;
    if (there != 0 && !sodium_is_zero(before, sizeof before))
        return TCCP_ERR_USAGE;
    disk_keys *keys = NULL;
    disk_superblock superblock = {
        .suite = suite, .size_bytes = size_bytes, .generation = 1, .log_bytes = log_bytes, .base_blocks = base_blocks};
    randombytes_buf(superblock.disk_id, sizeof superblock.disk_id);
    randombytes_buf(superblock.chain, sizeof superblock.chain);
    if (base != NULL)
        memcpy(superblock.base_root, base->root, sizeof superblock.base_root);
    tccp_status status = disk_keys_derive(key, superblock.disk_id, suite, &keys);
    if (status != TCCP_OK)
        return status;
    disk_superblock_encode(&superblock, keys, bytes);
    disk_keys_free(keys);

    /* The log is written in full, so that a flush later changes no block map of the file system beneath. */
    uint8_t *zeros = calloc(1, DISK_LOG_BYTES_MIN);
    int error = 0;
    if (zeros == NULL)
        return TCCP_ERR_NO_MEMORY;
    for (uint64_t at = 0, part; at < log_bytes && error == 0; at += part) {
        part = log_bytes - at < DISK_LOG_BYTES_MIN ? log_bytes - at : DISK_LOG_BYTES_MIN;
        error = io->write(io->context, zeros, (size_t) part, DISK_LOG_OFFSET + at);
    }
    free(zeros);
    if (error == 0)
        error = io->write(io->context, bytes, DISK_BLOCK, superblock.generation % 2 * DISK_BLOCK);
    if (error == 0)
        error = io->sync(io->context);
    return disk_status_of(error);
}

tccp_status tccp_disk_create(int file, const tccp_disk_key *key, const tccp_disk_base *base, uint32_t suite,
                             uint64_t size_bytes, uint64_t log_bytes)
{
    disk_io io;
    disk_file_io(file, &io);
    return disk_create_io(&io, key, base, suite, size_bytes, log_bytes);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* The newer of the two superblocks that verify. One that does not may have been torn by a crash. */
static tccp_status read_superblock(tccp_disk *disk, const tccp_disk_key *key)
{
    tccp_status worst = TCCP_ERR_MALFORMED;
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t bytes[DISK_BLOCK], disk_id[16];
        uint32_t suite;
        disk_keys *keys = NULL;
        disk_superblock found;
        int error = disk->io.read(disk->io.context, bytes, DISK_BLOCK, (uint64_t) copy * DISK_BLOCK);
        if (error != 0)
            return disk_status_of(error);
        if (disk_superblock_peek(bytes, disk_id, &suite) != TCCP_OK)
            continue;
        tccp_status status = disk_keys_derive(key, disk_id, suite, &keys);
        if (status != TCCP_OK)
            return status;
        status = disk_superblock_decode(bytes, keys, &found);
        if (status == TCCP_OK && found.generation % 2 != copy)
            status = TCCP_ERR_DISK_CORRUPT;
        if (status == TCCP_OK && (disk->keys == NULL || found.generation > disk->superblock.generation)) {
            disk_keys_free(disk->keys);
            disk->keys = keys;
            disk->superblock = found;
            disk_superblock_root(bytes, disk->root);
        } else {
            disk_keys_free(keys);
        }
        if (status != TCCP_OK)
            worst = status;
    }
    return disk->keys != NULL ? TCCP_OK : worst;
}

static tccp_status check_base(const tccp_disk *disk)
{
    static const uint8_t none[TCCP_DISK_ROOT_BYTES];
    const uint8_t *root = disk->base.read != NULL ? disk->base.root : none;
    if (disk->base.blocks != disk->superblock.base_blocks ||
        memcmp(root, disk->superblock.base_root, sizeof none) != 0)
        return TCCP_ERR_DISK_BASE;
    return TCCP_OK;
}

/* Whoever demanded a moment will do so again, and others saw the disk where it stands now. */
static tccp_status begin_session(tccp_disk *disk, const disk_mark *demanded)
{
    disk_mark found = disk_mark_now(disk);
    if (demanded != NULL) {
        disk_mark_remember(disk, demanded);
        (void) disk_mark_keep(disk, demanded);
    }
    disk_mark_remember(disk, &found);
    disk->mark_given = 1;

    /* Once another record follows, nobody verifies the slots of the last one any more: so first the sync, then this. */
    return disk_commit(disk, 1);
}

static tccp_status bring_up(tccp_disk *disk, const tccp_disk_key *key, const tccp_disk_demand *demand)
{
    const uint8_t *expected_root = demand == NULL ? NULL : demand->root;
    disk_mark mark;
    const disk_mark *demanded = NULL;
    int anything = 0;
    tccp_status status = read_superblock(disk, key);
    if (status == TCCP_OK)
        status = check_base(disk);
    if (status == TCCP_OK && expected_root != NULL && sodium_memcmp(disk->root, expected_root, sizeof disk->root) != 0)
        status = TCCP_ERR_DISK_ROOT;
    if (status != TCCP_OK)
        return status;

    const disk_superblock *superblock = &disk->superblock;
    disk->slots_offset = slots_offset(superblock->log_bytes);
    disk->log_head = superblock->log_position;
    disk->sequence = superblock->sequence;
    memcpy(disk->chain, superblock->chain, sizeof disk->chain);
    disk->dirty_max = (superblock->log_bytes / 8 - DISK_BLOCK) / DISK_RECORD_ENTRY_BYTES;
    if (disk->dirty_max > DISK_DIRTY_MAX)
        disk->dirty_max = DISK_DIRTY_MAX;
    randombytes_buf(disk->salt, sizeof disk->salt);
    if (demand != NULL && demand->mark != NULL) {
        disk_mark_decode(demand->mark, &mark);
        disk->demanded = demanded = &mark;
    }
    disk_mark_look_back(disk);

    uint64_t size;
    int error = disk->io.size(disk->io.context, &size);
    if (error != 0)
        return disk_status_of(error);
    disk->slots_max = size < disk->slots_offset ? 0 : (size - disk->slots_offset) / DISK_BLOCK;

    status = disk_tree_size(disk, superblock->size_bytes / DISK_BLOCK);
    if (status == TCCP_OK)
        status = disk_tree_load(disk);
    if (status == TCCP_OK)
        status = disk_log_replay(disk, &anything);
    /* The root was that of a clean end, so nothing may have been written since. */
    if (status == TCCP_OK && expected_root != NULL && (anything || disk->dropped))
        status = TCCP_ERR_DISK_ROOT;
    if (status == TCCP_OK && disk->demanded != NULL && !disk->demanded_seen)
        status = TCCP_ERR_DISK_MARK;
    disk->demanded = NULL;
    if (status == TCCP_OK)
        status = disk_tree_mark_slots(disk);
    /* What was found may still be in the kernel's cache alone: nobody is told of it before it is durable. */
    if (status == TCCP_OK)
        status = disk_status_of(disk->io.sync(disk->io.context));
    return status == TCCP_OK && !disk->read_only ? begin_session(disk, demanded) : status;
}

tccp_status disk_open_io(const disk_io *io, const tccp_disk_key *key, const tccp_disk_base *base,
                         const tccp_disk_demand *demand, int read_only, tccp_disk **ret_disk)
{
    if (key == NULL || ret_disk == NULL || (base != NULL && base->read == NULL))
        return TCCP_ERR_USAGE;
    if (sodium_init() < 0)
        return TCCP_ERR_INTERNAL;
    tccp_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        return TCCP_ERR_NO_MEMORY;
    disk->io = *io;
    disk->read_only = read_only;
    if (base != NULL)
        disk->base = *base;
    (void) pthread_mutex_init(&disk->lock, NULL);
    (void) pthread_mutex_init(&disk->commit_lock, NULL);
    (void) pthread_cond_init(&disk->keeper_wanted, NULL);
    tccp_status status = bring_up(disk, key, demand);
    if (status != TCCP_OK) {
        tccp_disk_free(disk);
        return status;
    }
    *ret_disk = disk;
    return TCCP_OK;
}

tccp_status tccp_disk_open(int file, const tccp_disk_key *key, const tccp_disk_base *base,
                           const tccp_disk_demand *demand, int read_only, tccp_disk **ret_disk)
{
    disk_io io;
    disk_file_io(file, &io);
    return disk_open_io(&io, key, base, demand, read_only, ret_disk);
}

/* ---- closing ------------------------------------------------------------------------------------------------------- */

tccp_status tccp_disk_close_clean(tccp_disk *disk, uint8_t *ret_root)
{
    if (disk == NULL || ret_root == NULL || disk->read_only)
        return TCCP_ERR_USAGE;
    disk_keeper_end(disk);
    (void) pthread_mutex_lock(&disk->commit_lock);
    tccp_status status = disk_checkpoint(disk);
    if (status == TCCP_OK)
        (void) disk_cut_tail(disk);  /* a file that stays long is no harm */
    if (status == TCCP_OK)
        memcpy(ret_root, disk->root, sizeof disk->root);
    (void) pthread_mutex_lock(&disk->lock);
    disk->failed = 1;  /* a write from now on would not be in the root */
    (void) pthread_mutex_unlock(&disk->lock);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    return status;
}

void tccp_disk_free(tccp_disk *disk)
{
    if (disk == NULL)
        return;
    disk_keeper_end(disk);
    disk_tree_free(disk);
    disk_slots_free(&disk->slots);
    free(disk->dirty.items);
    free(disk->retired.items);
    free(disk->superseded.items);
    disk_keys_free(disk->keys);
    (void) pthread_mutex_destroy(&disk->lock);
    (void) pthread_mutex_destroy(&disk->commit_lock);
    (void) pthread_cond_destroy(&disk->keeper_wanted);
    free(disk);
}

void tccp_disk_describe(tccp_disk *disk, tccp_disk_info *ret_info)
{
    tccp_disk_info info = {.size_bytes = disk->blocks * DISK_BLOCK, .replayed = disk->replayed,
                           .dropped = disk->dropped, .base_blocks = disk->base.blocks};
    (void) pthread_mutex_lock(&disk->commit_lock);
    memcpy(info.disk_id, disk->superblock.disk_id, sizeof info.disk_id);
    memcpy(info.root, disk->root, sizeof info.root);
    memcpy(info.base_root, disk->superblock.base_root, sizeof info.base_root);
    info.suite = disk->superblock.suite;
    info.generation = disk->superblock.generation;
    disk_mark now = disk_mark_now(disk);
    disk_mark_encode(&now, info.mark);
    info.sequence = disk->sequence;
    (void) pthread_mutex_lock(&disk->lock);
    for (uint64_t page = 0; disk_tree_next_page(disk, 0, &page); page++)
        for (unsigned i = 0; i < DISK_FANOUT; i++) {
            uint64_t state = disk_state(&disk->level[0].entries[page * DISK_FANOUT + i]);
            info.data_blocks += state == DISK_STATE_DATA;
            info.zero_blocks += state == DISK_STATE_ZERO;
        }
    info.slots = disk->slots.count;
    info.slots_free = disk->slots.free;
    (void) pthread_mutex_unlock(&disk->lock);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    *ret_info = info;
}
