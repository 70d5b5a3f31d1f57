/* test_nbd_accept.c: a host that has nothing left for another connection does not end the serving of the disk. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "disk_memory.h"

static unsigned failures_left = 2;

static int accept_or_not(int listener, struct sockaddr *address, socklen_t *len, int flags)
{
    static const int errors[] = {ENOMEM, ENOBUFS};
    if (failures_left == 0)
        return accept4(listener, address, len, flags);
    errno = errors[--failures_left];
    return -1;
}

#define accept4 accept_or_not
#include "nbd_server.c"

enum { GREETING_BYTES = 18 };

typedef struct serving {
    tccp_disk *disk;
    int listener, stop;
    tccp_status status;
} serving;

static void *serve(void *argument)
{
    serving *mine = argument;
    mine->status = tccp_nbd_serve(mine->disk, mine->listener, mine->stop);
    (void) close(mine->listener);  /* whoever still waits there waits in vain */
    return NULL;
}

int main(void)
{
    static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0tccp test_nbd_accept"};
    uint8_t greeting[GREETING_BYTES];
    memory_file file;
    int stop[2], client = socket(AF_UNIX, SOCK_STREAM, 0);
    pthread_t thread;
    serving one = {.disk = memory_disk(&file, 1 << 20), .listener = socket(AF_UNIX, SOCK_STREAM, 0)};
    if (pipe(stop) != 0 || bind(one.listener, (struct sockaddr *) &address, sizeof address) != 0 ||
        listen(one.listener, 8) != 0)
        return 1;
    one.stop = stop[0];
    if (pthread_create(&thread, NULL, serve, &one) != 0)
        return 1;
    CHECK(connect(client, (struct sockaddr *) &address, sizeof address) == 0);
    CHECK(recv(client, greeting, sizeof greeting, MSG_WAITALL) == (ssize_t) sizeof greeting);
    CHECK(write(stop[1], "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0 && one.status == TCCP_OK && failures_left == 0);
    (void) close(client), (void) close(stop[0]), (void) close(stop[1]);
    tccp_disk_free(one.disk);
    memory_free(&file);
    return failures != 0;
}
