/* keeper.c: what ends processes in time when those who should do it hang. One thread, no memory asked for, no files. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tccp.h"

enum { CONTROL, TIMER, FIRST_GUARDED, ENTRIES_MAX = FIRST_GUARDED + TCCP_KEEPER_GUARDED_MAX };

/* One entry for each process that is guarded, behind those of the control socket and the clock. */
typedef struct keeper {
    struct pollfd entries[ENTRIES_MAX];
    nfds_t count;
    uint64_t deadline_ns; /* CLOCK_BOOTTIME; 0 is in the past: who has no time at all is ended at once */
} keeper;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

static void end_process(int pidfd)
{
    (void) syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    (void) close(pidfd);
}

static void end_all(keeper *all)
{
    /* Signals first: closing can wait. */
    for (nfds_t i = FIRST_GUARDED; i < all->count; i++)
        (void) syscall(SYS_pidfd_send_signal, all->entries[i].fd, SIGKILL, NULL, 0);
    for (nfds_t i = FIRST_GUARDED; i < all->count; i++)
        (void) close(all->entries[i].fd);
    all->count = FIRST_GUARDED;
}

static void guard(keeper *all, int pidfd)
{
    if (all->count == ENTRIES_MAX || all->deadline_ns <= now_ns())
        end_process(pidfd);
    else
        all->entries[all->count++] = (struct pollfd){.fd = pidfd, .events = POLLIN};
}

static bool set_deadline(keeper *all, uint64_t deadline_ns)
{
    struct itimerspec at = {0};
    all->deadline_ns = deadline_ns;
    at.it_value.tv_sec = (time_t) (deadline_ns / 1000000000);
    at.it_value.tv_nsec = deadline_ns == 0 ? 1 : (long) (deadline_ns % 1000000000); /* zero would disarm it */
    return timerfd_settime(all->entries[TIMER].fd, TFD_TIMER_ABSTIME, &at, NULL) == 0;
}

/* One message; false when there is nobody any more, or it is none of ours. */
static bool take_message(keeper *all)
{
    uint64_t body = 0;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = &body, .iov_len = sizeof body};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(all->entries[CONTROL].fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    if (got != (ssize_t) sizeof body || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return false;
    struct cmsghdr *extra = CMSG_FIRSTHDR(&message);
    /* Who does not take its answers is nobody to wait for: the time of others goes on. */
    if (extra == NULL)
        return set_deadline(all, body) &&
               send(all->entries[CONTROL].fd, &body, sizeof body, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
    if (extra->cmsg_level != SOL_SOCKET || extra->cmsg_type != SCM_RIGHTS || extra->cmsg_len != CMSG_LEN(sizeof(int)))
        return false; /* there is room for a second descriptor, and it would be one that nobody guards */
    int pidfd;
    memcpy(&pidfd, CMSG_DATA(extra), sizeof pidfd);
    guard(all, pidfd);
    return true;
}

/* The ones that have ended are guarded no longer. */
static void drop_ended(keeper *all)
{
    for (nfds_t i = FIRST_GUARDED; i < all->count;) {
        if (all->entries[i].revents == 0) {
            i++;
            continue;
        }
        (void) close(all->entries[i].fd);
        all->entries[i] = all->entries[--all->count];
    }
}

/* Nothing but the right to end what others run, if we have it. */
static int keep_one_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[2], kept[2] = {{0}};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || syscall(SYS_capget, &header, held) != 0)
        return -1;
    kept[0].permitted = kept[0].effective = held[0].permitted & (1U << CAP_KILL);
    if (syscall(SYS_capset, &header, kept) != 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

tccp_status tccp_keeper_run(int control)
{
    static keeper all; /* large, and there is one of us */
    all.entries[CONTROL] = (struct pollfd){.fd = control, .events = POLLIN};
    all.entries[TIMER] = (struct pollfd){.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC), .events = POLLIN};
    all.count = FIRST_GUARDED;
    if (all.entries[TIMER].fd < 0 || keep_one_capability() != 0)
        return TCCP_ERR_IO;
    (void) mlockall(MCL_CURRENT); /* where the limit allows it: a host without memory must not keep us from our work */
    for (;;) {
        if (poll(all.entries, all.count, -1) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (all.entries[TIMER].revents != 0 && all.deadline_ns <= now_ns()) {
            uint64_t expirations;
            (void) !read(all.entries[TIMER].fd, &expirations, sizeof expirations);
            end_all(&all);
        }
        drop_ended(&all);
        if (all.entries[CONTROL].revents != 0 && !take_message(&all))
            break;
    }
    end_all(&all);
    (void) close(all.entries[TIMER].fd);
    return TCCP_OK;
}
