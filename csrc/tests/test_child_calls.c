/* test_child_calls.c: no way of starting a process is left, and threads are; each way is shown to work before that. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../child.h"
#include "check.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

static pid_t by_clone(void) { return (pid_t) syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL); }

/* Whose child is not ours but a sister, whom nobody here waits for. */
static pid_t by_clone_as_a_sister(void) { return (pid_t) syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL); }

static pid_t by_clone3(void)
{
    struct clone_args how = {.exit_signal = SIGCHLD};
    return (pid_t) syscall(SYS_clone3, &how, sizeof how);
}

#if defined(__x86_64__)
static pid_t by_fork(void) { return (pid_t) syscall(SYS_fork); }

static pid_t by_x32(void) { return (pid_t) syscall(0x40000000 | SYS_fork); }

/* By its number alone: what would share this stack must not return from here. */
static pid_t by_vfork(void)
{
    pid_t pid;
    __asm__ volatile("syscall\n\ttest %%eax, %%eax\n\tjnz 1f\n\tmov %2, %%eax\n\txor %%edi, %%edi\n\tsyscall\n1:"
                     : "=a"(pid)
                     : "0"(SYS_vfork), "i"(SYS_exit_group)
                     : "rcx", "r11", "rdi", "memory");
    if (pid < 0) {
        errno = -pid;
        return -1;
    }
    return pid;
}
#endif

typedef struct way {
    pid_t (*start)(void);
    int refused_with;
    int works_before;
} way;

static const way ways[] = {
    {by_clone, EPERM, 1}, {by_clone_as_a_sister, EPERM, 1}, {by_clone3, ENOSYS, 1},
#if defined(__x86_64__)
    {by_fork, EPERM, 1}, {by_vfork, EPERM, 1}, {by_x32, ENOSYS, 0}, /* few kernels have those calls */
#endif
};

/* Whether a process came of it. */
static int starts(const way *one)
{
    pid_t pid = one->start();
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        (void) waitpid(pid, NULL, 0);
    return pid > 0;
}

static void *nothing(void *context) { return context; }

/* In a process of its own, for there is no way back. */
static int what_is_left(void)
{
    pthread_t thread;
    void *said = NULL;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && tccp_forbid_processes() == 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        errno = 0;
        CHECK(!starts(&ways[i]) && errno == ways[i].refused_with);
    }
    CHECK(pthread_create(&thread, NULL, nothing, &said) == 0 && pthread_join(thread, &said) == 0 && said == &said);
    return failures != 0;
}

int main(void)
{
    int status = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        CHECK(starts(&ways[i]) || !ways[i].works_before);
    pid_t pid = fork();
    if (pid == 0)
        _exit(what_is_left());
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    return failures != 0;
}
