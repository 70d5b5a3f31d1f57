/* nbd_client.h: the words of an NBD client, for tests. */
#ifndef NBD_CLIENT_H
#define NBD_CLIENT_H

#include <stdint.h>
#include <string.h>

enum { CLIENT_READ = 0, CLIENT_WRITE = 1, CLIENT_DISCONNECT = 2, CLIENT_FLUSH = 3, CLIENT_TRIM = 4, CLIENT_ZEROES = 6,
       CLIENT_STATUS = 7, CLIENT_FUA = 1 };

/* What is about to be sent. */
typedef struct words {
    uint8_t bytes[1 << 20];
    size_t len;
} words;

static inline void say(words *to, uint64_t value, unsigned width)
{
    for (unsigned i = width; i > 0; i--)
        to->bytes[to->len++] = (uint8_t) (value >> (8 * (i - 1)));
}

static inline void say_option(words *to, uint32_t option, const void *data, uint32_t len)
{
    say(to, 0x49484156454f5054, 8);
    say(to, option, 4);
    say(to, len, 4);
    if (len != 0)
        memcpy(to->bytes + to->len, data, len);
    to->len += len;
}

/* Fixed newstyle, no zeroes, and the export without a name. */
static inline void say_hello(words *to)
{
    say(to, 3, 4);
    say_option(to, 7, "\0\0\0\0\0\0", 6);
}

static inline void say_request(words *to, unsigned command, unsigned flags, uint64_t cookie, uint64_t offset,
                               uint32_t len, int fill)
{
    say(to, 0x25609513, 4);
    say(to, flags, 2);
    say(to, command, 2);
    say(to, cookie, 8);
    say(to, offset, 8);
    say(to, len, 4);
    if (command == CLIENT_WRITE) {
        memset(to->bytes + to->len, fill, len);
        to->len += len;
    }
}

static inline uint64_t heard(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

#endif /* NBD_CLIENT_H */
