/* lanes_rsa.c: eight RSA public operations at once.
 *
 * Numbers are digits of 52 bits, least significant first, and a vector holds the same digit of eight numbers. AVX-512
 * IFMA multiplies two vectors of digits and adds the lower or the upper 52 bits of the products to a third.
 *
 * Montgomery multiplication without the last subtraction: with R = 2^(52 * digits) > 4 * modulus, factors below twice
 * the modulus give a product below twice the modulus. Between carries a digit of 64 bits takes 4 * digits additions of
 * 52 bits: 79 digits make less than 2^61.
 */
#include "lanes_rsa.h"

#include <string.h>

#include "digits.h"

#if defined(TCCP_HAVE_LANES) && defined(__x86_64__)

#include <immintrin.h>

#define WITH_IFMA __attribute__((target("avx512f,avx512ifma")))

typedef struct digits {
    __m512i at[TCCP_RSA_DIGITS_MAX];
} digits;

/* ret_product = a * b / R, for each lane; it may be a or b. */
static WITH_IFMA void multiply(digits *ret_product, const digits *a, const digits *b, const digits *modulus,
                               __m512i inverse, size_t count)
{
    const __m512i zero = _mm512_setzero_si512();
    digits sum;
    for (size_t j = 0; j < count; j++)
        sum.at[j] = zero;
    for (size_t i = 0; i < count; i++) {
        /* So many times the modulus makes the lowest digit zero, and the whole sum moves down by it. */
        const __m512i factor = b->at[i];
        __m512i low = _mm512_madd52lo_epu64(sum.at[0], a->at[0], factor);
        const __m512i times = _mm512_madd52lo_epu64(zero, low, inverse);
        low = _mm512_madd52lo_epu64(low, modulus->at[0], times);
        __m512i next = _mm512_srli_epi64(low, DIGIT_BITS);
        for (size_t j = 1; j < count; j++) {
            __m512i high = _mm512_madd52hi_epu64(zero, a->at[j - 1], factor);
            high = _mm512_madd52hi_epu64(high, modulus->at[j - 1], times);
            next = _mm512_add_epi64(next, sum.at[j]);
            next = _mm512_madd52lo_epu64(next, a->at[j], factor);
            next = _mm512_madd52lo_epu64(next, modulus->at[j], times);
            sum.at[j - 1] = _mm512_add_epi64(next, high);
            next = zero;
        }
        const __m512i top = _mm512_madd52hi_epu64(zero, a->at[count - 1], factor);
        sum.at[count - 1] = _mm512_madd52hi_epu64(top, modulus->at[count - 1], times);
    }
    const __m512i digit_mask = _mm512_set1_epi64((long long) DIGIT_MASK);
    __m512i carry = zero;
    for (size_t j = 0; j < count; j++) {
        carry = _mm512_add_epi64(sum.at[j], carry);
        ret_product->at[j] = _mm512_and_si512(carry, digit_mask);
        carry = _mm512_srli_epi64(carry, DIGIT_BITS);
    }
}

/* Bytes of one lane, below twice the modulus, made less than the modulus. */
static void bytes_of(const digits *power, size_t lane, const tccp_ak *ak, uint8_t *ret_bytes)
{
    const uint64_t *words = (const uint64_t *) power->at;
    uint64_t window = 0;
    unsigned int have = 0;
    size_t digit = 0;
    for (size_t i = ak->bytes; i-- > 0;) {
        if (have < 8 && digit < ak->digit_count) {
            window |= words[RSA_LANES * digit++ + lane] << have;
            have += DIGIT_BITS;
        }
        ret_bytes[i] = (uint8_t) window;
        window >>= 8;
        have = have > 8 ? have - 8 : 0;
    }
    while (digit < ak->digit_count)
        window |= words[RSA_LANES * digit++ + lane];
    if (window == 0 && memcmp(ret_bytes, ak->modulus_bytes, ak->bytes) < 0)
        return;
    unsigned int borrow = 0;
    for (size_t i = ak->bytes; i-- > 0;) {
        unsigned int difference = 256u + ret_bytes[i] - ak->modulus_bytes[i] - borrow;
        ret_bytes[i] = (uint8_t) difference;
        borrow = difference < 256;
    }
}

WITH_IFMA void lanes_rsa_power(const tccp_ak *const aks[RSA_LANES], const uint8_t *const signatures[RSA_LANES],
                               uint8_t ret_powers[RSA_LANES][TCCP_RSA_BYTES_MAX])
{
    digits modulus, square, signature, power;
    uint64_t inverses[RSA_LANES];
    const size_t count = aks[0]->digit_count;
    for (size_t lane = 0; lane < RSA_LANES; lane++) {
        for (size_t i = 0; i < count; i++) {
            ((uint64_t *) modulus.at)[RSA_LANES * i + lane] = aks[lane]->modulus_digits[i];
            ((uint64_t *) square.at)[RSA_LANES * i + lane] = aks[lane]->square_digits[i];
        }
        digits_from_bytes(signatures[lane], aks[lane]->bytes, (uint64_t *) signature.at + lane, RSA_LANES, count);
        inverses[lane] = aks[lane]->inverse_digit;
    }
    const __m512i inverse = _mm512_loadu_si512(inverses);
    multiply(&power, &signature, &square, &modulus, inverse, count);
    for (int i = 0; i < 16; i++)
        multiply(&power, &power, &power, &modulus, inverse, count);
    multiply(&power, &power, &signature, &modulus, inverse, count);
    for (size_t lane = 0; lane < RSA_LANES; lane++)
        bytes_of(&power, lane, aks[lane], ret_powers[lane]);
}

#endif
