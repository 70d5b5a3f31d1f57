/* nbd_crew.c: threads that wait for the disk on behalf of one connection, so that its own thread never does.
 *
 *     connection's thread ---defer---> flushes ---> one thread: one flush of the disk answers all that wait for one
 *                            '-------> others  ---> up to READERS threads: reads, changes that must read first
 *
 * They belong to one connection, so a client that does not take its answers holds up nobody else. What they hold is
 * bounded; a request beyond that is not taken, and the connection's thread waits itself, which slows the client down.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "nbd.h"

enum { READERS = 8, REQUESTS_MAX = 512, PAYLOAD_BYTES_MAX = 16 << 20, COMMAND_WRITE = 1 };

typedef struct job {
    struct job *next;
    nbd_request request;
    size_t payload_len;
    uint8_t payload[];
} job;

typedef struct queue {
    job *first, **last;
} queue;

struct nbd_crew {
    const nbd_session *session;  /* the connection's own, and busy */
    nbd_session agreed;          /* a copy, made before the first thread */
    int socket;
    pthread_mutex_t send_lock;
    pthread_mutex_t lock;
    pthread_cond_t flush_came, other_came;
    queue flushes, others;
    unsigned held;               /* requests taken and not answered yet */
    size_t held_bytes;
    unsigned idle_readers;
    unsigned threads_len;
    pthread_t threads[1 + READERS];
    int has_flusher, ending;
};

