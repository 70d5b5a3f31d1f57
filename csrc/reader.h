/* reader.h: a cursor over foreign bytes that cannot overrun.
 *
 * A read past the end returns 0 or NULL and marks the reader failed for good, so that a parser has the shape of
 * the specification and asks once, at the end, whether everything was there. TPM structures are big-endian,
 * event logs little-endian.
 */
#ifndef TCCP_READER_H
#define TCCP_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
} reader;

static inline reader reader_of(const uint8_t *bytes, size_t len)
{
    return (reader){.at = bytes, .left = len, .failed = false};
}

/* The next len bytes, or NULL; never NULL when len is 0 and the reader has not failed over real bytes. */
static inline const uint8_t *read_bytes(reader *in, size_t len)
{
    if (in->failed || len > in->left) {
        in->failed = true;
        in->left = 0;
        return NULL;
    }
    const uint8_t *bytes = in->at;
    in->at += len;
    in->left -= len;
    return bytes;
}

static inline uint64_t read_uint_be(reader *in, size_t width)
{
    const uint8_t *bytes = read_bytes(in, width);
    uint64_t value = 0;
    for (size_t i = 0; bytes != NULL && i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

static inline uint64_t read_uint_le(reader *in, size_t width)
{
    const uint8_t *bytes = read_bytes(in, width);
    uint64_t value = 0;
    for (size_t i = width; bytes != NULL && i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

/* A TPM2B: two bytes of size, then that many bytes. *ret_len is 0 when the reader has failed. */
static inline const uint8_t *read_tpm2b(reader *in, size_t *ret_len)
{
    size_t len = (size_t) read_uint_be(in, 2);
    const uint8_t *bytes = read_bytes(in, len);
    *ret_len = bytes == NULL ? 0 : len;
    return bytes;
}

/* Everything was there and nothing is left over. */
static inline bool reader_finished(const reader *in)
{
    return !in->failed && in->left == 0;
}

#endif /* TCCP_READER_H */
