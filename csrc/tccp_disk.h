/* tccp_disk.h: live disks and the process that serves one (disk*.c, nbd_*.c; docs/DISK_FORMAT.md).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_DISK_H
#define TCCP_TCCP_DISK_H

#include "tccp_status.h"

/* [cffi */

#define TCCP_DISK_BLOCK_BYTES 4096
#define TCCP_DISK_KEY_BYTES 32
#define TCCP_DISK_ROOT_BYTES 32
#define TCCP_DISK_MARK_BYTES 40
#define TCCP_DISK_LOG_BYTES_DEFAULT 67108864

/* A key in locked memory that no core dump shows; wiped when freed. */
typedef struct tccp_disk_key tccp_disk_key;

/* Read a key from a descriptor: exactly TCCP_DISK_KEY_BYTES until its end. The descriptor stays open. */
TCCP_MUST_USE tccp_status tccp_disk_key_read(int descriptor, tccp_disk_key **ret_key);
void tccp_disk_key_free(tccp_disk_key *key);

/* What a disk shows where nothing has been written yet. It outlives the disk; read is called by many threads at once. */
typedef struct tccp_disk_base {
    void *context;
    uint64_t blocks;            /* beyond these, zeros */
    uint8_t root[TCCP_DISK_ROOT_BYTES];  /* names the base; the disk is bound to it */
    /* Fill buffer with count blocks from block on, all of them inside the base, all of them verified. */
    tccp_status (*read)(void *context, uint64_t block, uint32_t count, uint8_t *buffer);
    /* Whether a block inside the base is known to be zeros without reading it; may be NULL. */
    int (*is_zero)(void *context, uint64_t block);
} tccp_disk_base;

/* A sealed image as a base. Its key is the disk's: what is derived from it differs by purpose and by id.
 *   image   a descriptor that stays open as long as the base
 *   root    TCCP_DISK_ROOT_BYTES that name the image, or NULL: a disk that exists accepts no other than its own base
 * Statuses are those of sealed images. */
TCCP_MUST_USE tccp_status tccp_disk_base_open(int image, const tccp_disk_key *key, const uint8_t *root,
                                              tccp_disk_base **ret_base);
void tccp_disk_base_close(tccp_disk_base *base);

typedef struct tccp_disk tccp_disk;

typedef struct tccp_disk_info {
    uint8_t disk_id[16];
    uint8_t root[TCCP_DISK_ROOT_BYTES];       /* of the last checkpoint: after tccp_disk_close_clean, of everything */
    uint8_t base_root[TCCP_DISK_ROOT_BYTES];  /* zeros without a base */
    uint8_t mark[TCCP_DISK_MARK_BYTES];       /* of this moment; only a disk that is open for reading will know it later */
    uint32_t suite;
    uint64_t base_blocks;
    uint64_t size_bytes;
    uint64_t generation;        /* checkpoints so far */
    uint64_t sequence;          /* commits so far */
    uint64_t replayed;          /* commits after the last checkpoint that were found when it was opened */
    uint64_t dropped;           /* 1: the last commit was torn by a crash, and no flush had answered yet */
    uint64_t data_blocks;       /* blocks with contents of their own */
    uint64_t zero_blocks;       /* blocks discarded or written with zeros */
    uint64_t slots;             /* room in the file, in blocks */
    uint64_t slots_free;
} tccp_disk_info;

/* Make a disk in an empty file, or in what a call of this that was killed has left. size_bytes is a multiple of the block size and not smaller than the base; log_bytes is a
 * multiple of the block size from 65536 on. base may be NULL. The suite is as for sealed images. */
TCCP_MUST_USE tccp_status tccp_disk_create(int file, const tccp_disk_key *key, const tccp_disk_base *base,
                                           uint32_t suite, uint64_t size_bytes, uint64_t log_bytes);

/* What a disk must be to be opened; each may be NULL, and then any is taken.
 *   root   TCCP_DISK_ROOT_BYTES: it must stand exactly as when that root was returned
 *   mark   TCCP_DISK_MARK_BYTES: its history must pass through that moment. Remembered are 64: the one that was last
 *          demanded or said to be kept, and the newest that came from tccp_disk_mark or that it was opened at */
typedef struct tccp_disk_demand {
    const uint8_t *root;
    const uint8_t *mark;
} tccp_disk_demand;

