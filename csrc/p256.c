/* p256.c: ECDSA over P-256, the eight pieces of one signature in eight lanes, or eight signatures.
 *
 * A signature is good when x(u1 G + u2 Q) = r, with u1 = digest / s and u2 = r / s. The tables hold multiples of G and Q
 * for each piece of u1 and u2: p256_table.h says how. Of one signature, lane i sums piece i, and the lanes' sums are summed
 * up; of eight, a lane sums all pieces of its own, which saves seven of eight doublings and that last sum.
 */
#include "p256.h"

#ifdef TCCP_HAVE_LANES

#include <string.h>

#include "p256_order.h"
#include "p256_table.h"

/* ---- numbers modulo the order ---------------------------------------------------------------------------------- */

typedef struct quotients {
    scalar u1, u2;
} quotients;

/* Bit i of the results is set where digit i of digest / s and r / s is +1, else it is -1: as the sum of (2 bit_i - 1) 2^i
 * is the quotient, the sum of bit_i 2^i is (quotient + 2^256 - 1) / 2. half_inverse is 1 / (2 s). */
static quotients digits_of_quotients(const p256_signature *given, const scalar *half_inverse)
{
    /* (2^256 - 1) / 2 modulo the order */
    static const scalar offset = {{0x86231a9e81ce6d57, 0x218c82a92c7430bd, 0x8000000000000000, 0x000000007fffffff}};
    quotients found = {scalar_of(given->digest), scalar_of(given->r)};
    found.u1 = scalar_product(&found.u1, half_inverse);
    found.u1 = scalar_sum(&found.u1, &offset);
    found.u2 = scalar_product(&found.u2, half_inverse);
    found.u2 = scalar_sum(&found.u2, &offset);
    return found;
}

static scalar twice_s(const p256_signature *given)
{
    const scalar s = scalar_of(given->s);
    return scalar_sum(&s, &s);
}

/* With one inversion for all (Montgomery). */
static void all_quotients(const p256_signature *given, quotients ret_quotients[P256_LANES])
{
    scalar products[P256_LANES], factors[P256_LANES];
    for (size_t i = 0; i < P256_LANES; i++) {
        factors[i] = twice_s(&given[i]);
        products[i] = i == 0 ? factors[i] : scalar_product(&products[i - 1], &factors[i]);
    }
    scalar rest = scalar_inverse(&products[P256_LANES - 1]);
    for (size_t i = P256_LANES; i-- > 0;) {
        const scalar inverse = i == 0 ? rest : scalar_product(&rest, &products[i - 1]);
        rest = scalar_product(&rest, &factors[i]);
        ret_quotients[i] = digits_of_quotients(&given[i], &inverse);
    }
}

/* ---- sums of multiples ----------------------------------------------------------------------------------------- */

/* The bits of one column, tooth 0 lowest. */
INLINE_IFMA __m512i column_of(__m512i piece, unsigned int column, const unsigned int teeth)
{
    __m512i pattern = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (unsigned int tooth = 0; tooth < teeth; tooth++) {
        const __m512i bit = _mm512_srl_epi64(piece, _mm_cvtsi32_si128((int) (column + tooth * (PIECE_BITS / teeth))));
        const __m512i alone = _mm512_and_si512(bit, _mm512_set1_epi64(1));
        pattern = _mm512_or_si512(pattern, _mm512_slli_epi64(alone, tooth));
    }
    return pattern;
}

/* The entry of each lane's piece and column. first: where the first entry of each lane's table has its piece. */
INLINE_IFMA affine entry_of(__m512i first, __m512i piece, unsigned int column, const unsigned int teeth)
{
    const __m512i last = _mm512_set1_epi64(1ll << (teeth - 1)), others = _mm512_set1_epi64((1ll << (teeth - 1)) - 1);
    __m512i pattern = column_of(piece, column, teeth);
    const __mmask8 negative = _mm512_testn_epi64_mask(pattern, last);
    pattern = _mm512_and_si512(pattern, others);
    pattern = _mm512_mask_xor_epi64(pattern, negative, pattern, others);
    const __m512i at = _mm512_add_epi64(first, _mm512_mul_epu32(pattern, _mm512_set1_epi64(sizeof(affine))));
    affine entry;
#pragma GCC unroll 5
    for (size_t i = 0; i < P256_DIGITS; i++) {
        const __m512i x = _mm512_set1_epi64((long long) (offsetof(affine, x) + 64 * i));
        const __m512i y = _mm512_set1_epi64((long long) (offsetof(affine, y) + 64 * i));
        entry.x.at[i] = _mm512_i64gather_epi64(_mm512_add_epi64(at, x), NULL, 1);
        entry.y.at[i] = _mm512_i64gather_epi64(_mm512_add_epi64(at, y), NULL, 1);
    }
    const field minus_y = field_negated(&entry.y);
    entry.y = field_blend(negative, &entry.y, &minus_y);
    return entry;
}

