/* nbd.h: one NBD connection without its socket: bytes in, bytes out.
 *
 *     nbd_options.c    from the greeting to the export: fixed newstyle, structured replies, meta contexts
 *     nbd_requests.c   reads, writes and the rest, answered from a disk
 *     nbd_crew.c       threads for requests that have to wait
 *     nbd_server.c     sockets and threads around it
 *
 * Source: the NBD protocol, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */
#ifndef TCCP_NBD_H
#define TCCP_NBD_H

#include "tccp.h"

enum {
    NBD_REQUEST_BYTES_MAX = 32 << 20,   /* what a client may ask for that asked for no limits */
    NBD_OPTION_BYTES_MAX = 65536,
    NBD_OPTIONS_MAX = 256,
    NBD_OUT_ENOUGH = 256 << 10,         /* send before more is answered */
    NBD_OUT_CAPACITY = NBD_OUT_ENOUGH + NBD_REQUEST_BYTES_MAX + 65536,
    NBD_IN_CAPACITY = NBD_REQUEST_BYTES_MAX + (4 << 20)
};

typedef enum nbd_phase {
    NBD_PHASE_FLAGS,             /* the client's flags come */
    NBD_PHASE_OPTIONS,
    NBD_PHASE_REQUESTS,
    NBD_PHASE_CLOSED             /* send what is left, and hang up */
} nbd_phase;

typedef struct nbd_request {
    uint16_t flags;
    uint16_t command;
    uint64_t cookie;
    uint64_t offset;
    uint32_t len;
    int changed;                 /* a change that is done, and is only to be made durable */
} nbd_request;

/* Takes a request that would have to wait, with a copy of its payload, and answers it in its own time. 0: it does not. */
typedef int nbd_defer(void *context, const nbd_request *request, const uint8_t *payload);

typedef struct nbd_session {
    tccp_disk *disk;
    nbd_defer *defer;            /* NULL: every request is answered before the next is looked at */
    void *defer_context;
    nbd_phase phase;
    int no_zeroes;               /* the client wants no padding behind NBD_OPT_EXPORT_NAME's answer */
    int structured;              /* structured replies were agreed on */
    int allocation;              /* the context base:allocation was agreed on */
    int changed;                 /* or tccp:changed */
    unsigned options;            /* options seen so far */
    uint8_t *out;                /* NBD_OUT_CAPACITY bytes, to be sent by the caller */
    size_t out_len;
} nbd_session;

/* Begin, with the greeting in out. */
void nbd_session_start(nbd_session *session, tccp_disk *disk, uint8_t *out);

/* Take what has come, as far as it is complete. Returns the bytes used up; fewer than len when a message is incomplete,
 * out is full enough to be sent first, or the phase is closed. */
size_t nbd_session_receive(nbd_session *session, const uint8_t *bytes, size_t len);

/* Parts of nbd_session_receive: one message. 0: incomplete. */
size_t nbd_take_option(nbd_session *session, const uint8_t *bytes, size_t len);
size_t nbd_take_request(nbd_session *session, const uint8_t *bytes, size_t len);

/* The answer to one request, into out. It waits for whatever it must; nothing is deferred. */
void nbd_answer(nbd_session *session, const nbd_request *request, const uint8_t *payload);

/* Whether all that is left of a request is a flush: one flush then answers many of them. */
int nbd_only_flushes(const nbd_request *request);

uint16_t nbd_export_flags(const nbd_session *session);

static inline uint64_t nbd_get(const uint8_t *bytes, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

static inline void nbd_put(nbd_session *session, uint64_t value, unsigned width)
{
    for (unsigned i = width; i > 0; i--)
        session->out[session->out_len++] = (uint8_t) (value >> (8 * (i - 1)));
}

/* ---- nbd_crew.c -------------------------------------------------------------------------------------------------- */

typedef struct nbd_crew nbd_crew;

/* Threads that answer for one connection: made when they are needed first. One sends at a time.
 *   session   must outlive the crew; what was agreed on does not change any more when the first request is deferred */
nbd_crew *nbd_crew_make(const nbd_session *session, int socket);
/* Returns when every request taken has been answered. */
void nbd_crew_end(nbd_crew *crew);
nbd_defer nbd_crew_take;         /* the crew is its context */
/* Send bytes beside the crew's answers. 0: the connection has ended. */
int nbd_crew_send(nbd_crew *crew, const uint8_t *bytes, size_t len);

/* Memory that costs nothing as long as it is untouched; NULL when there is none. */
uint8_t *nbd_buffer(size_t len);

#endif /* TCCP_NBD_H */
