/* p256_order.c: numbers modulo the order of P-256. */
#include "p256_order.h"

#ifdef TCCP_HAVE_LANES /* with 64-bit words, then, and products of 128 bits */

#include <stdbool.h>
#include <stddef.h>

typedef unsigned __int128 twice;

/* SEC 2, 2.4.2. */
static const scalar order = {{0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000}};

/* 2^512 modulo the order, and -1 / order modulo 2^64. */
static const scalar montgomery_square = {{0x83244c95be79eea2, 0x4699799c49bd6fa6, 0x2845b2392b6bec59, 0x66e12d94f3d95620}};
static const uint64_t montgomery_inverse = 0xccd1c8aaee00bc4f;

scalar scalar_of(const uint8_t bytes[32])
{
    scalar result = {{0}};
    for (size_t i = 0; i < 32; i++)
        result.at[3 - i / 8] = result.at[3 - i / 8] << 8 | bytes[i];
    return result;
}

/* a - b; the borrow tells whether a is less. */
static scalar difference(const scalar *a, const scalar *b, uint64_t *ret_borrow)
{
    scalar result;
    uint64_t borrow = 0;
#pragma GCC unroll 4
    for (int i = 0; i < P256_WORDS; i++) {
        const twice word = (twice) a->at[i] - b->at[i] - borrow;
        result.at[i] = (uint64_t) word;
        borrow = (uint64_t) (word >> 64) & 1;
    }
    *ret_borrow = borrow;
    return result;
}

/* a + b; the carry is its bit 256. */
static scalar plain_sum(const scalar *a, const scalar *b, uint64_t *ret_carry)
{
    scalar result;
    twice carry = 0;
#pragma GCC unroll 4
    for (int i = 0; i < P256_WORDS; i++) {
        carry += (twice) a->at[i] + b->at[i];
        result.at[i] = (uint64_t) carry;
        carry >>= 64;
    }
    *ret_carry = (uint64_t) carry;
    return result;
}

/* carry 2^256 + a, less than twice the order, made less than the order. */
static scalar reduced(const scalar *a, uint64_t carry)
{
    uint64_t borrow;
    const scalar less = difference(a, &order, &borrow);
    return carry != 0 || borrow == 0 ? less : *a;
}

scalar scalar_sum(const scalar *a, const scalar *b)
{
    uint64_t carry;
    const scalar sum = plain_sum(a, b, &carry);
    return reduced(&sum, carry);
}

/* a * b / 2^256 (Montgomery) */
static scalar montgomery(const scalar *a, const scalar *b)
{
    uint64_t sum[P256_WORDS + 2] = {0};
    for (int i = 0; i < P256_WORDS; i++) {
        twice carry = 0;
#pragma GCC unroll 4
        for (int j = 0; j < P256_WORDS; j++) {
            carry += (twice) a->at[j] * b->at[i] + sum[j];
            sum[j] = (uint64_t) carry;
            carry >>= 64;
        }
        carry += sum[4];
        sum[4] = (uint64_t) carry;
        sum[5] = (uint64_t) (carry >> 64);

        /* So many times the order makes the lowest word zero. */
        const uint64_t times = sum[0] * montgomery_inverse;
        carry = ((twice) times * order.at[0] + sum[0]) >> 64;
#pragma GCC unroll 4
        for (int j = 1; j < P256_WORDS; j++) {
            carry += (twice) times * order.at[j] + sum[j];
            sum[j - 1] = (uint64_t) carry;
            carry >>= 64;
        }
        carry += sum[4];
        sum[3] = (uint64_t) carry;
        sum[4] = sum[5] + (uint64_t) (carry >> 64);
    }
    const scalar result = {{sum[0], sum[1], sum[2], sum[3]}};
    return reduced(&result, sum[4]);
}

scalar scalar_product(const scalar *a, const scalar *b)
{
    const scalar first = montgomery(a, &montgomery_square);
    return montgomery(&first, b);
}

/* carry 2^256 + a, moved down by 1 to 63 bits. */
static scalar shifted(const scalar *a, uint64_t carry, unsigned int bits)
{
    return (scalar){{a->at[0] >> bits | a->at[1] << (64 - bits), a->at[1] >> bits | a->at[2] << (64 - bits),
                     a->at[2] >> bits | a->at[3] << (64 - bits), a->at[3] >> bits | carry << (64 - bits)}};
}

/* a / 2^bits modulo the order, for 1 to 63 bits: so many times the order makes the lowest bits zero. */
static scalar divided(const scalar *a, unsigned int bits)
{
    const uint64_t times = a->at[0] * montgomery_inverse & ((1ull << bits) - 1);
    scalar sum;
    twice carry = 0;
#pragma GCC unroll 4
    for (int i = 0; i < P256_WORDS; i++) {
        carry += (twice) times * order.at[i] + a->at[i];
        sum.at[i] = (uint64_t) carry;
        carry >>= 64;
    }
    return shifted(&sum, (uint64_t) carry, bits);
}

static bool is_zero(const scalar *a)
{
    return (a->at[0] | a->at[1] | a->at[2] | a->at[3]) == 0;
}

/* Stein's algorithm: u = s a and v = t a modulo the order all the time, and v, which is odd, ends as 1. */
scalar scalar_inverse(const scalar *a)
{
    scalar u = *a, v = order, s = {{1}}, t = {{0}};
    while (!is_zero(&u)) {
        if ((u.at[0] & 1) == 0) {
            const unsigned int zeros = u.at[0] == 0 ? 63 : (unsigned int) __builtin_ctzll(u.at[0]);
            u = shifted(&u, 0, zeros);
            s = divided(&s, zeros);
            continue;
        }
        uint64_t borrow, ignored;
        scalar less = difference(&u, &v, &borrow);
        if (borrow != 0) {
            const scalar old_u = u, old_s = s;
            less = difference(&v, &u, &ignored);
            v = old_u;
            s = t;
            t = old_s;
        }
        u = less;
        const scalar apart = difference(&s, &t, &borrow);
        s = borrow != 0 ? plain_sum(&apart, &order, &ignored) : apart;
    }
    return t;
}

#endif
