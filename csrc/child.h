/* child.h: what the parts of starting a child share. */
#ifndef TCCP_CHILD_H
#define TCCP_CHILD_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <stddef.h>

#include "tccp.h"

#if defined(__x86_64__)
#define TCCP_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define TCCP_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#define TCCP_AUDIT_ARCH 0 /* nobody has written down which of its calls are which: no filter can be had */
#endif

enum { TCCP_FILTER_PROCESSES_MAX = 20 };

/* Confine this thread to the files that the child is granted; 0, or -1 with errno. Only system calls. */
int tccp_landlock(const tccp_child *child);

/* From here on this process has threads and starts no process; 0, or -1 with errno. Only system calls; for somebody who
 * can get no more privileges. */
int tccp_forbid_processes(void);

/* The beginning of a filter that sees to that, TCCP_FILTER_PROCESSES_MAX at most, behind the first *len*; returns how long
 * the code is then. What it lets by has the number of its call loaded. */
size_t tccp_filter_processes(struct sock_filter *code, size_t len);

/* 0, or -1 with errno. */
int tccp_install_filter(struct sock_filter *code, size_t len);

#endif
