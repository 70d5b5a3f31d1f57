/* child.c: a program started as somebody who can do less than we. Between fork and exec only system calls are made. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

enum { FIRST_DESCRIPTOR = 3 };

/* What the child reports through a pipe that closes when it executes; all of it zero when it has. */
typedef struct failure {
    int step;
    int error;
} failure;

static int limit(int which, uint64_t value)
{
    struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit((__rlimit_resource_t) which, &both);
}

static int limit_all(const tccp_child *child)
{
    struct rlimit locked, core;
    /* One byte, not none: that alone keeps the kernel from piping the memory to a core_pattern's program, too. */
    if (getrlimit(RLIMIT_CORE, &core) != 0 || limit(RLIMIT_CORE, core.rlim_max == 0 ? 0 : 1) != 0 || limit(RLIMIT_FSIZE, child->file_bytes_max) != 0 ||
        limit(RLIMIT_NOFILE, child->files_max) != 0 || limit(RLIMIT_AS, child->memory_bytes_max) != 0 ||
        (child->user != TCCP_CHILD_SAME_USER && limit(RLIMIT_NPROC, child->tasks_max) != 0) || getrlimit(RLIMIT_MEMLOCK, &locked) != 0)
        return -1;
    locked.rlim_cur = locked.rlim_max; /* as much as we may lock */
    return setrlimit(RLIMIT_MEMLOCK, &locked);
}

static int become(uint32_t user, uint32_t extra_group)
{
    if (user == TCCP_CHILD_SAME_USER)
        return 0;
    gid_t groups[1] = {extra_group};
    size_t count = extra_group == TCCP_CHILD_NO_GROUP ? 0 : 1;
    if (setgroups(count, groups) != 0 || setresgid(user, user, user) != 0)
        return -1;
    return setresuid(user, user, user);
}

/* An empty network of its own. The user namespace is what lets somebody without privileges have one; nobody is mapped
 * into it, so that not even its own files give it a capability. */
static int leave_network(void) { return unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS); }

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return -1;
    return (int) syscall(SYS_capset, &header, none);
}

/* All that a child has no use for; 0, or the step that failed. */
static int give_up(uint32_t user, uint32_t extra_group, int starts_processes)
{
    if (become(user, extra_group) != 0)
        return TCCP_CHILD_USER;
    if (leave_network() != 0)
        return TCCP_CHILD_NETWORK;
    if (drop_capabilities() != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        (!starts_processes && tccp_forbid_processes() != 0))
        return TCCP_CHILD_PRIVILEGES;
    return 0;
}

/* The death of the parent kills the child, whatever it does: it cannot block SIGKILL. Last, for a change of
 * credentials forgets it; and the parent may have died before it was set. */
static int die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return -1;
    if (getppid() != parent) {
        errno = ESRCH;
        return -1;
    }
    return 0;
}

/* The descriptors become 3, 4 and so on, output 1 and 2; all others, and the pipe of failures, close on exec. */
static int arrange_descriptors(const tccp_child *child, int null, int *report)
{
    int above = FIRST_DESCRIPTOR + (int) child->descriptor_count, copies[TCCP_CHILD_DESCRIPTORS_MAX];
    for (size_t i = 0; i < child->descriptor_count; i++)
        if ((copies[i] = fcntl(child->descriptors[i], F_DUPFD_CLOEXEC, above)) < 0)
            return -1;
    int output = fcntl(child->output, F_DUPFD_CLOEXEC, above), moved = fcntl(*report, F_DUPFD_CLOEXEC, above);
    int program = fcntl(child->program, F_DUPFD_CLOEXEC, above);
    if (output < 0 || moved < 0 || program < 0)
        return -1;
    *report = moved;
    if (dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        return -1;
    for (size_t i = 0; i < child->descriptor_count; i++)
        if (dup2(copies[i], FIRST_DESCRIPTOR + (int) i) < 0)
            return -1;
    if (syscall(SYS_close_range, above, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */) != 0)
        return -1;
    return program;
}

static int reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void) signal(number, SIG_DFL); /* two numbers are the C library's own, and refused */
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void run(const tccp_child *child, pid_t parent, int report)
{
    failure why = {.step = TCCP_CHILD_START};
    int program, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || setsid() < 0 || chdir("/") != 0)
        goto failed;
    umask(022); /* the one folder that any of them writes to is closed to others */
    why.step = TCCP_CHILD_LIMITS;
    if (limit_all(child) != 0)
        goto failed;
    if (!child->keeps_privileges &&
        (why.step = give_up(child->user, child->extra_group, child->starts_processes)) != 0)
        goto failed;
    why.step = TCCP_CHILD_FILES;
    if (tccp_landlock(child) != 0)
        goto failed;
    why.step = TCCP_CHILD_START;
    if ((program = arrange_descriptors(child, null, &report)) < 0 || reset_signals() != 0 || die_with(parent) != 0)
        goto failed;
    why.step = TCCP_CHILD_EXECUTE;
    (void) syscall(SYS_execveat, program, "", child->arguments, child->environment, AT_EMPTY_PATH);
failed:
    why.error = errno;
    (void) !write(report, &why, sizeof why);
    _exit(127);
}

tccp_status tccp_child_start(const tccp_child *child, int *ret_pid, int *ret_pidfd, int *ret_step)
{
    if (child == NULL || child->arguments == NULL || child->environment == NULL || ret_pid == NULL ||
        ret_pidfd == NULL || ret_step == NULL || child->descriptor_count > TCCP_CHILD_DESCRIPTORS_MAX)
        return TCCP_ERR_USAGE;
    int report[2];
    failure why = {0};
    if (pipe2(report, O_CLOEXEC) != 0)
        return TCCP_ERR_IO;
    pid_t parent = getpid(), pid;
    sigset_t all, before;
    sigfillset(&all);
    /* No handler of ours may run in the child; it puts the mask right before it executes. */
    (void) sigprocmask(SIG_SETMASK, &all, &before);
    if ((pid = fork()) == 0)
        run(child, parent, report[1]);
    int error = errno;
    (void) sigprocmask(SIG_SETMASK, &before, NULL);
    (void) close(report[1]);
    if (pid < 0) {
        (void) close(report[0]);
        errno = error;
        *ret_step = TCCP_CHILD_START;
        return TCCP_ERR_IO;
    }
    ssize_t got;
    do
        got = read(report[0], &why, sizeof why);
    while (got < 0 && errno == EINTR);
    (void) close(report[0]);
    int pidfd = got == 0 ? (int) syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0) {
        error = got == (ssize_t) sizeof why ? why.error : errno;
        (void) kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        errno = error;
        *ret_step = why.step != 0 ? why.step : TCCP_CHILD_START;
        return TCCP_ERR_IO;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return TCCP_OK;
}

tccp_status tccp_child_give_up(uint32_t user, int parent, int *ret_step)
{
    if (ret_step == NULL)
        return TCCP_ERR_USAGE;
    int step = give_up(user, TCCP_CHILD_NO_GROUP, 0);
    if (step == 0 && die_with(parent) != 0)
        step = TCCP_CHILD_START;
    *ret_step = step;
    return step == 0 ? TCCP_OK : TCCP_ERR_IO;
}
