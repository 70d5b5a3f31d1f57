/* lanes_rsa.c: RSA public operations, eight at once or one.
 *
 * Numbers are digits of 52 bits, least significant first. AVX-512 IFMA multiplies two vectors of digits and adds the lower or
 * the upper 52 bits of the products to a third. Of eight numbers a vector holds the same digit of each; of one number it
 * holds eight digits, and the sum moves down by a digit where it would otherwise be divided by 2^52.
 *
 * Montgomery multiplication without the last subtraction: with R = 2^(52 * digits) > 4 * modulus, factors below twice
 * the modulus give a product below twice the modulus. Between carries a digit of 64 bits takes 4 * digits additions of
 * 52 bits: 80 digits make less than 2^61.
 */
#include "lanes_rsa.h"

#include <string.h>

#ifdef TCCP_HAVE_LANES

#include <immintrin.h>

#define WITH_IFMA __attribute__((target("avx512f,avx512ifma")))

/* Bytes of a number below twice the modulus, made less than the modulus; its digits are stride words apart. */
static void bytes_of(const uint64_t *words, size_t stride, const tccp_ak *ak, uint8_t *ret_bytes)
{
    uint64_t window = 0;
    unsigned int have = 0;
    size_t digit = 0;
    for (size_t i = ak->bytes; i-- > 0;) {
        if (have < 8 && digit < ak->digit_count) {
            window |= words[stride * digit++] << have;
            have += DIGIT_BITS;
        }
        ret_bytes[i] = (uint8_t) window;
        window >>= 8;
        have = have > 8 ? have - 8 : 0;
    }
    while (digit < ak->digit_count)
        window |= words[stride * digit++];
    if (window == 0 && memcmp(ret_bytes, ak->modulus_bytes, ak->bytes) < 0)
        return;
    unsigned int borrow = 0;
    for (size_t i = ak->bytes; i-- > 0;) {
        unsigned int difference = 256u + ret_bytes[i] - ak->modulus_bytes[i] - borrow;
        ret_bytes[i] = (uint8_t) difference;
        borrow = difference < 256;
    }
}

/* ---- eight at once ------------------------------------------------------------------------------------------- */

/* The digits of eight numbers, and two that are zero behind the last. */
typedef struct digits {
    _Alignas(64) uint64_t at[TCCP_RSA_DIGITS_MAX + 2][RSA_LANES];
} digits;

static inline WITH_IFMA __m512i load(const uint64_t words[RSA_LANES])
{
    return _mm512_load_si512(words);
}

/* ret_number = sum, carried */
static WITH_IFMA void carry_up(digits *ret_number, const uint64_t sum[][RSA_LANES], size_t count)
{
    const __m512i digit_mask = _mm512_set1_epi64((long long) DIGIT_MASK);
    __m512i carry = _mm512_setzero_si512();
    for (size_t j = 0; j < count; j++) {
        carry = _mm512_add_epi64(load(sum[j]), carry);
        _mm512_store_si512(ret_number->at[j], _mm512_and_si512(carry, digit_mask));
        carry = _mm512_srli_epi64(carry, DIGIT_BITS);
    }
    for (size_t j = count; j < count + 2; j++)
        _mm512_store_si512(ret_number->at[j], _mm512_setzero_si512());
}

/* ret_product = a * b / R, for each lane; it may be a or b. */
static WITH_IFMA void multiply(digits *ret_product, const digits *a, const digits *b, const digits *modulus,
                               __m512i inverse, size_t count)
{
    const __m512i zero = _mm512_setzero_si512();
    digits sum;
    for (size_t j = 0; j < count; j++)
        _mm512_store_si512(sum.at[j], zero);
    for (size_t i = 0; i < count; i++) {
        /* So many times the modulus makes the lowest digit zero, and the whole sum moves down by it. */
        const __m512i factor = load(b->at[i]);
        __m512i low = _mm512_madd52lo_epu64(load(sum.at[0]), load(a->at[0]), factor);
        const __m512i times = _mm512_madd52lo_epu64(zero, low, inverse);
        low = _mm512_madd52lo_epu64(low, load(modulus->at[0]), times);
        __m512i next = _mm512_srli_epi64(low, DIGIT_BITS);
        for (size_t j = 1; j < count; j++) {
            __m512i high = _mm512_madd52hi_epu64(zero, load(a->at[j - 1]), factor);
            high = _mm512_madd52hi_epu64(high, load(modulus->at[j - 1]), times);
            next = _mm512_add_epi64(next, load(sum.at[j]));
            next = _mm512_madd52lo_epu64(next, load(a->at[j]), factor);
            next = _mm512_madd52lo_epu64(next, load(modulus->at[j]), times);
            _mm512_store_si512(sum.at[j - 1], _mm512_add_epi64(next, high));
            next = zero;
        }
        const __m512i top = _mm512_madd52hi_epu64(zero, load(a->at[count - 1]), factor);
        _mm512_store_si512(sum.at[count - 1], _mm512_madd52hi_epu64(top, load(modulus->at[count - 1]), times));
    }
    carry_up(ret_product, (const uint64_t(*)[RSA_LANES]) sum.at, count);
}

