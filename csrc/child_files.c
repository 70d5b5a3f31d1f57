/* child_files.c: which files a child may touch at all, whoever it is: Landlock (Linux 5.13 and later). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

/* From linux/landlock.h; Debian's header is older than the kernels that we meet. */
#define ACCESS_EXECUTE (1ULL << 0)
#define ACCESS_WRITE_FILE (1ULL << 1)
#define ACCESS_READ_FILE (1ULL << 2)
#define ACCESS_READ_DIR (1ULL << 3)
#define ACCESS_REMOVE_FILE (1ULL << 5)
#define ACCESS_MAKE_REG (1ULL << 8)
#define ACCESS_TRUNCATE (1ULL << 14)
#define ACCESS_IOCTL_DEV (1ULL << 15)
#define ACCESS_ON_FILES (ACCESS_EXECUTE | ACCESS_WRITE_FILE | ACCESS_READ_FILE | ACCESS_TRUNCATE | ACCESS_IOCTL_DEV)
#define CREATE_RULESET_VERSION 1U
#define RULE_PATH_BENEATH 1

struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* TCP bind and connect: version 4 */
    uint64_t scoped;             /* abstract sockets and signals outside: version 6 */
};

struct path_beneath {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

/* Every right over files that version *abi* of Landlock knows of. */
static uint64_t all_rights(int abi)
{
    static const unsigned char rights[] = {0, 13, 14, 15, 15, 16};
    return (1ULL << rights[abi > 5 ? 5 : abi]) - 1;
}

static int allow(int ruleset, const char *path, uint64_t rights)
{
    struct path_beneath rule = {.parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0)
        return errno == ENOENT ? 0 : -1; /* what is not there needs no right */
    struct stat about;
    if (fstat(rule.parent_fd, &about) != 0)
        return -1;
    rule.allowed_access = S_ISDIR(about.st_mode) ? rights : rights & ACCESS_ON_FILES;
    int done = (int) syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
    (void) close(rule.parent_fd);
    return done;
}

int tccp_landlock(const tccp_child *child)
{
    if (child->readable == NULL)
        return 0;
    int abi = (int) syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (abi < 1)
        return -1;
    uint64_t all = all_rights(abi);
    struct ruleset attributes = {.handled_access_fs = all, .handled_access_net = 3, .scoped = 3};
    size_t size = abi >= 6 ? sizeof attributes : abi >= 4 ? 16 : 8;
    int ruleset = (int) syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0)
        return -1;
    const uint64_t reading = ACCESS_EXECUTE | ACCESS_READ_FILE | ACCESS_READ_DIR;
    /* Plain files: no links, pipes or folders for whoever looks in there afterwards. */
    const uint64_t writing = ACCESS_READ_FILE | ACCESS_READ_DIR | ACCESS_WRITE_FILE | ACCESS_REMOVE_FILE | ACCESS_MAKE_REG |
                             ACCESS_TRUNCATE | ACCESS_IOCTL_DEV;
    for (const char *const *path = child->readable; *path != NULL; path++)
        if (allow(ruleset, *path, reading) != 0)
            return -1;
    for (const char *const *path = child->writable; path != NULL && *path != NULL; path++)
        if (allow(ruleset, *path, writing & all) != 0)
            return -1;
    int done = (int) syscall(SYS_landlock_restrict_self, ruleset, 0);
    (void) close(ruleset);
    return done;
}
