/* test_nbd_server.c: connections of a served disk do not hold up what is behind a flush or a slow read, on the same
 * connection or on others, and a flush on one makes durable what was answered on another.
 *
 * The file below has gates: a sync, or a read of what is "not in memory", waits until the test opens them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "disk_memory.h"
#include "nbd_client.h"

enum { SIZE = 1 << 20, ANSWER_BYTES = 16 };

static memory_file file;
static tccp_disk *disk;
static int listener;
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0tccp test_nbd_server"};

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int closed;
    unsigned waiting;
} gate;

static gate syncing = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
static gate reading = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

static void pass(gate *at)
{
    (void) pthread_mutex_lock(&at->lock);
    at->waiting++;
    (void) pthread_cond_broadcast(&at->changed);
    while (at->closed)
        (void) pthread_cond_wait(&at->changed, &at->lock);
    at->waiting--;
    (void) pthread_mutex_unlock(&at->lock);
}

static void set(gate *at, int closed)
{
    (void) pthread_mutex_lock(&at->lock);
    at->closed = closed;
    (void) pthread_cond_broadcast(&at->changed);
    (void) pthread_mutex_unlock(&at->lock);
}

static void until_waiting(gate *at, unsigned wanted)
{
    (void) pthread_mutex_lock(&at->lock);
    while (at->waiting < wanted)
        (void) pthread_cond_wait(&at->changed, &at->lock);
    (void) pthread_mutex_unlock(&at->lock);
}

static int gated_sync(void *context)
{
    pass(&syncing);
    return memory_sync(context);
}

static int gated_read(void *context, void *buffer, size_t len, uint64_t offset)
{
    pass(&reading);
    return memory_read(context, buffer, len, offset);
}

static int gated_read_now(void *context, void *buffer, size_t len, uint64_t offset)
{
    (void) pthread_mutex_lock(&reading.lock);
    int closed = reading.closed;
    (void) pthread_mutex_unlock(&reading.lock);
    return closed ? EAGAIN : memory_read(context, buffer, len, offset);
}

/* ---- a client ------------------------------------------------------------------------------------------------------ */

static words spoken;

static void send_words(int to)
{
    CHECK(send(to, spoken.bytes, spoken.len, MSG_NOSIGNAL) == (ssize_t) spoken.len);
    spoken.len = 0;
}

static void receive(int from, uint8_t *bytes, size_t len)
{
    CHECK(recv(from, bytes, len, MSG_WAITALL) == (ssize_t) len);
}

static int client(void)
{
    uint8_t heard_first[18 + 60 + 26];
    int made = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(made, (struct sockaddr *) &address, sizeof address) == 0);
    spoken.len = 0;
    say_hello(&spoken);
    send_words(made);
    receive(made, heard_first, sizeof heard_first);
    return made;
}

/* The next answer is that to this request, and says that it worked. */
static void expect(int from, uint64_t cookie, uint8_t *data, size_t len)
{
    uint8_t answer[ANSWER_BYTES];
    receive(from, answer, sizeof answer);
    CHECK(heard(answer, 4) == 0x67446698 && heard(answer + 4, 4) == 0);
    CHECK(heard(answer + 8, 8) == cookie);
    if (len != 0)
        receive(from, data, len);
}

