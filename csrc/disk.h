/* disk.h: the parts of a live disk, and who may call whom.
 *
 *     disk.c          opening and closing
 *     disk_read.c     reading bytes                            disk_write.c   writing, zeroing, flushing
 *     disk_check.c    proving, growing
 *     disk_log.c      commits and their replay                 disk_checkpoint.c  the tree written anew
 *     disk_tree.c     the tree in memory, and its loading
 *     disk_slots.c    which slots of the file are free         disk_crypto.c  keys, nonces, tags
 *     disk_format.c   superblocks, entries as bytes            disk_file.c    the file
 *     disk_marks.c    moments that may be demanded later       disk_room.c    room made ready, and given back
 *
 * The rule that makes it survive crashes. A block is never written over: each write takes a free slot, under a nonce of
 * its own, and changes the block's entry in memory. A flush writes one record, authenticated, with all entries changed
 * since the last one, and syncs once. If the power fails meanwhile, the record may be on the disk without the slots
 * it speaks of; therefore opening verifies the slots of the last record, and drops the record when one does not verify.
 * Earlier records need no such look: a record is written only after the sync of the one before has returned.
 * A slot is given away only after the sync of the record (or superblock) that stopped referring to it.
 *
 * Locks: commit_lock before lock. commit_lock: log, tree, superblocks. lock: entries, slots, lists. A slot is read
 * and written with no lock held; a reader that finds a block altered looks again under the lock.
 */
#ifndef TCCP_DISK_H
#define TCCP_DISK_H

#include <pthread.h>

#include "tccp.h"

#define DISK_BLOCK TCCP_DISK_BLOCK_BYTES

enum {
    DISK_TAG_BYTES = 32,
    DISK_SALT_BYTES = 16,
    DISK_ENTRY_BYTES = 64,
    DISK_FANOUT = DISK_BLOCK / DISK_ENTRY_BYTES,
    DISK_LEVELS_MAX = 7,
    DISK_LOG_OFFSET = 65536,
    DISK_LOG_BYTES_MIN = 65536,
    DISK_RECORD_HEAD_BYTES = 64,
    DISK_RECORD_ENTRY_BYTES = 56,
    DISK_DIRTY_MAX = 32768,
    DISK_MARKS_MAX = 64,
    DISK_BATCH = 256,            /* blocks handled by one call into the file */
    DISK_SECTOR = 512
};

#define DISK_BLOCKS_MAX (UINT64_C(1) << 32)
#define DISK_SLOTS_MAX (UINT64_C(1) << 36)
#define DISK_LOG_BYTES_MAX (UINT64_C(1) << 32)

/* The file below a disk; tests put one beneath that fails as disks do. Each returns 0 or an errno. */
typedef struct disk_io {
    void *context;
    int (*read)(void *context, void *buffer, size_t len, uint64_t offset);  /* zeros beyond the end */
    int (*read_now)(void *context, void *buffer, size_t len, uint64_t offset);  /* EAGAIN: would wait; may be NULL */
    int (*write)(void *context, const void *bytes, size_t len, uint64_t offset);
    int (*sync)(void *context);
    int (*punch)(void *context, uint64_t offset, uint64_t len);
    int (*cut)(void *context, uint64_t size);
    int (*size)(void *context, uint64_t *ret_size);
} disk_io;

void disk_file_io(int file, disk_io *ret_io);
tccp_status disk_status_of(int error);

/* Where the contents of a block are, or of a page of entries: the same structure on every level of the tree. */
typedef struct disk_entry {
    uint8_t tag[DISK_TAG_BYTES];
    uint64_t place;              /* state, slot; in memory also DISK_DIRTY */
    uint64_t counter;            /* with the block and the salt: the nonce */
    uint8_t salt[DISK_SALT_BYTES];
} disk_entry;

#define DISK_STATE_BASE (UINT64_C(0) << 56)   /* as in the base */
#define DISK_STATE_ZERO (UINT64_C(1) << 56)   /* zeros, and that is authenticated */
#define DISK_STATE_DATA (UINT64_C(2) << 56)   /* in a slot */
#define DISK_STATE_MASK (UINT64_C(0x7f) << 56)
#define DISK_SLOT_MASK (DISK_SLOTS_MAX - 1)
#define DISK_DIRTY (UINT64_C(1) << 63)        /* changed since the last commit; never on the disk */

static inline uint64_t disk_state(const disk_entry *entry)
{
    return entry->place & DISK_STATE_MASK;
}

static inline uint64_t disk_slot(const disk_entry *entry)
{
    return entry->place & DISK_SLOT_MASK;
}

