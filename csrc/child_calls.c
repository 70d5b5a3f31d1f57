/* child_calls.c: a child has threads and no children: nothing that it has started is left when it is killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

/* The flags of clone fit into these 32 bits, on little-endian machines. */
enum { LOWER_HALF_OF_FIRST_ARGUMENT = offsetof(struct seccomp_data, args) };

#define X32_CALLS 0x40000000U /* the calls of x86-64 once more, under other numbers */

static size_t refuse_if(struct sock_filter *code, size_t len, unsigned number, unsigned error)
{
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    return len;
}

size_t tccp_filter_processes(struct sock_filter *code, size_t len)
{
    code[len++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TCCP_AUDIT_ARCH, 1, 0);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_CALLS, 0, 1);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    len = refuse_if(code, len, __NR_fork, EPERM);
    len = refuse_if(code, len, __NR_vfork, EPERM);
#endif
    /* Its flags are in memory, where no filter sees them; the C library goes on to clone, as on an older kernel. */
    len = refuse_if(code, len, __NR_clone3, ENOSYS);
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 4);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOWER_HALF_OF_FIRST_ARGUMENT);
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    return len;
}

int tccp_install_filter(struct sock_filter *code, size_t len)
{
    if (TCCP_AUDIT_ARCH == 0) {
        errno = ENOTSUP;
        return -1;
    }
    struct sock_fprog program = {.len = (unsigned short) len, .filter = code};
    /* All threads: none of them has been given a reason to keep more. */
    return (int) syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

int tccp_forbid_processes(void)
{
    struct sock_filter code[TCCP_FILTER_PROCESSES_MAX + 1];
    size_t len = tccp_filter_processes(code, 0);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return tccp_install_filter(code, len);
}
