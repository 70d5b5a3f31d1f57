/* tccp_process.h: this process, children that can do less than we, and the keeper that ends them in time.
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_PROCESS_H
#define TCCP_TCCP_PROCESS_H

#include "tccp_status.h"

/* [cffi */

/* ---- this process (process.c) ---------------------------------------------------------------------------------- */

/* Before it reads a key: no core dumps, no debugger of the same user, no privileges by executing. For good, and for
 * what it starts but for being dumpable, which executing gives back. TCCP_ERR_IO with errno. */
TCCP_MUST_USE tccp_status tccp_process_harden(void);

/* ---- children (child.c) ---------------------------------------------------------------------------------------- */

#define TCCP_CHILD_DESCRIPTORS_MAX 64
#define TCCP_CHILD_SAME_USER 0xFFFFFFFF
#define TCCP_CHILD_NO_GROUP 0xFFFFFFFF

/* A program to start as a child, and what it may do. In any case it is in a session of its own, leaves no core file, and
 * is killed when the thread that started it ends. It has no capabilities and can never get more privileges; it has
 * namespaces of its own for users, network, IPC and host name, all empty; and it starts threads, but no process, so that
 * nothing is left of it when it is killed. */
typedef struct tccp_child {
    int program;                    /* descriptor of an executable file; one that the child cannot read makes the child
                                       undumpable: neither debuggers nor /proc/PID/mem are for its own user then */
    const char *const *arguments;   /* with the program's name first, NULL at the end */
    const char *const *environment; /* "NAME=value", NULL at the end */
    const int *descriptors;         /* they become 3, 4 ... in the child, in this order; it has no others but 0, 1, 2 */
    size_t descriptor_count;
    int output;                     /* becomes 1 and 2; 0 is /dev/null */
    uint32_t user;                  /* or TCCP_CHILD_SAME_USER: then the groups stay, too */
    uint32_t extra_group;           /* beside the group with the number of the user, or TCCP_CHILD_NO_GROUP */
    uint64_t file_bytes_max;        /* RLIMIT_FSIZE */
    uint64_t files_max;             /* RLIMIT_NOFILE */
    uint64_t memory_bytes_max;      /* RLIMIT_AS */
    uint64_t tasks_max;             /* RLIMIT_NPROC, all of its user's together; not for the same user */
    int starts_processes;           /* not 0: it may, and who kills it kills it alone */
    int keeps_privileges;           /* not 0: until it calls tccp_child_give_up; `user` is of no account then */
    const char *const *readable;    /* files and folders that it may read and execute; NULL: what its user may */
    const char *const *writable;    /* ... and change: plain files, where it is a folder; only beside readable */
} tccp_child;

/* Where starting a child failed. */
typedef enum tccp_child_step {
    TCCP_CHILD_START = 1,
    TCCP_CHILD_LIMITS = 2,
    TCCP_CHILD_USER = 3,
    TCCP_CHILD_NETWORK = 4,
    TCCP_CHILD_PRIVILEGES = 5,
    TCCP_CHILD_FILES = 6,
    TCCP_CHILD_EXECUTE = 7
} tccp_child_step;

/* Start a child; on return it executes its program. The caller waits for ret_pid and closes ret_pidfd.
 * TCCP_ERR_IO with errno and *ret_step: nothing was started. */
TCCP_MUST_USE tccp_status tccp_child_start(const tccp_child *child, int *ret_pid, int *ret_pidfd, int *ret_step);

/* In a child that kept its privileges to start with: become `user`, leave all namespaces and privileges behind, and be
 * killed when `parent`, whose child this is, ends. For good. Before there is a second thread. */
TCCP_MUST_USE tccp_status tccp_child_give_up(uint32_t user, int parent, int *ret_step);

/* ---- the keeper (keeper.c) -------------------------------------------------------------------------------------- */

#define TCCP_KEEPER_GUARDED_MAX 8192

/* End processes when their time is over, or when whoever gave it has gone. Returns, when all of them are killed, once
 * the other end of *control*, a SOCK_SEQPACKET socket, is closed, takes no answer, or says something else than
 *
 *     8 bytes                     the deadline for all of them: nanoseconds of CLOCK_BOOTTIME; said again in answer
 *     8 bytes and a descriptor    of a process (pidfd) that is guarded until it has ended
 *
 * Before the first deadline, and after one has passed, whatever is handed over is killed at once; so is one too many.
 * Keeps of its privileges the one to kill, for good. TCCP_ERR_IO with errno: it could not begin. */
TCCP_MUST_USE tccp_status tccp_keeper_run(int control);

/* cffi] */

#endif /* TCCP_TCCP_PROCESS_H */
