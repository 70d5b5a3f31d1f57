/* nbd_requests.c: requests, answered from a disk.
 *
 * What can be answered at once is, one after the other. What would have to wait is deferred where the session has
 * somebody for it: flushes, reads of what is not in memory, changes of parts of blocks or beyond what one record holds.
 * The protocol allows answers in any order; a client that wants an order waits for the answer before it asks.
 */
#include <string.h>

#include "disk.h"
#include "nbd.h"

enum {
    REQUEST_BYTES = 28,
    COMMAND_READ = 0, COMMAND_WRITE = 1, COMMAND_DISCONNECT = 2, COMMAND_FLUSH = 3, COMMAND_TRIM = 4,
    COMMAND_WRITE_ZEROES = 6, COMMAND_BLOCK_STATUS = 7,
    FLAG_FUA = 1, FLAG_NO_HOLE = 2, FLAG_DF = 4, FLAG_REQ_ONE = 8, FLAG_FAST_ZERO = 16,
    EXPORT_HAS_FLAGS = 1, EXPORT_READ_ONLY = 2, EXPORT_FLUSH = 4, EXPORT_FUA = 8, EXPORT_TRIM = 32,
    EXPORT_WRITE_ZEROES = 64, EXPORT_DF = 128, EXPORT_MULTI_CONN = 256, EXPORT_FAST_ZERO = 2048,
    CHUNK_DONE = 1, CHUNK_NONE = 0, CHUNK_DATA = 1, CHUNK_BLOCK_STATUS = 5,
    STATE_HOLE = 1, STATE_ZERO = 2,
    CONTEXT_ID = 1,
    EXTENTS_MAX = 512,
    ERROR_PERM = 1, ERROR_IO = 5, ERROR_NO_MEMORY = 12, ERROR_INVALID = 22, ERROR_NO_SPACE = 28
};

static const uint32_t REQUEST_MAGIC = 0x25609513, SIMPLE_MAGIC = 0x67446698, CHUNK_MAGIC = 0x668e33ef;
static const uint16_t CHUNK_ERROR = 0x8001;

uint16_t nbd_export_flags(const nbd_session *session)
{
    uint16_t flags = EXPORT_HAS_FLAGS | EXPORT_FLUSH | EXPORT_FUA | EXPORT_MULTI_CONN;
    if (session->disk->read_only)
        flags |= EXPORT_READ_ONLY;
    else
        flags |= EXPORT_TRIM | EXPORT_WRITE_ZEROES | EXPORT_FAST_ZERO;
    if (session->structured)
        flags |= EXPORT_DF;
    return flags;
}

static uint32_t error_of(tccp_status status)
{
    switch (status) {
    case TCCP_OK: return 0;
    case TCCP_ERR_NO_MEMORY: return ERROR_NO_MEMORY;
    case TCCP_ERR_NO_SPACE: return ERROR_NO_SPACE;
    default: return ERROR_IO;
    }
}

static void put_simple(nbd_session *session, const nbd_request *of, uint32_t error)
{
    nbd_put(session, SIMPLE_MAGIC, 4);
    nbd_put(session, error, 4);
    nbd_put(session, of->cookie, 8);
}

static void put_chunk(nbd_session *session, const nbd_request *of, uint16_t type, uint32_t len)
{
    nbd_put(session, CHUNK_MAGIC, 4);
    nbd_put(session, CHUNK_DONE, 2);
    nbd_put(session, type, 2);
    nbd_put(session, of->cookie, 8);
    nbd_put(session, len, 4);
}

/* Reads and block status are answered in chunks once that was agreed on, their errors too. */
static void put_error(nbd_session *session, const nbd_request *of, uint32_t error)
{
    int in_chunks = of->command == COMMAND_READ || of->command == COMMAND_BLOCK_STATUS;
    if (!session->structured || !in_chunks) {
        put_simple(session, of, error);
        return;
    }
    put_chunk(session, of, CHUNK_ERROR, 6);
    nbd_put(session, error, 4);
    nbd_put(session, 0, 2);  /* no text */
}