/* ---- disk_crypto.c --------------------------------------------------------------------------------------------- */

struct tccp_disk_key {
    uint8_t bytes[TCCP_DISK_KEY_BYTES];
};

typedef struct disk_cipher {
    uint32_t suite;
    uint8_t key[32];
} disk_cipher;

/* One key for each kind of thing, so that nonces of different kinds never meet. */
typedef struct disk_keys {
    disk_cipher data;
    disk_cipher tree;
    disk_cipher log;
    uint8_t header[32];
    uint8_t commitment[32];      /* stored: tells a wrong key from altered bytes */
} disk_keys;

/* The suite may be one that nobody knows: the superblock is refused for it before anything is opened. */
tccp_status disk_keys_derive(const tccp_disk_key *key, const uint8_t disk_id[16], uint32_t suite,
                             disk_keys **ret_keys);
void disk_keys_free(disk_keys *keys);

/* In place; the nonce is (counter, number, salt). After TCCP_ERR_DISK_CORRUPT the bytes are no plaintext. */
void disk_seal(const disk_cipher *cipher, uint64_t counter, uint64_t number, const uint8_t salt[DISK_SALT_BYTES],
               const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t ret_tag[DISK_TAG_BYTES]);
tccp_status disk_unseal(const disk_cipher *cipher, uint64_t counter, uint64_t number,
                        const uint8_t salt[DISK_SALT_BYTES], uint8_t *bytes, size_t len,
                        const uint8_t tag[DISK_TAG_BYTES]);

/* ---- disk_format.c --------------------------------------------------------------------------------------------- */

/* A moment in the history of a disk: the last record that was durable, and its tag, which binds all before it. */
typedef struct disk_mark {
    uint64_t sequence;
    uint8_t chain[DISK_TAG_BYTES];
} disk_mark;

typedef struct disk_superblock {
    uint32_t suite;
    uint64_t size_bytes;
    uint8_t disk_id[16];
    uint64_t generation;
    uint64_t log_bytes;
    uint64_t log_position;       /* where the first record after this checkpoint is */
    uint64_t sequence;           /* of the last record before this checkpoint */
    uint8_t chain[DISK_TAG_BYTES];
    disk_entry root;
    uint8_t base_root[TCCP_DISK_ROOT_BYTES];
    uint64_t base_blocks;
    uint64_t marks_count;
    disk_mark marks[DISK_MARKS_MAX];  /* moments that somebody may demand, in the order of their sequence */
} disk_superblock;

void disk_superblock_encode(const disk_superblock *superblock, const disk_keys *keys, uint8_t ret_bytes[DISK_BLOCK]);

/* The disk id and suite, before any key is derived; TCCP_ERR_MALFORMED when this is no superblock of ours. */
tccp_status disk_superblock_peek(const uint8_t bytes[DISK_BLOCK], uint8_t ret_disk_id[16], uint32_t *ret_suite);
tccp_status disk_superblock_decode(const uint8_t bytes[DISK_BLOCK], const disk_keys *keys,
                                   disk_superblock *ret_superblock);
void disk_superblock_root(const uint8_t bytes[DISK_BLOCK], uint8_t ret_root[TCCP_DISK_ROOT_BYTES]);

void disk_entry_encode(const disk_entry *entry, uint8_t bytes[DISK_ENTRY_BYTES]);
tccp_status disk_entry_decode(const uint8_t bytes[DISK_ENTRY_BYTES], disk_entry *ret_entry);
void disk_put64(uint8_t *bytes, uint64_t value);
uint64_t disk_get64(const uint8_t *bytes);
void disk_put32(uint8_t *bytes, uint32_t value);
uint32_t disk_get32(const uint8_t *bytes);

/* ---- disk_slots.c ---------------------------------------------------------------------------------------------- */

typedef struct disk_slots {
    uint64_t *used;              /* one bit a slot */
    uint64_t count;              /* slots known: a multiple of 64 */
    uint64_t free;
    uint64_t held;               /* taken for a moment by compaction: as good as free */
    uint64_t empty_words;        /* of `used`: 64 neighbours that are all free */
    uint64_t next;               /* where to look first */
} disk_slots;

/* Take up to wanted neighbouring slots; returns how many, 0 when there is no memory. Without may_grow the file grows only
 * when none is free, and those that come first are taken, one by one where it must be. */