/* Open a disk, and bring it to the last state that a flush answered for, or a later one.
 *   demand      may be NULL. TCCP_ERR_DISK_ROOT, TCCP_ERR_DISK_MARK
 *   read_only   nothing is written to the file
 * The caller has locked the file against a second process; the descriptor must stay open as long as the disk. */
TCCP_MUST_USE tccp_status tccp_disk_open(int file, const tccp_disk_key *key, const tccp_disk_base *base,
                                         const tccp_disk_demand *demand, int read_only, tccp_disk **ret_disk);

/* Read, write and zero any bytes inside the disk; from any number of threads. A write is durable when a flush that began
 * after its end has returned TCCP_OK. After a failed flush every write and flush fails. */
TCCP_MUST_USE tccp_status tccp_disk_read(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer);
TCCP_MUST_USE tccp_status tccp_disk_write(tccp_disk *disk, uint64_t offset, size_t len, const uint8_t *bytes);
TCCP_MUST_USE tccp_status tccp_disk_zero(tccp_disk *disk, uint64_t offset, uint64_t len);
TCCP_MUST_USE tccp_status tccp_disk_flush(tccp_disk *disk);

/* Whether the len bytes from offset on begin with data (1) or with a hole that reads as zeros (0), and for how long. */
TCCP_MUST_USE tccp_status tccp_disk_extent(tccp_disk *disk, uint64_t offset, uint64_t len, int *ret_is_data,
                                           uint64_t *ret_len);

/* Verify count blocks from block on, those of the base included. ret_bad counts those that do not, ret_first_bad is the
 * first of them. TCCP_OK also when some are bad. */
TCCP_MUST_USE tccp_status tccp_disk_verify(tccp_disk *disk, uint64_t block, uint64_t count, uint64_t *ret_bad,
                                           uint64_t *ret_first_bad);

/* Grow a disk that nobody is using; durable on return. */
TCCP_MUST_USE tccp_status tccp_disk_grow(tccp_disk *disk, uint64_t size_bytes);

/* Start a thread of the disk's own, until it is closed or freed: it makes room in the file ready before it is needed, and
 * commits when much was written and nobody flushes. Nothing for a disk that is open for reading, or has one. */
TCCP_MUST_USE tccp_status tccp_disk_keeper_start(tccp_disk *disk);

/* Give the room of all free slots back to the file system. The disk may be in use: other calls go on meanwhile, but for
 * the moments in which a window of slots is looked at or the file is shortened. */
TCCP_MUST_USE tccp_status tccp_disk_compact(tccp_disk *disk, uint64_t *ret_freed_bytes);

void tccp_disk_describe(tccp_disk *disk, tccp_disk_info *ret_info);

/* The moment that the disk's history has come to: whoever demands it later gets this state or one that came after it. It
 * holds what the last flush has answered for. Cheap; from any thread. */
TCCP_MUST_USE tccp_status tccp_disk_mark(tccp_disk *disk, uint8_t *ret_mark);

/* Say that a mark is kept where it is safe: it will be remembered until this is said of a newer one, and older ones are
 * forgotten. TCCP_ERR_DISK_MARK: it is not remembered. */
TCCP_MUST_USE tccp_status tccp_disk_mark_kept(tccp_disk *disk, const uint8_t *mark);

/* Write everything, and return the root of what the disk now is. The disk is not usable any more, only to be freed. */
TCCP_MUST_USE tccp_status tccp_disk_close_clean(tccp_disk *disk, uint8_t *ret_root);

/* Forget a disk and wipe its keys. What no flush answered for may be lost. */
void tccp_disk_free(tccp_disk *disk);

/* Serve a disk over NBD to whoever connects to a listening stream socket, up to 16 at a time, until `stop` can be read.
 * Every connection has been ended and its thread joined on return; nothing is flushed. Starts the disk's keeper. */
TCCP_MUST_USE tccp_status tccp_nbd_serve(tccp_disk *disk, int listener, int stop);

/* Before a process serves a disk: only the system calls that serving and ending need; any other is refused. For good, for all threads.
 * TCCP_ERR_UNSUPPORTED on architectures whose calls are not listed. */
TCCP_MUST_USE tccp_status tccp_disk_process_confine(void);

/* cffi] */

#endif /* TCCP_TCCP_DISK_H */