/* Returns 0 when it would have to wait, and may not. */
static int answer_read(nbd_session *session, const nbd_request *of, int may_wait)
{
    size_t before = session->out_len;
    int waits = 0;
    if (session->structured) {
        put_chunk(session, of, of->len == 0 ? CHUNK_NONE : CHUNK_DATA, of->len == 0 ? 0 : 8 + of->len);
        if (of->len != 0)
            nbd_put(session, of->offset, 8);
    } else {
        put_simple(session, of, 0);
    }
    uint8_t *into = session->out + session->out_len;
    tccp_status status = may_wait ? tccp_disk_read(session->disk, of->offset, of->len, into)
                                  : disk_read_now(session->disk, of->offset, of->len, into, &waits);
    if (waits) {
        session->out_len = before;
        return 0;
    }
    if (status == TCCP_OK) {
        session->out_len += of->len;
    } else {
        session->out_len = before;
        put_error(session, of, error_of(status));
    }
    return 1;
}

static tccp_status extent_of_data(tccp_disk *disk, uint64_t offset, uint64_t len, uint32_t *ret_flags,
                                  uint64_t *ret_len)
{
    int is_data = 1;
    tccp_status status = tccp_disk_extent(disk, offset, len, &is_data, ret_len);
    *ret_flags = is_data ? 0 : STATE_HOLE | STATE_ZERO;
    return status;
}

/* A hole is what is as in the base image: whoever has that need not be told. */
static tccp_status extent_of_changes(tccp_disk *disk, uint64_t offset, uint64_t len, uint32_t *ret_flags,
                                     uint64_t *ret_len)
{
    uint64_t state = DISK_STATE_DATA;
    tccp_status status = disk_extent_of_state(disk, offset, len, &state, ret_len);
    *ret_flags = state == DISK_STATE_BASE ? STATE_HOLE : state == DISK_STATE_ZERO ? STATE_ZERO : 0;
    return status;
}

static void answer_block_status(nbd_session *session, const nbd_request *of)
{
    uint64_t offset = of->offset, end = of->offset + of->len;
    size_t before = session->out_len, count = 0;
    tccp_status status = TCCP_OK;
    put_chunk(session, of, CHUNK_BLOCK_STATUS, 0);
    nbd_put(session, CONTEXT_ID, 4);
    while (offset < end && count < ((of->flags & FLAG_REQ_ONE) != 0 ? 1 : EXTENTS_MAX) && status == TCCP_OK) {
        uint64_t len = 0;
        uint32_t flags = 0;
        status = session->changed ? extent_of_changes(session->disk, offset, end - offset, &flags, &len)
                                  : extent_of_data(session->disk, offset, end - offset, &flags, &len);
        nbd_put(session, len, 4);
        nbd_put(session, flags, 4);
        offset += len;
        count++;
    }
    size_t after = session->out_len;
    session->out_len = before;
    if (status != TCCP_OK) {
        put_error(session, of, error_of(status));
        return;
    }
    put_chunk(session, of, CHUNK_BLOCK_STATUS, (uint32_t) (4 + 8 * count));
    session->out_len = after;
}

/* What is wrong with a request before the disk is asked, or 0. */
static uint32_t fault_of(const nbd_session *session, const nbd_request *of)
{
    static const uint16_t allowed[] = {
        [COMMAND_READ] = FLAG_FUA | FLAG_DF,
        [COMMAND_WRITE] = FLAG_FUA,
        [COMMAND_FLUSH] = FLAG_FUA,
        [COMMAND_TRIM] = FLAG_FUA,
        [COMMAND_WRITE_ZEROES] = FLAG_FUA | FLAG_NO_HOLE | FLAG_FAST_ZERO,
        [COMMAND_BLOCK_STATUS] = FLAG_FUA | FLAG_REQ_ONE,
    };
    uint64_t size = session->disk->blocks * DISK_BLOCK;
    int writes = of->command == COMMAND_WRITE || of->command == COMMAND_TRIM || of->command == COMMAND_WRITE_ZEROES;
    if (of->command > COMMAND_BLOCK_STATUS || (of->flags & ~allowed[of->command]) != 0)
        return ERROR_INVALID;
    if ((of->flags & FLAG_DF) != 0 && !session->structured)
        return ERROR_INVALID;
    if (writes && session->disk->read_only)
        return ERROR_PERM;
    if (of->command == COMMAND_FLUSH)
        return of->offset == 0 && of->len == 0 ? 0 : ERROR_INVALID;
    if (of->offset > size || of->len > size - of->offset)
        return of->command == COMMAND_WRITE || of->command == COMMAND_WRITE_ZEROES ? ERROR_NO_SPACE : ERROR_INVALID;
    if (of->command == COMMAND_READ && of->len > NBD_REQUEST_BYTES_MAX)
        return ERROR_INVALID;
    if (of->command == COMMAND_BLOCK_STATUS && (of->len == 0 || !(session->allocation || session->changed)))
        return ERROR_INVALID;
    return 0;
}