static WITH_IFMA point point_sum_key(const point *sum, __m512i first, __m512i piece, unsigned int column)
{
    const affine entry = entry_of(first, piece, column, KEY_TEETH);
    return point_sum_affine(sum, &entry);
}

static WITH_IFMA point point_sum_base(const point *sum, __m512i first, __m512i piece, unsigned int column)
{
    const affine entry = entry_of(first, piece, column, BASE_TEETH);
    return point_sum_affine(sum, &entry);
}

static WITH_IFMA field field_moved(const field *a, __m512i from)
{
    field result;
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_permutexvar_epi64(from, a->at[i]);
    return result;
}

static WITH_IFMA point sum_over_lanes(point sum)
{
    for (int by = P256_LANES / 2; by > 0; by /= 2) {
        const __m512i from = _mm512_xor_si512(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(by));
        const point moved = {field_moved(&sum.x, from), field_moved(&sum.y, from), field_moved(&sum.z, from)};
        sum = point_sum(&sum, &moved);
    }
    return sum;
}

/* Where pieces of the first entry are. */
static WITH_IFMA __m512i addresses(const p256_table *table)
{
    const __m512i pieces = _mm512_setr_epi64(0, 8, 16, 24, 32, 40, 48, 56);
    return _mm512_add_epi64(_mm512_set1_epi64((long long) (uintptr_t) table->entries), pieces);
}

/* u1 G + u2 Q, in each lane the same. */
static WITH_IFMA point sum_of_one(const p256_table *key, const p256_table *base, const quotients *of)
{
    const __m512i pieces1 = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *) of->u1.at));
    const __m512i pieces2 = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *) of->u2.at));
    point sum = point_at_infinity();
    for (unsigned int column = PIECE_BITS / KEY_TEETH; column-- > 0;) {
        if (column + 1 < PIECE_BITS / KEY_TEETH)
            sum = point_double(&sum);
        sum = point_sum_key(&sum, addresses(key), pieces2, column);
        if (column < PIECE_BITS / BASE_TEETH)
            sum = point_sum_base(&sum, addresses(base), pieces1, column);
    }
    return sum_over_lanes(sum);
}

/* u1 G + u2 Q for each lane. */
static WITH_IFMA point sums_of_eight(const p256_signature *given, const p256_table *base, const quotients *of)
{
    _Alignas(64) uint64_t pieces1[PIECES][P256_LANES], pieces2[PIECES][P256_LANES], tables[P256_LANES];
    for (size_t lane = 0; lane < P256_LANES; lane++) {
        tables[lane] = (uintptr_t) given[lane].key->entries;
        for (size_t piece = 0; piece < PIECES; piece++) {
            pieces1[piece][lane] = (uint32_t) (of[lane].u1.at[piece / 2] >> (PIECE_BITS * (piece % 2)));
            pieces2[piece][lane] = (uint32_t) (of[lane].u2.at[piece / 2] >> (PIECE_BITS * (piece % 2)));
        }
    }
    const __m512i keys = _mm512_load_si512(tables), bases = _mm512_set1_epi64((long long) (uintptr_t) base->entries);
    point sum = point_at_infinity();
    for (unsigned int column = PIECE_BITS / KEY_TEETH; column-- > 0;) {
        if (column + 1 < PIECE_BITS / KEY_TEETH)
            sum = point_double(&sum);
        for (size_t piece = 0; piece < PIECES; piece++) {
            const __m512i offset = _mm512_set1_epi64((long long) (sizeof(uint64_t) * piece));
            sum = point_sum_key(&sum, _mm512_add_epi64(keys, offset), _mm512_load_si512(pieces2[piece]), column);
            if (column < PIECE_BITS / BASE_TEETH)
                sum = point_sum_base(&sum, _mm512_add_epi64(bases, offset), _mm512_load_si512(pieces1[piece]), column);
        }
    }
    return sum;
}

