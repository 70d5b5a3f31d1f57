/* fuzz_nbd.c: a whole NBD connection, from the client's flags on, against a disk in memory.
 *
 * The input is what the client sends, cut into two pieces at a place that its first byte names. Whatever comes, the
 * answers fit into their room, no byte is taken that was not there, and the disk still verifies: it is one for all
 * inputs, and all of it is read now and then. Where that byte is odd, requests that would wait are taken by somebody
 * else, as by the threads of a served connection.
 */
#define _GNU_SOURCE
#include "nbd.h"
#include "../tests/disk_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_BYTES = 1 << 20, RUNS_BETWEEN_READINGS = 256 };

static tccp_disk *disk;
static memory_file file;
static uint8_t *out, *beside;

static int answer_beside(void *context, const nbd_request *request, const uint8_t *payload)
{
    nbd_session mine = *(const nbd_session *) context;
    mine.defer = NULL;
    mine.out = beside;
    mine.out_len = 0;
    nbd_answer(&mine, request, payload);
    if (mine.out_len == 0 || mine.out_len > NBD_OUT_CAPACITY)
        abort();
    return 1;
}

static size_t feed(nbd_session *session, const uint8_t *bytes, size_t len)
{
    size_t used = 0;
    for (;;) {
        size_t part = nbd_session_receive(session, bytes + used, len - used);
        if (part > len - used || session->out_len > NBD_OUT_CAPACITY)
            abort();
        used += part;
        int more = session->out_len != 0 && session->phase != NBD_PHASE_CLOSED;
        session->out_len = 0;  /* sent */
        if (!more)
            return used;
    }
}

static void read_all(void)
{
    static uint8_t block[DISK_BLOCK];
    for (uint64_t offset = 0; offset < DISK_BYTES; offset += DISK_BLOCK)
        if (tccp_disk_read(disk, offset, DISK_BLOCK, block) != TCCP_OK)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned runs;
    if (disk == NULL) {
        disk = memory_disk(&file, DISK_BYTES);
        out = malloc(NBD_OUT_CAPACITY);
        beside = malloc(NBD_OUT_CAPACITY);
    }
    if (size == 0 || out == NULL || beside == NULL)
        return 0;
    nbd_session session;
    nbd_session_start(&session, disk, out);
    if (session.out_len != 18)
        abort();
    session.out_len = 0;
    session.defer = data[0] % 2 != 0 ? answer_beside : NULL;
    session.defer_context = &session;
    size_t first = (size_t) data[0] * (size - 1) / 255;
    size_t used = feed(&session, data + 1, first);
    if (session.phase != NBD_PHASE_CLOSED)
        (void) feed(&session, data + 1 + used, size - 1 - used);
    if (++runs % RUNS_BETWEEN_READINGS == 0)
        read_all();
    return 0;
}
