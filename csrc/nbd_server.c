/* nbd_server.c: a thread for each connection, and a crew for what it would have to wait for. A whole socket buffer comes in
 * at once, the requests in it are answered, and the answers leave together: what costs most at 4 KiB is the way in and out
 * of the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd.h"

enum { CONNECTIONS_MAX = 16, SOCKET_BUFFER_BYTES = 4 << 20, RETRY_MS = 100 };

typedef struct connection {
    int socket;
    int in_use;
    int finished;                /* the thread is about to end, and can be joined */
    pthread_t thread;
    struct server *server;
} connection;

typedef struct server {
    tccp_disk *disk;
    pthread_mutex_t lock;
    connection connections[CONNECTIONS_MAX];
} server;

static void talk(nbd_session *session, nbd_crew *crew, int socket, uint8_t *in)
{
    size_t len = 0, used = 0;
    for (;;) {
        size_t part = nbd_session_receive(session, in + used, len - used);
        used += part;
        /* With nothing used up and nothing to send, what is left is an incomplete message. */
        int waiting = session->out_len == 0 && part == 0;
        if (session->out_len != 0 && !nbd_crew_send(crew, session->out, session->out_len))
            return;
        session->out_len = 0;
        if (session->phase == NBD_PHASE_CLOSED)
            return;
        if (!waiting && used < len)
            continue;
        if (used == len) {
            used = len = 0;
        } else if (used > len - used || NBD_IN_CAPACITY - len < NBD_IN_CAPACITY / 8) {
            memmove(in, in + used, len - used);
            len -= used;
            used = 0;
        }
        ssize_t got = recv(socket, in + len, NBD_IN_CAPACITY - len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        len += (size_t) got;
    }
}

static void *serve_connection(void *argument)
{
    connection *mine = argument;
    int size = SOCKET_BUFFER_BYTES;
    /* Larger than the system's limit where we may; as large as that otherwise. */
    if (setsockopt(mine->socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        (void) setsockopt(mine->socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    /* Untouched memory costs nothing: only a client that asks for 32 MiB at once makes these large. */
    uint8_t *in = nbd_buffer(NBD_IN_CAPACITY), *out = nbd_buffer(NBD_OUT_CAPACITY);
    nbd_session session;
    nbd_crew *crew = nbd_crew_make(&session, mine->socket);
    if (in != NULL && out != NULL && crew != NULL) {
        nbd_session_start(&session, mine->server->disk, out);
        session.defer = nbd_crew_take;
        session.defer_context = crew;
        talk(&session, crew, mine->socket, in);
    }
    nbd_crew_end(crew);
    /* They held plaintext; unmapped pages are cleared by the kernel before anybody else gets them. */
    if (in != NULL)
        (void) munmap(in, NBD_IN_CAPACITY);
    if (out != NULL)
        (void) munmap(out, NBD_OUT_CAPACITY);
    (void) shutdown(mine->socket, SHUT_RDWR);
    (void) pthread_mutex_lock(&mine->server->lock);
    mine->finished = 1;
    (void) pthread_mutex_unlock(&mine->server->lock);
    return NULL;
}

/* Join those that have ended, or all of them after hanging up. */
static void reap(server *all, int everybody)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        connection *one = &all->connections[i];
        if (!one->in_use)
            continue;
        (void) pthread_mutex_lock(&all->lock);
        int finished = one->finished;
        (void) pthread_mutex_unlock(&all->lock);
        if (!finished && !everybody)
            continue;
        if (everybody)
            (void) shutdown(one->socket, SHUT_RDWR);
        (void) pthread_join(one->thread, NULL);
        (void) close(one->socket);
        one->in_use = 0;
    }
}

static void welcome(server *all, int socket)
{
    reap(all, 0);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        connection *one = &all->connections[i];
        if (one->in_use)
            continue;
        *one = (connection){.socket = socket, .in_use = 1, .server = all};
        /* Signals are for the thread that called us, or for others of its process. */
        sigset_t every, before;
        (void) sigfillset(&every);
        (void) pthread_sigmask(SIG_SETMASK, &every, &before);
        int error = pthread_create(&one->thread, NULL, serve_connection, one);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (error == 0)
            return;
        one->in_use = 0;
        break;
    }
    (void) close(socket);
}

/* The host has nothing left for another connection: whoever wants one waits, and those that there are go on. */
static int is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

tccp_status tccp_nbd_serve(tccp_disk *disk, int listener, int stop)
{
    if (disk == NULL || listener < 0 || stop < 0)
        return TCCP_ERR_USAGE;
    server all = {.disk = disk};
    (void) pthread_mutex_init(&all.lock, NULL);
    tccp_status status = tccp_disk_keeper_start(disk);
    for (int exhausted = 0; status == TCCP_OK;) {
        struct pollfd wait[] = {{.fd = stop, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        int ready = poll(wait, exhausted ? 1 : 2, exhausted ? RETRY_MS : -1);
        exhausted = 0;
        if (ready < 0 && errno != EINTR)
            status = TCCP_ERR_IO;
        if (wait[0].revents != 0)
            break;
        if (ready <= 0 || wait[1].revents == 0)
            continue;
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (socket >= 0)
            welcome(&all, socket);
        else if (is_exhausted(errno))
            exhausted = 1;
        else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
            status = TCCP_ERR_IO;
    }
    reap(&all, 1);
    (void) pthread_mutex_destroy(&all.lock);
    return status;
}