uint32_t disk_slots_take(disk_slots *slots, uint32_t wanted, int may_grow, uint64_t *ret_first);
/* How many may be free before the file stops growing for the sake of neighbours. */
uint64_t disk_slots_spare(const disk_slots *slots);
/* Take the free ones of up to wanted slots from this one on, up to the first that is used. */
uint64_t disk_slots_take_run(disk_slots *slots, uint64_t first, uint64_t wanted);
/* Add count slots (a multiple of 64) behind all others, taken. 0: no memory. */
int disk_slots_extend(disk_slots *slots, uint64_t count, uint64_t *ret_first);
/* Forget the free slots behind the last one that is used; returns how many are left. */
uint64_t disk_slots_cut(disk_slots *slots);
void disk_slots_give(disk_slots *slots, uint64_t slot);
/* Mark a slot of a loaded disk; TCCP_ERR_DISK_CORRUPT when it is marked already, or not inside the file. */
tccp_status disk_slots_mark(disk_slots *slots, uint64_t slot, uint64_t slots_max);
void disk_slots_free(disk_slots *slots);

/* ---- the disk -------------------------------------------------------------------------------------------------- */

typedef struct disk_level {
    disk_entry *entries;         /* level 0: of blocks; level n: of the pages that hold level n - 1 */
    uint64_t count;
    uint64_t *changed;           /* one bit a page of these entries: differs from the last checkpoint */
} disk_level;

typedef struct disk_list {
    uint64_t *items;
    size_t len;
    size_t capacity;
} disk_list;

int disk_list_push(disk_list *list, uint64_t item);

struct tccp_disk {
    disk_io io;
    tccp_disk_base base;
    disk_keys *keys;
    uint8_t salt[DISK_SALT_BYTES];   /* random at every opening: a nonce never repeats, even on a rolled-back file */
    int read_only;
    uint64_t blocks;
    unsigned levels;                 /* levels of pages; level[levels] has the root entry alone */
    uint64_t dirty_max;
    uint64_t slots_offset;
    uint64_t slots_max;              /* as many as the file had room for when it was opened */
    uint64_t replayed, dropped;

    pthread_mutex_t commit_lock;
    disk_superblock superblock;      /* as last written */
    uint8_t root[TCCP_DISK_ROOT_BYTES];
    uint64_t log_head;               /* where the next record goes */
    uint64_t log_used;
    uint64_t sequence;
    uint8_t chain[DISK_TAG_BYTES];
    uint64_t commits_done;
    disk_list superseded;            /* slots of pages that the last superblock still refers to */
    uint64_t counter_then;           /* `counter` when it was written: of this session, a page sealed later is in none */
    int mark_given;                  /* the moment now was given out: the next record will say so */
    const disk_mark *demanded;       /* while it is opened; NULL: nothing is */
    int demanded_seen;

    pthread_mutex_t lock;
    disk_level level[DISK_LEVELS_MAX + 1];
    uint64_t *due;                   /* while there is a checkpoint: pages of blocks that it has still to copy, one bit each */
    uint8_t **kept;                  /* and those that were changed before it came to them, as they were; NULL: none */
    disk_slots slots;
    uint64_t counter;
    disk_list dirty;                 /* blocks changed since the last commit, some of them more than once */
    disk_list retired;               /* slots that the last commit still refers to; RETIRED_PUNCH: give room back */
    uint64_t reserved;               /* blocks that writers are about to change */
    uint64_t commits_started;
    pthread_t keeper;
    pthread_cond_t keeper_wanted;
    int has_keeper, keeper_waits, keeper_ends;
    int no_room;                     /* the file system is full: room is not made ready any more, until some is given back */
    int log_full;                    /* and so is the ring: no commit before a checkpoint has found room */
    int failed;                      /* a sync failed: what is on the disk is unknown, so nothing is promised any more */
};

#define DISK_RETIRED_PUNCH (UINT64_C(1) << 63)

/* disk.c, below the descriptor: what the tests call with a file of their own. */
tccp_status disk_create_io(const disk_io *io, const tccp_disk_key *key, const tccp_disk_base *base,
                           uint32_t suite, uint64_t size_bytes, uint64_t log_bytes);
tccp_status disk_open_io(const disk_io *io, const tccp_disk_key *key, const tccp_disk_base *base,
                         const tccp_disk_demand *demand, int read_only, tccp_disk **ret_disk);

static inline uint64_t disk_slot_offset(const tccp_disk *disk, uint64_t slot)
{
    return disk->slots_offset + slot * DISK_BLOCK;
}

/* disk_tree.c */
/* Blocks and pages have keys of their own; the level keeps pages of different levels apart. */
static inline uint64_t disk_page_number(unsigned level, uint64_t page)
{
    return (uint64_t) level << 56 | page;
}

