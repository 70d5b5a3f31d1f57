/* disk_process.c: what the process of a disk gives up before it serves anybody. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

/* Of ioctl only what Python makes sockets wait or not wait with; others would reach the terminal that started us. */
static const unsigned allowed_ioctls[] = {FIONBIO, FIOCLEX};

/* What serving and ending need beside threads: files and sockets that are open already, memory. No opening, connecting,
 * executing, tracing, and nothing about other processes; unlink is for the socket's name at the end. */
static const unsigned allowed[] = {
    __NR_read, __NR_write, __NR_pread64, __NR_preadv2, __NR_pwrite64, __NR_writev, __NR_lseek, __NR_close, __NR_fstat,
    __NR_newfstatat, __NR_fdatasync, __NR_fallocate, __NR_ftruncate, __NR_unlinkat,
    __NR_accept4, __NR_recvfrom, __NR_sendto, __NR_shutdown, __NR_setsockopt, __NR_ppoll,
    __NR_mmap, __NR_munmap, __NR_mremap, __NR_mprotect, __NR_madvise, __NR_mlock, __NR_munlock, __NR_brk,
    __NR_set_robust_list, __NR_rseq, __NR_futex, __NR_sched_yield, __NR_sched_getaffinity,
    __NR_rt_sigprocmask, __NR_rt_sigaction, __NR_rt_sigreturn, __NR_sigaltstack, __NR_getpid, __NR_gettid,
    __NR_getrandom, __NR_clock_gettime, __NR_restart_syscall, __NR_exit, __NR_exit_group,
#if defined(__x86_64__)
    __NR_poll, __NR_unlink,
#endif
};

/* The kernel looks at no more of an ioctl's number than these 32 bits, on little-endian machines. */
enum { LOWER_HALF_OF_SECOND_ARGUMENT = offsetof(struct seccomp_data, args) + sizeof(uint64_t) };

static size_t allow_if(struct sock_filter *code, size_t len, unsigned number)
{
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return len;
}

tccp_status tccp_disk_process_confine(void)
{
    enum { COUNT = sizeof allowed / sizeof allowed[0], IOCTLS = sizeof allowed_ioctls / sizeof allowed_ioctls[0] };
    struct sock_filter code[TCCP_FILTER_PROCESSES_MAX + 2 * COUNT + 2 + 2 * IOCTLS + 1];
    if (TCCP_AUDIT_ARCH == 0)
        return TCCP_ERR_UNSUPPORTED;
    size_t len = tccp_filter_processes(code, 0);
    for (size_t i = 0; i < COUNT; i++)
        len = allow_if(code, len, allowed[i]);
    code[len++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 1 + 2 * IOCTLS);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOWER_HALF_OF_SECOND_ARGUMENT);
    for (size_t i = 0; i < IOCTLS; i++)
        len = allow_if(code, len, allowed_ioctls[i]);
    code[len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    return tccp_install_filter(code, len) == 0 ? TCCP_OK : TCCP_ERR_IO;
}