/* ---- verifying ------------------------------------------------------------------------------------------------- */

/* In which lanes x = X / Z is congruent to r modulo the order: r Z = X, or (r + order) Z = X where that is below p. */
static WITH_IFMA __mmask8 lanes_with_x(const point *sums, const p256_signature *const given[P256_LANES])
{
    static const uint64_t order[P256_DIGITS] = {0x69483335f5689, 0x3d3fe99319ad1, 0x2e96b789b1054, 0xfeb0c0166ce65, 0x08648c209fe30}; /* times R, modulo p */
    static const uint8_t p_minus_order[P256_BYTES] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x43, 0x19, 0x05, 0x53, 0x58, 0xe8, 0x61, 0x7b, 0x0c, 0x46, 0x35, 0x3d, 0x03, 0x9c, 0xda, 0xae};
    uint64_t digits[P256_DIGITS][P256_LANES];
    __mmask8 wraps = 0;
    for (size_t lane = 0; lane < P256_LANES; lane++) {
        digits_from_bytes(given[lane]->r, P256_BYTES, &digits[0][lane], P256_LANES, P256_DIGITS);
        if (memcmp(given[lane]->r, p_minus_order, P256_BYTES) < 0)
            wraps |= (__mmask8) (1 << lane);
    }
    field plain;
    for (int i = 0; i < P256_DIGITS; i++)
        plain.at[i] = _mm512_loadu_si512(digits[i]);
    const field square = field_of(p256_square), order_field = field_of(order);
    const field r = field_product(&plain, &square);
    field wrapped = field_sum(&r, &order_field);
    wrapped = field_carried(&wrapped);

    const field r_z = field_product(&r, &sums->z), wrapped_z = field_product(&wrapped, &sums->z);
    const field apart = field_difference(&r_z, &sums->x), wrapped_apart = field_difference(&wrapped_z, &sums->x);
    const __mmask8 found = field_zeros(&apart) | (field_zeros(&wrapped_apart) & wraps);
    return found & (__mmask8) ~field_zeros(&sums->z);
}

static WITH_IFMA __mmask8 verify_one(const p256_table *base, const p256_signature *given)
{
    scalar inverse = twice_s(given);
    inverse = scalar_inverse(&inverse);
    const quotients of = digits_of_quotients(given, &inverse);
    const point sum = sum_of_one(given->key, base, &of);
    const p256_signature *const same[P256_LANES] = {given, given, given, given, given, given, given, given};
    return lanes_with_x(&sum, same);
}

static WITH_IFMA __mmask8 verify_eight(const p256_table *base, const p256_signature *given)
{
    quotients of[P256_LANES];
    const p256_signature *each[P256_LANES];
    all_quotients(given, of);
    for (size_t lane = 0; lane < P256_LANES; lane++)
        each[lane] = &given[lane];
    const point sums = sums_of_eight(given, base, of);
    return lanes_with_x(&sums, each);
}

p256_verdict p256_verify(const p256_signature *given)
{
    const p256_table *base = p256_base_table();
    if (base == NULL)
        return P256_NO_MEMORY;
    return verify_one(base, given) != 0 ? P256_GOOD : P256_BAD;
}

void p256_verify_eight(const p256_signature given[P256_TOGETHER], p256_verdict ret_verdicts[P256_TOGETHER])
{
    const p256_table *base = p256_base_table();
    const __mmask8 good = base == NULL ? 0 : verify_eight(base, given);
    for (size_t i = 0; i < P256_TOGETHER; i++)
        ret_verdicts[i] = base == NULL ? P256_NO_MEMORY : good >> i & 1 ? P256_GOOD : P256_BAD;
}

#else /* built without lanes: nobody asks */

p256_verdict p256_verify(const p256_signature *given)
{
    return P256_BAD;
}

void p256_verify_eight(const p256_signature given[P256_TOGETHER], p256_verdict ret_verdicts[P256_TOGETHER])
{
    for (size_t i = 0; i < P256_TOGETHER; i++)
        ret_verdicts[i] = P256_BAD;
}

#endif
