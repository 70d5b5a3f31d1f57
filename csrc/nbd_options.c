/* nbd_options.c: what client and server agree on before the first request. There is one export, without a name. */
#include <string.h>

#include "disk.h"
#include "nbd.h"
#include "reader.h"

static const uint64_t GREETING_MAGIC = 0x4e42444d41474943, OPTION_MAGIC = 0x49484156454f5054,
                      REPLY_MAGIC = 0x0003e889045565a9;

enum {
    FLAG_FIXED_NEWSTYLE = 1, FLAG_NO_ZEROES = 2,
    OPTION_EXPORT_NAME = 1, OPTION_ABORT = 2, OPTION_LIST = 3, OPTION_INFO = 6, OPTION_GO = 7,
    OPTION_STRUCTURED_REPLY = 8, OPTION_LIST_META_CONTEXT = 9, OPTION_SET_META_CONTEXT = 10,
    REPLY_ACK = 1, REPLY_SERVER = 2, REPLY_INFO = 3, REPLY_META_CONTEXT = 4,
    INFO_EXPORT = 0, INFO_BLOCK_SIZE = 3,
    EXPORT_NAME_PADDING = 124,
    CONTEXT_ID = 1
};

static const uint32_t REPLY_UNSUPPORTED = 0x80000001, REPLY_INVALID = 0x80000003, REPLY_UNKNOWN = 0x80000006;

static const char ALLOCATION[] = "base:allocation";
static const char CHANGED[] = "tccp:changed";  /* what is not as in the base image; it is not listed */

static void reply(nbd_session *session, uint32_t option, uint32_t type, uint32_t len)
{
    nbd_put(session, REPLY_MAGIC, 8);
    nbd_put(session, option, 4);
    nbd_put(session, type, 4);
    nbd_put(session, len, 4);
}

void nbd_session_start(nbd_session *session, tccp_disk *disk, uint8_t *out)
{
    *session = (nbd_session){.disk = disk, .phase = NBD_PHASE_FLAGS, .out = out};
    nbd_put(session, GREETING_MAGIC, 8);
    nbd_put(session, OPTION_MAGIC, 8);
    nbd_put(session, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, 2);
}

static uint64_t export_bytes(const nbd_session *session)
{
    return session->disk->blocks * DISK_BLOCK;
}

/* NBD_OPT_INFO and NBD_OPT_GO: name, and which informations are wanted; we send the two that matter in any case. */
static void answer_info(nbd_session *session, uint32_t option, reader in)
{
    uint64_t name_len = read_uint_be(&in, 4);
    (void) read_bytes(&in, name_len);
    uint64_t wanted = read_uint_be(&in, 2);
    (void) read_bytes(&in, 2 * wanted);
    if (!reader_finished(&in)) {
        reply(session, option, REPLY_INVALID, 0);
        return;
    }
    if (name_len != 0) {
        reply(session, option, REPLY_UNKNOWN, 0);
        return;
    }
    reply(session, option, REPLY_INFO, 12);
    nbd_put(session, INFO_EXPORT, 2);
    nbd_put(session, export_bytes(session), 8);
    nbd_put(session, nbd_export_flags(session), 2);
    reply(session, option, REPLY_INFO, 14);
    nbd_put(session, INFO_BLOCK_SIZE, 2);
    nbd_put(session, 1, 4);
    nbd_put(session, DISK_BLOCK, 4);
    nbd_put(session, NBD_REQUEST_BYTES_MAX, 4);
    reply(session, option, REPLY_ACK, 0);
    if (option == OPTION_GO)
        session->phase = NBD_PHASE_REQUESTS;
}

static void answer_export_name(nbd_session *session, uint32_t len)
{
    if (len != 0) {  /* this option has no way to say no */
        session->phase = NBD_PHASE_CLOSED;
        return;
    }
    nbd_put(session, export_bytes(session), 8);
    nbd_put(session, nbd_export_flags(session), 2);
    if (!session->no_zeroes) {
        memset(session->out + session->out_len, 0, EXPORT_NAME_PADDING);
        session->out_len += EXPORT_NAME_PADDING;
    }
    session->phase = NBD_PHASE_REQUESTS;
}

/* Does a query ask for base:allocation? Listing knows "base:" for all of that name space. */
static int query_matches(const uint8_t *query, size_t len, int listing)
{
    size_t prefix = strlen("base:");
    return (len == strlen(ALLOCATION) && memcmp(query, ALLOCATION, len) == 0) ||
           (listing && len == prefix && memcmp(query, ALLOCATION, prefix) == 0);
}