/* Add first * x[j] at j and second * x[j] at j + 1, from j = from until the upper halves of the last products. */
static inline __attribute__((always_inline)) WITH_IFMA void add_two_rows(uint64_t sum[][RSA_LANES], const digits *x,
                                                                         __m512i first, __m512i second, size_t from,
                                                                         size_t count)
{
    __m512i before = load(x->at[from - 1]), before_that = load(x->at[from - 2]);
    for (size_t j = from; j < count + 2; j++) {
        const __m512i digit = load(x->at[j]);
        __m512i next = _mm512_madd52hi_epu64(load(sum[j]), before, first);
        __m512i other = _mm512_madd52hi_epu64(_mm512_setzero_si512(), before_that, second);
        next = _mm512_madd52lo_epu64(next, digit, first);
        other = _mm512_madd52lo_epu64(other, before, second);
        _mm512_store_si512(sum[j], _mm512_add_epi64(next, other));
        before_that = before;
        before = digit;
    }
}

/* ret_square = a * a / R, for each lane; it may be a. Products of different digits are computed once and doubled. The count
 * is even, so that two rows can be added at a time: memory would not keep up with one. */
static WITH_IFMA void square_of(digits *ret_square, const digits *a, const digits *modulus, __m512i inverse, size_t count)
{
    _Alignas(64) uint64_t sum[2 * TCCP_RSA_DIGITS_MAX + 2][RSA_LANES];
    const __m512i zero = _mm512_setzero_si512();
    for (size_t i = 0; i < 2 * count + 2; i++)
        _mm512_store_si512(sum[i], zero);
    for (size_t i = 0; i < count; i += 2) {
        const __m512i x0 = load(a->at[i]), x1 = load(a->at[i + 1]), x2 = load(a->at[i + 2]), x3 = load(a->at[i + 3]);
        uint64_t(*at)[RSA_LANES] = sum + 2 * i;
        _mm512_store_si512(at[1], _mm512_madd52lo_epu64(load(at[1]), x0, x1));
        __m512i next = _mm512_madd52hi_epu64(load(at[2]), x0, x1);
        _mm512_store_si512(at[2], _mm512_madd52lo_epu64(next, x0, x2));
        next = _mm512_madd52hi_epu64(load(at[3]), x0, x2);
        next = _mm512_madd52lo_epu64(next, x0, x3);
        _mm512_store_si512(at[3], _mm512_madd52lo_epu64(next, x1, x2));
        add_two_rows(sum + i, a, x0, x1, i + 4, count);
    }
    for (size_t i = 0; i < count; i++) {
        const __m512i x = load(a->at[i]), low = load(sum[2 * i]), high = load(sum[2 * i + 1]);
        _mm512_store_si512(sum[2 * i], _mm512_madd52lo_epu64(_mm512_add_epi64(low, low), x, x));
        _mm512_store_si512(sum[2 * i + 1], _mm512_madd52hi_epu64(_mm512_add_epi64(high, high), x, x));
    }
    const __m512i m0 = load(modulus->at[0]), m1 = load(modulus->at[1]);
    for (size_t i = 0; i < count; i += 2) {
        __m512i low = load(sum[i]);
        const __m512i times0 = _mm512_madd52lo_epu64(zero, low, inverse);
        low = _mm512_srli_epi64(_mm512_madd52lo_epu64(low, m0, times0), DIGIT_BITS);
        __m512i next = _mm512_add_epi64(load(sum[i + 1]), low);
        next = _mm512_madd52hi_epu64(next, m0, times0);
        next = _mm512_madd52lo_epu64(next, m1, times0);
        const __m512i times1 = _mm512_madd52lo_epu64(zero, next, inverse);
        next = _mm512_srli_epi64(_mm512_madd52lo_epu64(next, m0, times1), DIGIT_BITS);
        _mm512_store_si512(sum[i + 2], _mm512_add_epi64(load(sum[i + 2]), next));
        add_two_rows(sum + i, modulus, times0, times1, 2, count);
    }
    carry_up(ret_square, (const uint64_t(*)[RSA_LANES]) sum + count, count);
}

