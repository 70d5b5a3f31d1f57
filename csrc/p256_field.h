/* p256_field.h: eight numbers modulo the prime of P-256 at once, with AVX-512 IFMA; for p256.c alone.
 *
 * p = 2^256 - 2^224 + 2^192 + 2^96 - 1 (SEC 2, 2.4.2). A number is five digits of 52 bits, and eight of them, one in each
 * lane of the vectors, are a field. Products are Montgomery's: with R = 2^260, a * b means a * b / R.
 *
 * Nothing is reduced further than it must be. Writing bounds as multiples of p: what field_settle and the products below
 * return is between zero and 2.01, and a product of numbers below A and B, or a sum of such products, is below
 * 1 + (A * B + ...) / 16, because p / R < 1 / 16. Numbers below 16 fit into five digits.
 */
#ifndef TCCP_P256_FIELD_H
#define TCCP_P256_FIELD_H

#include <immintrin.h>

#include "digits.h"

#define WITH_IFMA __attribute__((target("avx512f,avx512ifma")))
#define INLINE_IFMA static inline __attribute__((always_inline)) WITH_IFMA

enum { P256_DIGITS = 5, P256_LANES = 8 };

/* Without -mavx512f the compiler would not know by itself how such a vector is aligned. */
typedef struct field {
    _Alignas(64) __m512i at[P256_DIGITS];
} field;

static const uint64_t p256_prime[P256_DIGITS] = {0xfffffffffffff, 0x00fffffffffff, 0, 0x0001000000000, 0x0ffffffff0000};
static const uint64_t p256_prime_twice[P256_DIGITS] = {0xffffffffffffe, 0x01fffffffffff, 0x0000000000000, 0x0002000000000, 0x1fffffffe0000};
static const uint64_t p256_one[P256_DIGITS] = {0x0000000000010, 0xf000000000000, 0xfffffffffffff, 0xffeffffffffff, 0x00000000fffff}; /* R modulo p */
static const uint64_t p256_square[P256_DIGITS] = {0x0000000000300, 0xffffffff00000, 0xffffefffffffb, 0xfdfffffffffff, 0x0000004ffffff}; /* R^2 modulo p */

/* The same number in each lane. */
INLINE_IFMA field field_of(const uint64_t digits[P256_DIGITS])
{
    field result;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_set1_epi64((long long) digits[i]);
    return result;
}

/* a + b and a - b, digit by digit: sums to be settled. */
INLINE_IFMA field field_sum(const field *a, const field *b)
{
    field result;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_add_epi64(a->at[i], b->at[i]);
    return result;
}

INLINE_IFMA field field_difference(const field *a, const field *b)
{
    field result;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_sub_epi64(a->at[i], b->at[i]);
    return result;
}

INLINE_IFMA field field_triple(const field *a)
{
    const field twice = field_sum(a, a);
    return field_sum(&twice, a);
}

/* The same number in digits again: signed carries go up. The number is not negative and below 2^260. */
INLINE_IFMA field field_carried(const field *a)
{
    const __m512i mask = _mm512_set1_epi64((long long) DIGIT_MASK);
    field result;
    __m512i carry = _mm512_setzero_si512();
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS - 1; i++) {
        const __m512i digit = _mm512_add_epi64(a->at[i], carry);
        result.at[i] = _mm512_and_si512(digit, mask);
        carry = _mm512_srai_epi64(digit, DIGIT_BITS);
    }
    result.at[P256_DIGITS - 1] = _mm512_add_epi64(a->at[P256_DIGITS - 1], carry);
    return result;
}

/* A number congruent to a sum of digits, whose value is between -32 and 32, and whose digits are below 2^58 either way.
 *
 * The highest digit tells how often 2^256, nearly p, is in it, but for what the lower digits still carry, which is
 * nothing against p. So often less once p is taken away: 2^256 - 2^224 + 2^192 + 2^96 - 1, times that. */
INLINE_IFMA field field_settle(const field *a)
{
    const __m512i often = _mm512_srai_epi64(a->at[4], 256 - 4 * DIGIT_BITS);
    const __m512i times = _mm512_sub_epi64(_mm512_set1_epi64(1), often);
    field sum = *a;
    sum.at[0] = _mm512_sub_epi64(sum.at[0], times);
    sum.at[1] = _mm512_add_epi64(sum.at[1], _mm512_slli_epi64(times, 96 - DIGIT_BITS));
    sum.at[3] = _mm512_add_epi64(sum.at[3], _mm512_slli_epi64(times, 192 - 3 * DIGIT_BITS));
    sum.at[4] = _mm512_sub_epi64(sum.at[4], _mm512_slli_epi64(times, 224 - 4 * DIGIT_BITS));
    sum.at[4] = _mm512_add_epi64(sum.at[4], _mm512_slli_epi64(times, 256 - 4 * DIGIT_BITS));
    return field_carried(&sum);
}

/* -a */
INLINE_IFMA field field_negated(const field *a)
{
    field result;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_sub_epi64(_mm512_setzero_si512(), a->at[i]);
    return field_settle(&result);
}