tccp_status disk_tree_size(tccp_disk *disk, uint64_t blocks);
tccp_status disk_tree_load(tccp_disk *disk);
tccp_status disk_tree_mark_slots(tccp_disk *disk);
/* Go to the next page of a level that has anything in it, from *page on; 0 when there is none. */
int disk_tree_next_page(const tccp_disk *disk, unsigned level, uint64_t *page);
void disk_tree_free(tccp_disk *disk);
void disk_tree_changed(tccp_disk *disk, unsigned level, uint64_t page);

/* disk_checkpoint.c */
/* The lock is held, and a block of this page is about to change: a checkpoint shows all blocks at one moment. */
void disk_tree_keep(tccp_disk *disk, uint64_t page);
/* Write all changed pages and a superblock. commit_lock is held. After TCCP_ERR_NO_SPACE the disk is as before, and it may be
 * tried again; after any other failure the disk has failed. */
tccp_status disk_checkpoint(tccp_disk *disk);

/* disk_marks.c; commit_lock is held, or nobody else has the disk yet. */
void disk_mark_encode(const disk_mark *mark, uint8_t bytes[TCCP_DISK_MARK_BYTES]);
void disk_mark_decode(const uint8_t bytes[TCCP_DISK_MARK_BYTES], disk_mark *ret_mark);
/* Remember a moment from the next checkpoint on; where there is no room, the oldest but one is forgotten. */
void disk_mark_remember(tccp_disk *disk, const disk_mark *mark);
/* Forget what is older than this one, which is then the first. TCCP_ERR_DISK_MARK: it is not remembered. */
tccp_status disk_mark_keep(tccp_disk *disk, const disk_mark *mark);
disk_mark disk_mark_now(const tccp_disk *disk);
/* Give out the moment now, for good. */
void disk_mark_give(tccp_disk *disk, uint8_t ret_mark[TCCP_DISK_MARK_BYTES]);
/* Whether the demanded moment is one that the last checkpoint remembers, or is it itself. */
void disk_mark_look_back(tccp_disk *disk);
/* Whether the moment that the replay has come to is the demanded one. */
void disk_mark_passed(tccp_disk *disk);

/* disk_log.c */
tccp_status disk_log_replay(tccp_disk *disk, int *ret_anything);
/* Write one record, even an empty one when asked, and sync. commit_lock is held. */
tccp_status disk_commit(tccp_disk *disk, int even_empty);
size_t disk_record_bytes(uint64_t entries);

/* disk_room.c */
/* Write zeros into count new slots (a multiple of 64), and make them free. */
tccp_status disk_prepare(tccp_disk *disk, uint64_t count);
/* Wake the keeper if there is work for it. The lock is held. */
void disk_keeper_look(tccp_disk *disk);
void disk_keeper_end(tccp_disk *disk);
/* Shorten the file to what is used. */
tccp_status disk_cut_tail(tccp_disk *disk);

/* disk_read.c */
int disk_inside(const tccp_disk *disk, uint64_t offset, uint64_t len);
/* Whether a block is known to be zeros. The lock is held. */
int disk_reads_as_zeros(const tccp_disk *disk, uint64_t block);
/* How many of the entries continue the first: the same state, and neighbouring slots. */
uint32_t disk_run_of(const disk_entry *entries, uint32_t count);
/* Whole blocks; entries is room for count of them, and says in the end what was read. With ret_waits nothing is waited
 * for: it says whether that was why nothing was read. */
tccp_status disk_read_blocks(tccp_disk *disk, uint64_t block, uint32_t count, disk_entry *entries, uint8_t *buffer,
                             int *ret_waits);
/* Read one block's stored bytes into buffer and open them. */
tccp_status disk_read_slot(tccp_disk *disk, uint64_t block, const disk_entry *entry, uint8_t *buffer);
/* How far from offset on all blocks are in the same state (DISK_STATE_...), which is *ret_state. */
tccp_status disk_extent_of_state(tccp_disk *disk, uint64_t offset, uint64_t len, uint64_t *ret_state,
                                 uint64_t *ret_len);
/* Like tccp_disk_read, but rather says that it would have to wait for a disk, and then has read nothing. */
tccp_status disk_read_now(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer, int *ret_waits);
/* disk_write.c: after a write with this status, take slots where the file has room already, if it has any. The lock is held. */
void disk_no_room(tccp_disk *disk, tccp_status status);
/* disk_write.c: whether a change of these bytes would have to wait: to read what is around them, or for room in the next record. */
int disk_change_waits(tccp_disk *disk, uint64_t offset, uint64_t len);
/* disk_slots.c: give slots away, after the sync that made them free. No lock is held. */
void disk_release(tccp_disk *disk, disk_list *retired);

#endif /* TCCP_DISK_H */