static void answer_meta_context(nbd_session *session, uint32_t option, reader in)
{
    int listing = option == OPTION_LIST_META_CONTEXT;
    uint64_t name_len = read_uint_be(&in, 4);
    (void) read_bytes(&in, name_len);
    uint64_t queries = read_uint_be(&in, 4);
    int wanted = listing && queries == 0, changed = 0;
    for (uint64_t i = 0; i < queries && !in.failed; i++) {
        uint64_t query_len = read_uint_be(&in, 4);
        const uint8_t *query = read_bytes(&in, query_len);
        wanted |= query != NULL && query_matches(query, query_len, listing);
        changed |= query != NULL && !listing && query_len == strlen(CHANGED) && memcmp(query, CHANGED, query_len) == 0;
    }
    if (!listing)
        session->allocation = session->changed = 0;  /* whatever was chosen before */
    if (!reader_finished(&in) || (!listing && !session->structured)) {
        reply(session, option, REPLY_INVALID, 0);
        return;
    }
    if (name_len != 0) {
        reply(session, option, REPLY_UNKNOWN, 0);
        return;
    }
    if (wanted || changed) {  /* one of them at a time */
        const char *name = wanted ? ALLOCATION : CHANGED;
        reply(session, option, REPLY_META_CONTEXT, 4 + (uint32_t) strlen(name));
        nbd_put(session, listing ? 0 : CONTEXT_ID, 4);
        memcpy(session->out + session->out_len, name, strlen(name));
        session->out_len += strlen(name);
        if (!listing) {
            session->allocation = wanted;
            session->changed = !wanted;
        }
    }
    reply(session, option, REPLY_ACK, 0);
}

static void answer_option(nbd_session *session, uint32_t option, const uint8_t *data, uint32_t len)
{
    switch (option) {
    case OPTION_EXPORT_NAME: answer_export_name(session, len); return;
    case OPTION_INFO:
    case OPTION_GO: answer_info(session, option, reader_of(data, len)); return;
    case OPTION_LIST_META_CONTEXT:
    case OPTION_SET_META_CONTEXT: answer_meta_context(session, option, reader_of(data, len)); return;
    case OPTION_ABORT:
        reply(session, option, REPLY_ACK, 0);
        session->phase = NBD_PHASE_CLOSED;
        return;
    case OPTION_LIST:
    case OPTION_STRUCTURED_REPLY:
        if (len != 0) {
            reply(session, option, REPLY_INVALID, 0);
            return;
        }
        if (option == OPTION_LIST) {
            reply(session, option, REPLY_SERVER, 4);
            nbd_put(session, 0, 4);  /* the length of the name */
        } else {
            session->structured = 1;
        }
        reply(session, option, REPLY_ACK, 0);
        return;
    default: reply(session, option, REPLY_UNSUPPORTED, 0);
    }
}

static size_t take_flags(nbd_session *session, const uint8_t *bytes, size_t len)
{
    if (len < 4)
        return 0;
    uint64_t flags = nbd_get(bytes, 4);
    session->no_zeroes = (flags & FLAG_NO_ZEROES) != 0;
    /* A client that does not know fixed newstyle cannot be told that an option is unknown. */
    int known = (flags & ~(uint64_t) (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)) == 0;
    session->phase = known && (flags & FLAG_FIXED_NEWSTYLE) != 0 ? NBD_PHASE_OPTIONS : NBD_PHASE_CLOSED;
    return 4;
}

size_t nbd_take_option(nbd_session *session, const uint8_t *bytes, size_t len)
{
    if (len < 16)
        return 0;
    uint32_t option = (uint32_t) nbd_get(bytes + 8, 4), data_len = (uint32_t) nbd_get(bytes + 12, 4);
    if (nbd_get(bytes, 8) != OPTION_MAGIC || data_len > NBD_OPTION_BYTES_MAX ||
        ++session->options > NBD_OPTIONS_MAX) {
        session->phase = NBD_PHASE_CLOSED;
        return 16;
    }
    if (len - 16 < data_len) {
        session->options--;
        return 0;
    }
    answer_option(session, option, bytes + 16, data_len);
    return 16 + data_len;
}

size_t nbd_session_receive(nbd_session *session, const uint8_t *bytes, size_t len)
{
    size_t used = 0, part = 1;
    while (part != 0 && session->out_len < NBD_OUT_ENOUGH && session->phase != NBD_PHASE_CLOSED) {
        switch (session->phase) {
        case NBD_PHASE_FLAGS: part = take_flags(session, bytes + used, len - used); break;
        case NBD_PHASE_OPTIONS: part = nbd_take_option(session, bytes + used, len - used); break;
        default: part = nbd_take_request(session, bytes + used, len - used);
        }
        used += part;
    }
    return used;
}