uint8_t *nbd_buffer(size_t len)
{
    uint8_t *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int nbd_crew_send(nbd_crew *crew, const uint8_t *bytes, size_t len)
{
    (void) pthread_mutex_lock(&crew->send_lock);
    while (len > 0) {
        ssize_t sent = send(crew->socket, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            break;
        bytes += sent;
        len -= (size_t) sent;
    }
    if (len != 0)
        (void) shutdown(crew->socket, SHUT_RDWR);  /* an answer cut in half: nothing that follows makes sense */
    (void) pthread_mutex_unlock(&crew->send_lock);
    return len == 0;
}

/* ---- working --------------------------------------------------------------------------------------------------------- */

/* The next job, or all flushes; NULL when there will be none any more. */
static job *next_jobs(nbd_crew *crew, int flushing)
{
    queue *from = flushing ? &crew->flushes : &crew->others;
    pthread_cond_t *came = flushing ? &crew->flush_came : &crew->other_came;
    (void) pthread_mutex_lock(&crew->lock);
    crew->idle_readers += !flushing;
    while (from->first == NULL && !crew->ending)
        (void) pthread_cond_wait(came, &crew->lock);
    crew->idle_readers -= !flushing;
    job *found = from->first;
    if (found != NULL) {
        from->first = flushing ? NULL : found->next;
        if (from->first == NULL)
            from->last = &from->first;
        if (!flushing)
            found->next = NULL;
    }
    (void) pthread_mutex_unlock(&crew->lock);
    return found;
}

static void finish(nbd_crew *crew, job *done)
{
    (void) pthread_mutex_lock(&crew->lock);
    crew->held--;
    crew->held_bytes -= done->payload_len;
    (void) pthread_mutex_unlock(&crew->lock);
    sodium_memzero(done->payload, done->payload_len);
    free(done);
}

/* Many flushes in one list need only one: the first makes everything durable that the others wait for, and leaves them
 * nothing to write. */
static void work(nbd_crew *crew, int flushing)
{
    nbd_session mine = crew->agreed;
    mine.defer = NULL;
    mine.out = nbd_buffer(NBD_OUT_CAPACITY);
    if (mine.out == NULL) {
        (void) shutdown(crew->socket, SHUT_RDWR);  /* what was taken cannot be answered any more */
        return;
    }
    for (job *jobs = next_jobs(crew, flushing); jobs != NULL; jobs = next_jobs(crew, flushing)) {
        mine.out_len = 0;
        while (jobs != NULL) {
            job *next = jobs->next;
            nbd_answer(&mine, &jobs->request, jobs->payload);
            finish(crew, jobs);
            jobs = next;
        }
        (void) nbd_crew_send(crew, mine.out, mine.out_len);
    }
    (void) munmap(mine.out, NBD_OUT_CAPACITY);
}

static void *flush(void *argument)
{
    work(argument, 1);
    return NULL;
}

static void *read_and_change(void *argument)
{
    work(argument, 0);
    return NULL;
}

/* ---- the connection's side ------------------------------------------------------------------------------------------- */

/* The lock is held. Whether there is a thread that will come to the job. */
static int has_thread(nbd_crew *crew, int flushing)
{
    unsigned readers = crew->threads_len - (unsigned) crew->has_flusher;
    if (flushing ? crew->has_flusher : crew->idle_readers > 0 || readers == READERS)
        return 1;
    if (crew->threads_len == 0)
        crew->agreed = *crew->session;
    if (pthread_create(&crew->threads[crew->threads_len], NULL, flushing ? flush : read_and_change, crew) != 0)
        return !flushing && readers > 0;
    crew->threads_len++;
    crew->has_flusher |= flushing;
    return 1;
}

int nbd_crew_take(void *context, const nbd_request *request, const uint8_t *payload)
{
    nbd_crew *crew = context;
    int flushing = nbd_only_flushes(request);
    size_t payload_len = request->command == COMMAND_WRITE && !flushing ? request->len : 0;
    job *made = malloc(sizeof *made + payload_len);
    if (made == NULL)
        return 0;
    *made = (job){.request = *request, .payload_len = payload_len};
    if (payload_len != 0)
        memcpy(made->payload, payload, payload_len);
    (void) pthread_mutex_lock(&crew->lock);
    int taken = crew->held < REQUESTS_MAX && crew->held_bytes + payload_len <= PAYLOAD_BYTES_MAX &&
                has_thread(crew, flushing);
    if (taken) {
        queue *to = flushing ? &crew->flushes : &crew->others;
        crew->held++;
        crew->held_bytes += payload_len;
        *to->last = made;
        to->last = &made->next;
        (void) pthread_cond_signal(flushing ? &crew->flush_came : &crew->other_came);
    }
    (void) pthread_mutex_unlock(&crew->lock);
    if (!taken) {
        sodium_memzero(made->payload, payload_len);
        free(made);
    }
    return taken;
}

nbd_crew *nbd_crew_make(const nbd_session *session, int socket)
{
    nbd_crew *crew = calloc(1, sizeof *crew);
    if (crew == NULL)
        return NULL;
    crew->session = session;
    crew->socket = socket;
    crew->flushes.last = &crew->flushes.first;
    crew->others.last = &crew->others.first;
    (void) pthread_mutex_init(&crew->send_lock, NULL);
    (void) pthread_mutex_init(&crew->lock, NULL);
    (void) pthread_cond_init(&crew->flush_came, NULL);
    (void) pthread_cond_init(&crew->other_came, NULL);
    return crew;
}

static void free_jobs(queue *left)
{
    for (job *at = left->first, *next; at != NULL; at = next) {
        next = at->next;
        sodium_memzero(at->payload, at->payload_len);
        free(at);
    }
}

void nbd_crew_end(nbd_crew *crew)
{
    if (crew == NULL)
        return;
    (void) pthread_mutex_lock(&crew->lock);
    crew->ending = 1;
    (void) pthread_cond_broadcast(&crew->flush_came);
    (void) pthread_cond_broadcast(&crew->other_came);
    (void) pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->threads_len; i++)
        (void) pthread_join(crew->threads[i], NULL);
    free_jobs(&crew->flushes);  /* there are some only where a thread had no memory to begin with */
    free_jobs(&crew->others);
    (void) pthread_cond_destroy(&crew->flush_came);
    (void) pthread_cond_destroy(&crew->other_came);
    (void) pthread_mutex_destroy(&crew->lock);
    (void) pthread_mutex_destroy(&crew->send_lock);
    free(crew);
}
