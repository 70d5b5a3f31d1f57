/* disk_marks.c: moments of a disk's history that may be demanded later.
 *
 * A mark is the sequence and the tag of a record that is durable; the tag binds every record before it. Whoever demands
 * one at opening gets a disk whose history passes through that moment, and which is therefore at least that new. While
 * the record is still in the log, the replay comes by and compares. Later the superblock has to remember it. There is room
 * for DISK_MARKS_MAX: the first is the one that somebody is known to keep, the others are the newest that were given out,
 * or that the disk was opened at. Until a checkpoint has written them there, the record that follows a mark says so, and the
 * replay remembers it again.
 */
#include <sodium.h>
#include <string.h>

#include "disk.h"

void disk_mark_encode(const disk_mark *mark, uint8_t bytes[TCCP_DISK_MARK_BYTES])
{
    disk_put64(bytes, mark->sequence);
    memcpy(bytes + 8, mark->chain, sizeof mark->chain);
}

void disk_mark_decode(const uint8_t bytes[TCCP_DISK_MARK_BYTES], disk_mark *ret_mark)
{
    ret_mark->sequence = disk_get64(bytes);
    memcpy(ret_mark->chain, bytes + 8, sizeof ret_mark->chain);
}

static int same(const disk_mark *a, const disk_mark *b)
{
    return a->sequence == b->sequence && sodium_memcmp(a->chain, b->chain, sizeof a->chain) == 0;
}

disk_mark disk_mark_now(const tccp_disk *disk)
{
    disk_mark now = {.sequence = disk->sequence};
    memcpy(now.chain, disk->chain, sizeof now.chain);
    return now;
}

void disk_mark_remember(tccp_disk *disk, const disk_mark *mark)
{
    disk_mark *marks = disk->superblock.marks;
    uint64_t count = disk->superblock.marks_count, at = count;
    while (at > 0 && marks[at - 1].sequence > mark->sequence)
        at--;
    if (at > 0 && same(&marks[at - 1], mark))
        return;
    if (count == DISK_MARKS_MAX) {
        /* The second goes: the first may be all that its keeper has, however long she was not heard of. */
        if (at <= 1)
            return;
        memmove(marks + 1, marks + 2, (at - 2) * sizeof *marks);
        at--;
    } else {
        memmove(marks + at + 1, marks + at, (count - at) * sizeof *marks);
        disk->superblock.marks_count++;
    }
    marks[at] = *mark;
}

tccp_status disk_mark_keep(tccp_disk *disk, const disk_mark *mark)
{
    disk_superblock *superblock = &disk->superblock;
    for (uint64_t i = 0; i < superblock->marks_count; i++)
        if (same(mark, &superblock->marks[i])) {
            superblock->marks_count -= i;
            memmove(superblock->marks, superblock->marks + i, superblock->marks_count * sizeof *mark);
            return TCCP_OK;
        }
    return TCCP_ERR_DISK_MARK;
}

void disk_mark_passed(tccp_disk *disk)
{
    disk_mark now = disk_mark_now(disk);
    if (disk->demanded != NULL && same(disk->demanded, &now))
        disk->demanded_seen = 1;
}

void disk_mark_look_back(tccp_disk *disk)
{
    disk_mark_passed(disk);
    for (uint64_t i = 0; disk->demanded != NULL && i < disk->superblock.marks_count; i++)
        if (same(disk->demanded, &disk->superblock.marks[i]))
            disk->demanded_seen = 1;
}

void disk_mark_give(tccp_disk *disk, uint8_t ret_mark[TCCP_DISK_MARK_BYTES])
{
    disk_mark now = disk_mark_now(disk);
    disk_mark_remember(disk, &now);
    disk->mark_given = 1;
    disk_mark_encode(&now, ret_mark);
}

tccp_status tccp_disk_mark(tccp_disk *disk, uint8_t *ret_mark)
{
    if (disk == NULL || ret_mark == NULL)
        return TCCP_ERR_USAGE;
    (void) pthread_mutex_lock(&disk->commit_lock);
    disk_mark_give(disk, ret_mark);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    return TCCP_OK;
}

tccp_status tccp_disk_mark_kept(tccp_disk *disk, const uint8_t *mark)
{
    disk_mark kept;
    if (disk == NULL || mark == NULL)
        return TCCP_ERR_USAGE;
    disk_mark_decode(mark, &kept);
    (void) pthread_mutex_lock(&disk->commit_lock);
    tccp_status status = disk_mark_keep(disk, &kept);
    (void) pthread_mutex_unlock(&disk->commit_lock);
    return status;
}
