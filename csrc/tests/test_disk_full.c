/* test_disk_full.c: a disk on a file system that is full fails the writes that need room, and nothing else: what was
 * flushed stays readable, flushes go on, and with more room, or after discards, writes do.
 *
 * The file ends a little later in each trial, so that the room runs out at every step of a checkpoint, too.
 */
#include "check.h"
#include "fragile_file.h"

enum { BLOCKS = 512, TRIALS = 48, TWO_TREES = 32, FLUSHES = 64, FIRST_SLOT = DISK_LOG_OFFSET + DISK_LOG_BYTES_MIN };

static const tccp_disk_key key = {.bytes = {1, 2, 3}};
static fragile_file file;
static int numbers[BLOCKS];      /* what each block is full of: 0 while nothing was written */

static tccp_status write_block(tccp_disk *disk, unsigned block, int number)
{
    uint8_t bytes[DISK_BLOCK];
    memset(bytes, number, sizeof bytes);
    tccp_status status = tccp_disk_write(disk, block * DISK_BLOCK, sizeof bytes, bytes);
    if (status == TCCP_OK)
        numbers[block] = number;
    return status;
}

static void check_blocks(tccp_disk *disk)
{
    for (unsigned block = 0; block < BLOCKS; block++) {
        uint8_t bytes[DISK_BLOCK];
        CHECK(tccp_disk_read(disk, block * DISK_BLOCK, sizeof bytes, bytes) == TCCP_OK);
        CHECK(bytes[0] == numbers[block] && bytes[DISK_BLOCK - 1] == numbers[block]);
    }
}

static tccp_disk *open_disk(void)
{
    disk_io io = fragile_io(&file);
    tccp_disk *disk = NULL;
    CHECK(disk_open_io(&io, &key, NULL, NULL, 0, &disk) == TCCP_OK);
    return disk;
}

static void trial(unsigned slots, int discards)
{
    disk_io io = fragile_io(&file);
    fragile_reset(&file);
    memset(numbers, 0, sizeof numbers);
    CHECK(disk_create_io(&io, &key, NULL, 1, BLOCKS * DISK_BLOCK, DISK_LOG_BYTES_MIN) == TCCP_OK);
    file.room = FIRST_SLOT + slots * (uint64_t) DISK_BLOCK;
    tccp_disk *disk = open_disk();

    /* Far apart, so that each block changes a page of its own. */
    tccp_status status = TCCP_OK;
    unsigned written = 0;
    for (; status == TCCP_OK && written < BLOCKS; written++) {
        status = write_block(disk, written * 67 % BLOCKS, (int) (written % 250) + 1);
        CHECK(tccp_disk_flush(disk) == TCCP_OK);
    }
    CHECK(status == TCCP_ERR_NO_SPACE);
    check_blocks(disk);

    /* What is written over itself may find a slot or not; every flush that is answered counts, up to a full log. */
    for (unsigned i = 0; i < FLUSHES && !discards; i++) {
        status = write_block(disk, i * 67 % BLOCKS, 251);
        CHECK(status == TCCP_OK || status == TCCP_ERR_NO_SPACE);
        if (tccp_disk_flush(disk) != TCCP_OK)
            break;
    }
    if (discards) {
        CHECK(tccp_disk_zero(disk, 0, BLOCKS / 2 * DISK_BLOCK) == TCCP_OK);
        memset(numbers, 0, sizeof numbers / 2);
    } else {
        fragile_has_room(&file);
    }
    CHECK(tccp_disk_flush(disk) == TCCP_OK);
    CHECK(write_block(disk, 1, 252) == TCCP_OK);
    CHECK(tccp_disk_flush(disk) == TCCP_OK);
    check_blocks(disk);

    /* Everything was flushed, so a crash takes nothing. */
    tccp_disk_free(disk);
    power_fails(&file);
    fragile_has_room(&file);
    disk = open_disk();
    check_blocks(disk);
    tccp_disk_free(disk);
}

int main(void)
{
    fragile_make(&file);
    for (unsigned slots = 4; slots < 4 + TRIALS; slots++) {
        trial(slots, 0);
        if (slots >= TWO_TREES)  /* with less, what discards free is room for the next tree alone */
            trial(slots, 1);
    }
    fragile_free(&file);
    return failures != 0;
}
