/* digits.h: numbers in digits of 52 bits, least significant first: what AVX-512 IFMA multiplies. */
#ifndef TCCP_DIGITS_H
#define TCCP_DIGITS_H

#include <stddef.h>
#include <stdint.h>

/* Whether code for AVX-512 IFMA is compiled in; whether it may run is tccp_lanes_available's to say. */
#if defined(__x86_64__) && !defined(TCCP_NO_LANES)
#define TCCP_HAVE_LANES 1
#endif

enum { DIGIT_BITS = 52 };

#define DIGIT_MASK ((1ull << DIGIT_BITS) - 1)

/* The first count digits of len bytes, most significant byte first; each stride words behind the one before. */
static inline void digits_from_bytes(const uint8_t *bytes, size_t len, uint64_t *ret_digits, size_t stride,
                                     size_t count)
{
    uint64_t window = 0;
    unsigned int have = 0;
    for (size_t i = 0; i < count; i++) {
        for (; have < DIGIT_BITS && len > 0; have += 8)
            window |= (uint64_t) bytes[--len] << have;
        ret_digits[i * stride] = window & DIGIT_MASK;
        window >>= DIGIT_BITS;
        have = have > DIGIT_BITS ? have - DIGIT_BITS : 0;
    }
}

#endif /* TCCP_DIGITS_H */