/* Does what a request asks for, but for making it durable. */
static tccp_status change(nbd_session *session, const nbd_request *of, const uint8_t *payload)
{
    switch (of->command) {
    case COMMAND_WRITE: return tccp_disk_write(session->disk, of->offset, of->len, payload);
    case COMMAND_TRIM:
    case COMMAND_WRITE_ZEROES: return tccp_disk_zero(session->disk, of->offset, of->len);
    default: return TCCP_OK;
    }
}

void nbd_answer(nbd_session *session, const nbd_request *of, const uint8_t *payload)
{
    tccp_status status = TCCP_OK;
    uint32_t fault = fault_of(session, of);
    if (fault != 0) {
        put_error(session, of, fault);
        return;
    }
    switch (of->command) {
    case COMMAND_READ: (void) answer_read(session, of, 1); return;
    case COMMAND_BLOCK_STATUS: answer_block_status(session, of); return;
    case COMMAND_WRITE:
    case COMMAND_TRIM:
    case COMMAND_WRITE_ZEROES:
    case COMMAND_FLUSH: break;
    default: put_error(session, of, ERROR_INVALID); return;
    }
    if (!of->changed)
        status = change(session, of, payload);
    if (status == TCCP_OK && (of->command == COMMAND_FLUSH || (of->flags & FLAG_FUA) != 0))
        status = tccp_disk_flush(session->disk);
    put_simple(session, of, error_of(status));
}

int nbd_only_flushes(const nbd_request *of)
{
    return of->command == COMMAND_FLUSH || of->changed;
}

/* Answer at once what needs no waiting, and find somebody to wait for the rest. */
static void dispatch(nbd_session *session, nbd_request *of, const uint8_t *payload)
{
    int changes = of->command == COMMAND_WRITE || of->command == COMMAND_TRIM || of->command == COMMAND_WRITE_ZEROES;
    int waits = 0;
    if (session->defer == NULL || fault_of(session, of) != 0) {
        nbd_answer(session, of, payload);
        return;
    }
    if (of->command == COMMAND_READ) {
        if (answer_read(session, of, 0))
            return;
        waits = 1;
    } else if (changes && !disk_change_waits(session->disk, of->offset, of->len)) {
        tccp_status status = change(session, of, payload);
        if (status != TCCP_OK || (of->flags & FLAG_FUA) == 0) {
            put_simple(session, of, error_of(status));
            return;
        }
        of->changed = 1;
        waits = 1;
    } else {
        waits = changes || of->command == COMMAND_FLUSH;
    }
    if (!waits || !session->defer(session->defer_context, of, payload))
        nbd_answer(session, of, payload);
}

size_t nbd_take_request(nbd_session *session, const uint8_t *bytes, size_t len)
{
    if (len < REQUEST_BYTES)
        return 0;
    nbd_request got = {
        .flags = (uint16_t) nbd_get(bytes + 4, 2),
        .command = (uint16_t) nbd_get(bytes + 6, 2),
        .cookie = nbd_get(bytes + 8, 8),
        .offset = nbd_get(bytes + 16, 8),
        .len = (uint32_t) nbd_get(bytes + 24, 4),
    };
    size_t payload = got.command == COMMAND_WRITE ? got.len : 0;
    if (nbd_get(bytes, 4) != REQUEST_MAGIC || payload > NBD_REQUEST_BYTES_MAX || got.command == COMMAND_DISCONNECT) {
        session->phase = NBD_PHASE_CLOSED;
        return REQUEST_BYTES;
    }
    if (len - REQUEST_BYTES < payload)
        return 0;
    dispatch(session, &got, bytes + REQUEST_BYTES);
    return REQUEST_BYTES + payload;
}