/* The lanes in which a sum to be settled is zero modulo p: settled, it is p or 2 p. */
INLINE_IFMA __mmask8 field_zeros(const field *a)
{
    const field settled = field_settle(a), once = field_of(p256_prime), twice = field_of(p256_prime_twice);
    __mmask8 is_once = 0xff, is_twice = 0xff;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++) {
        is_once &= _mm512_cmpeq_epi64_mask(settled.at[i], once.at[i]);
        is_twice &= _mm512_cmpeq_epi64_mask(settled.at[i], twice.at[i]);
    }
    return is_once | is_twice;
}

/* In the lanes of the mask those, in the rest the others. */
INLINE_IFMA field field_blend(__mmask8 lanes, const field *others, const field *those)
{
    field result;
#pragma GCC unroll 10
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_mask_mov_epi64(others->at[i], lanes, those->at[i]);
    return result;
}

/* Add a * b, in digits of 64 bits of which these products take 52 + 4. */
INLINE_IFMA void add_row(__m512i *sum, const field *a, __m512i b)
{
    sum[0] = _mm512_madd52lo_epu64(sum[0], a->at[0], b);
    sum[1] = _mm512_madd52lo_epu64(sum[1], a->at[1], b);
    sum[2] = _mm512_madd52lo_epu64(sum[2], a->at[2], b);
    sum[3] = _mm512_madd52lo_epu64(sum[3], a->at[3], b);
    sum[4] = _mm512_madd52lo_epu64(sum[4], a->at[4], b);
    sum[1] = _mm512_madd52hi_epu64(sum[1], a->at[0], b);
    sum[2] = _mm512_madd52hi_epu64(sum[2], a->at[1], b);
    sum[3] = _mm512_madd52hi_epu64(sum[3], a->at[2], b);
    sum[4] = _mm512_madd52hi_epu64(sum[4], a->at[3], b);
    sum[5] = _mm512_madd52hi_epu64(sum[5], a->at[4], b);
}

INLINE_IFMA void add_product(__m512i *sum, const field *a, const field *b)
{
    add_row(sum + 0, a, b->at[0]);
    add_row(sum + 1, a, b->at[1]);
    add_row(sum + 2, a, b->at[2]);
    add_row(sum + 3, a, b->at[3]);
    add_row(sum + 4, a, b->at[4]);
}

/* Add the multiple of p that makes the lowest digit zero, and carry what is above. p + 1 is a multiple of 2^96, hence the
 * multiple is the digit itself. */
INLINE_IFMA void clear_lowest(__m512i *sum)
{
    const __m512i p_plus_1[] = {_mm512_set1_epi64(1ll << (96 - 52)), _mm512_set1_epi64(1ll << (192 - 3 * 52)),
                                _mm512_set1_epi64(0xffffffffll << (224 - 4 * 52))};
    const __m512i times = _mm512_and_si512(sum[0], _mm512_set1_epi64((long long) DIGIT_MASK));
    sum[1] = _mm512_add_epi64(sum[1], _mm512_srli_epi64(sum[0], DIGIT_BITS));
    sum[1] = _mm512_madd52lo_epu64(sum[1], times, p_plus_1[0]);
    sum[2] = _mm512_madd52hi_epu64(sum[2], times, p_plus_1[0]);
    sum[3] = _mm512_madd52lo_epu64(sum[3], times, p_plus_1[1]);
    sum[4] = _mm512_madd52hi_epu64(sum[4], times, p_plus_1[1]);
    sum[4] = _mm512_madd52lo_epu64(sum[4], times, p_plus_1[2]);
    sum[5] = _mm512_madd52hi_epu64(sum[5], times, p_plus_1[2]);
}

INLINE_IFMA field reduced(__m512i sum[2 * P256_DIGITS])
{
    clear_lowest(sum + 0);
    clear_lowest(sum + 1);
    clear_lowest(sum + 2);
    clear_lowest(sum + 3);
    clear_lowest(sum + 4);
    const field high = {{sum[5], sum[6], sum[7], sum[8], sum[9]}};
    return field_carried(&high);
}

/* a * b */
static __attribute__((noinline)) WITH_IFMA field field_product(const field *a, const field *b)
{
    __m512i sum[2 * P256_DIGITS];
#pragma GCC unroll 10
    for (int i = 0; i < 2 * P256_DIGITS; i++)
        sum[i] = _mm512_setzero_si512();
    add_product(sum, a, b);
    return reduced(sum);
}

/* a * b + c * d */
static __attribute__((noinline)) WITH_IFMA field field_products(const field *a, const field *b, const field *c, const field *d)
{
    __m512i sum[2 * P256_DIGITS];
#pragma GCC unroll 10
    for (int i = 0; i < 2 * P256_DIGITS; i++)
        sum[i] = _mm512_setzero_si512();
    add_product(sum, a, b);
    add_product(sum, c, d);
    return reduced(sum);
}

#endif /* TCCP_P256_FIELD_H */