static void ask(int of, unsigned command, unsigned flags, uint64_t cookie, uint64_t offset, uint32_t len, int fill)
{
    say_request(&spoken, command, flags, cookie, offset, len, fill);
    send_words(of);
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

static void a_flush_does_not_hold_up_what_is_behind_it(void)
{
    uint8_t block[DISK_BLOCK];
    int one = client(), other = client();
    set(&syncing, 1);
    ask(one, CLIENT_WRITE, CLIENT_FUA, 1, 0, DISK_BLOCK, 11);
    until_waiting(&syncing, 1);
    ask(one, CLIENT_FLUSH, 0, 2, 0, 0, 0);
    ask(one, CLIENT_READ, 0, 3, 0, DISK_BLOCK, 0);
    expect(one, 3, block, sizeof block);
    CHECK(block[0] == 11);
    ask(one, CLIENT_WRITE, 0, 4, DISK_BLOCK, DISK_BLOCK, 12);
    expect(one, 4, NULL, 0);
    ask(other, CLIENT_READ, 0, 5, DISK_BLOCK, DISK_BLOCK, 0);
    expect(other, 5, block, sizeof block);
    CHECK(block[0] == 12);
    set(&syncing, 0);
    expect(one, 1, NULL, 0);
    expect(one, 2, NULL, 0);
    (void) close(one);
    (void) close(other);
}

static void slow_reads_do_not_hold_up_what_is_behind_them(void)
{
    uint8_t block[DISK_BLOCK];
    int one = client();
    ask(one, CLIENT_WRITE, 0, 1, 0, DISK_BLOCK, 21);
    expect(one, 1, NULL, 0);
    set(&reading, 1);
    ask(one, CLIENT_READ, 0, 2, 0, DISK_BLOCK, 0);
    ask(one, CLIENT_WRITE, 0, 3, 100, 200, 22);  /* part of a block: what is around it must be read */
    until_waiting(&reading, 2);
    ask(one, CLIENT_WRITE, 0, 4, 4 * DISK_BLOCK, DISK_BLOCK, 23);
    expect(one, 4, NULL, 0);
    ask(one, CLIENT_FLUSH, 0, 5, 0, 0, 0);
    expect(one, 5, NULL, 0);
    ask(one, CLIENT_READ, 0, 6, 8 * DISK_BLOCK, DISK_BLOCK, 0);  /* zeros: known without reading */
    expect(one, 6, block, sizeof block);
    set(&reading, 0);
    uint64_t seen = 0;
    for (int i = 0; i < 2; i++) {
        uint8_t answer[ANSWER_BYTES];
        receive(one, answer, sizeof answer);
        seen += heard(answer + 8, 8);
        if (heard(answer + 8, 8) == 2)
            receive(one, block, sizeof block);
    }
    CHECK(seen == 5);
    ask(one, CLIENT_READ, 0, 7, 0, DISK_BLOCK, 0);
    expect(one, 7, block, sizeof block);
    CHECK(block[99] == 21 && block[100] == 22 && block[299] == 22 && block[300] == 21);
    (void) close(one);
}

static void a_flush_on_one_connection_covers_what_was_answered_on_another(void)
{
    static const tccp_disk_key key = {.bytes = {7}};
    uint8_t block[DISK_BLOCK];
    int one = client(), other = client();
    ask(one, CLIENT_WRITE, 0, 1, 16 * DISK_BLOCK, DISK_BLOCK, 31);
    expect(one, 1, NULL, 0);
    ask(other, CLIENT_FLUSH, 0, 2, 0, 0, 0);
    expect(other, 2, NULL, 0);

    disk_io io = {.context = &file, .read = memory_read, .write = memory_write, .sync = memory_sync,
                  .punch = memory_punch, .cut = memory_cut, .size = memory_size};
    tccp_disk *after_a_crash = NULL;
    CHECK(disk_open_io(&io, &key, NULL, NULL, 1, &after_a_crash) == TCCP_OK);
    CHECK(tccp_disk_read(after_a_crash, 16 * DISK_BLOCK, sizeof block, block) == TCCP_OK && block[0] == 31);
    tccp_disk_free(after_a_crash);
    (void) close(one);
    (void) close(other);
}

/* More than the crew takes: the rest is answered by the connection's own thread, and nothing is lost. */
static void a_flood_of_flushes_and_odd_writes_is_answered_whole(void)
{
    enum { REQUESTS = 2000 };
    static uint8_t seen[REQUESTS];
    int one = client();
    for (unsigned i = 0; i < REQUESTS; i++) {
        unsigned command = i % 3 == 0 ? CLIENT_FLUSH : CLIENT_WRITE;
        say_request(&spoken, command, i % 3 == 2, i, command == CLIENT_FLUSH ? 0 : i * 100,
                    command == CLIENT_FLUSH ? 0 : 100, (int) i);
        if (i % 100 == 99)
            send_words(one);
    }
    send_words(one);
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint8_t answer[ANSWER_BYTES];
        receive(one, answer, sizeof answer);
        CHECK(heard(answer + 4, 4) == 0 && heard(answer + 8, 8) < REQUESTS);
        seen[heard(answer + 8, 8) % REQUESTS]++;
    }
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint8_t bytes[100];
        CHECK(seen[i] == 1);
        if (i % 3 != 0)
            CHECK(tccp_disk_read(disk, i * 100, 100, bytes) == TCCP_OK && bytes[0] == (uint8_t) i &&
                  bytes[99] == (uint8_t) i);
    }
    (void) close(one);
}

static void a_client_that_goes_while_others_wait_for_it_ends_alone(void)
{
    uint8_t block[DISK_BLOCK];
    int one = client(), other = client();
    set(&syncing, 1);
    ask(one, CLIENT_WRITE, CLIENT_FUA, 1, 0, DISK_BLOCK, 41);
    until_waiting(&syncing, 1);
    (void) close(one);
    ask(other, CLIENT_READ, 0, 2, 0, DISK_BLOCK, 0);
    expect(other, 2, block, sizeof block);
    CHECK(block[0] == 41);
    set(&syncing, 0);
    (void) close(other);
}

static void *serve(void *argument)
{
    CHECK(tccp_nbd_serve(disk, listener, (int) (intptr_t) argument) == TCCP_OK);
    return NULL;
}

int main(void)
{
    int stop[2];
    pthread_t server;
    disk = memory_disk(&file, SIZE);
    disk->io.sync = gated_sync;
    disk->io.read = gated_read;
    disk->io.read_now = gated_read_now;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (pipe(stop) != 0 || bind(listener, (struct sockaddr *) &address, sizeof address) != 0 ||
        listen(listener, 8) != 0 || pthread_create(&server, NULL, serve, (void *) (intptr_t) stop[0]) != 0)
        return 1;
    a_flush_does_not_hold_up_what_is_behind_it();
    slow_reads_do_not_hold_up_what_is_behind_them();
    a_flush_on_one_connection_covers_what_was_answered_on_another();
    a_flood_of_flushes_and_odd_writes_is_answered_whole();
    a_client_that_goes_while_others_wait_for_it_ends_alone();
    if (write(stop[1], "", 1) != 1)
        return 1;
    (void) pthread_join(server, NULL);
    tccp_disk_free(disk);
    memory_free(&file);
    (void) close(listener);
    return failures != 0;
}