WITH_IFMA void lanes_rsa_power(const tccp_ak *const aks[RSA_LANES], const uint8_t *const signatures[RSA_LANES],
                               uint8_t ret_powers[RSA_LANES][TCCP_RSA_BYTES_MAX])
{
    digits modulus, square, signature, power;
    uint64_t inverses[RSA_LANES];
    const size_t count = aks[0]->digit_count;
    for (size_t lane = 0; lane < RSA_LANES; lane++) {
        for (size_t i = 0; i < count; i++) {
            modulus.at[i][lane] = aks[lane]->modulus_digits[i];
            square.at[i][lane] = aks[lane]->square_digits[i];
        }
        digits_from_bytes(signatures[lane], aks[lane]->bytes, &signature.at[0][lane], RSA_LANES, count);
        inverses[lane] = aks[lane]->inverse_digit;
    }
    memset(modulus.at[count], 0, 2 * sizeof modulus.at[count]);
    const __m512i inverse = _mm512_loadu_si512(inverses);
    multiply(&power, &signature, &square, &modulus, inverse, count);
    for (int i = 0; i < 16; i++)
        square_of(&power, &power, &modulus, inverse, count);
    multiply(&power, &power, &signature, &modulus, inverse, count);
    for (size_t lane = 0; lane < RSA_LANES; lane++)
        bytes_of(&power.at[0][lane], RSA_LANES, aks[lane], ret_powers[lane]);
}

/* ---- one ----------------------------------------------------------------------------------------------------- */

enum { VECTOR_DIGITS = 8, VECTORS_MAX = TCCP_RSA_DIGITS_MAX / VECTOR_DIGITS };

typedef struct number {
    uint64_t at[TCCP_RSA_DIGITS_MAX];
} number;

/* ret_product = a * b / R; it may be a or b. What becomes of the lowest digit, and with it how many times the modulus is
 * added, is computed beside the vectors: they would take longer to say it. */
static inline __attribute__((always_inline)) WITH_IFMA void multiply_one(number *ret_product, const number *a,
                                                                         const number *b, const tccp_ak *ak,
                                                                         const size_t vectors)
{
    const __m512i zero = _mm512_setzero_si512();
    const uint64_t inverse = ak->inverse_digit, modulus_0 = ak->modulus_digits[0], a_0 = a->at[0];
    __m512i factor[VECTORS_MAX], modulus[VECTORS_MAX], sum[VECTORS_MAX + 1];
#pragma GCC unroll 10
    for (size_t j = 0; j < vectors; j++) {
        factor[j] = _mm512_loadu_si512(a->at + VECTOR_DIGITS * j);
        modulus[j] = _mm512_loadu_si512(ak->modulus_digits + VECTOR_DIGITS * j);
        sum[j] = zero;
    }
    sum[vectors] = zero;
    uint64_t carry = 0;
    for (size_t i = 0; i < ak->digit_count; i++) {
        uint64_t lowest = carry + (uint64_t) _mm_cvtsi128_si64(_mm512_castsi512_si128(sum[0]));
        lowest += a_0 * b->at[i] & DIGIT_MASK;
        const uint64_t times_0 = lowest * inverse & DIGIT_MASK;
        carry = (lowest + (times_0 * modulus_0 & DIGIT_MASK)) >> DIGIT_BITS;

        const __m512i by = _mm512_set1_epi64((long long) b->at[i]);
        const __m512i times = _mm512_set1_epi64((long long) times_0);
#pragma GCC unroll 10
        for (size_t j = 0; j < vectors; j++)
            sum[j] = _mm512_madd52lo_epu64(sum[j], factor[j], by);
#pragma GCC unroll 10
        for (size_t j = 0; j < vectors; j++)
            sum[j] = _mm512_madd52lo_epu64(sum[j], modulus[j], times);
#pragma GCC unroll 10
        for (size_t j = 0; j < vectors; j++) {
            sum[j] = _mm512_alignr_epi64(sum[j + 1], sum[j], 1);
            sum[j] = _mm512_madd52hi_epu64(sum[j], factor[j], by);
            sum[j] = _mm512_madd52hi_epu64(sum[j], modulus[j], times);
        }
    }
#pragma GCC unroll 10
    for (size_t j = 0; j < vectors; j++)
        _mm512_storeu_si512(ret_product->at + VECTOR_DIGITS * j, sum[j]);
    for (size_t i = 0; i < ak->digit_count; i++) {
        carry += ret_product->at[i];
        ret_product->at[i] = carry & DIGIT_MASK;
        carry >>= DIGIT_BITS;
    }
}

static inline __attribute__((always_inline)) WITH_IFMA void power_one(const tccp_ak *ak, const uint8_t *signature,
                                                                      uint8_t *ret_power, const size_t vectors)
{
    number given = {{0}}, square = {{0}}, power;
    digits_from_bytes(signature, ak->bytes, given.at, 1, ak->digit_count);
    memcpy(square.at, ak->square_digits, sizeof square.at);
    multiply_one(&power, &given, &square, ak, vectors);
    for (int i = 0; i < 16; i++)
        multiply_one(&power, &power, &power, ak, vectors);
    multiply_one(&power, &power, &given, ak, vectors);
    bytes_of(power.at, 1, ak, ret_power);
}

WITH_IFMA void lanes_rsa_power_one(const tccp_ak *ak, const uint8_t *signature, uint8_t ret_power[TCCP_RSA_BYTES_MAX])
{
    switch (ak->bytes) {
    case 256: power_one(ak, signature, ret_power, 5); return;
    case 384: power_one(ak, signature, ret_power, 8); return;
    default: power_one(ak, signature, ret_power, 10);
    }
}

#endif
