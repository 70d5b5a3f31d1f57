/* p256.c: ECDSA over P-256, the eight pieces of one signature in eight lanes.
 *
 * A signature is good when x(u1 G + u2 Q) = r, with u1 = digest / s and u2 = r / s. Both numbers are written with the digits
 * +1 and -1 alone, 256 of them; lane i sums what belongs to digits 32 i to 32 i + 31, and the lanes' sums are summed up.
 * In a lane the digits are a comb: those of one column, 32 / teeth apart, make one pattern, and a table holds the sum of
 * points for each pattern with the sign of its last tooth: 2^(teeth - 1) points a lane.
 *
 *     teeth = 4:   column      7   6   5   4   3   2   1   0
 *                  digits      7   6   5   4   3   2   1   0      tooth 0
 *                             15  14  13  12  11  10   9   8      tooth 1
 *                             23  22  21  20  19  18  17  16      tooth 2
 *                             31  30  29  28  27  26  25  24      tooth 3
 *
 * Column 7 first, doubled and column 6 added, and so on. A key's table has four teeth; that of G, which all keys share,
 * has eight, so that only every other column of the key has one of G beside it.
 */
#include "p256.h"

#ifdef TCCP_HAVE_LANES

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "p256_order.h"
#include "p256_point.h"

enum { LANE_BITS = 32, KEY_TEETH = 4, BASE_TEETH = 8, ENTRIES_MAX = 1 << (BASE_TEETH - 1) };

struct p256_table {
    unsigned int teeth;
    affine entries[];
};

/* SEC 2, 2.4.2. */
static const uint8_t base_x[P256_BYTES] = {
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
static const uint8_t base_y[P256_BYTES] = {
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
    0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

static const uint64_t prime[P256_DIGITS] = {0xfffffffffffff, 0x00fffffffffff, 0, 0x0001000000000, 0x0ffffffff0000};
static const uint64_t one[P256_DIGITS] = {1};
static const uint64_t montgomery_one[P256_DIGITS] = {0x0000000000010, 0xf000000000000, 0xfffffffffffff, 0xffeffffffffff,
                                                     0x00000000fffff}; /* R modulo p */
static const uint64_t montgomery_square[P256_DIGITS] = {0x0000000000300, 0xffffffff00000, 0xffffefffffffb, 0xfdfffffffffff,
                                                        0x0000004ffffff}; /* R^2 modulo p */

/* ---- tables -------------------------------------------------------------------------------------------------- */

static WITH_IFMA field montgomery_field(const uint8_t bytes[P256_BYTES])
{
    uint64_t digits[P256_DIGITS];
    digits_from_bytes(bytes, P256_BYTES, digits, 1, P256_DIGITS);
    const field plain = field_of(digits), square = field_of(montgomery_square);
    return field_product(&plain, &square);
}

/* 1 / a by Fermat: a ^ (p - 2). */
static WITH_IFMA field inverse(const field *a)
{
    field power = *a;
    for (int bit = 254; bit >= 0; bit--) {
        power = field_product(&power, &power);
        const bool set = bit >= 224 || bit == 192 || (bit < 96 && bit != 1);
        if (set)
            power = field_product(&power, a);
    }
    return power;
}

static WITH_IFMA point doubled(point a, unsigned int times)
{
    while (times-- > 0)
        a = point_double(&a);
    return a;
}

static WITH_IFMA field field_blend(__mmask8 lanes, const field *others, const field *those)
{
    field result;
    for (int i = 0; i < P256_DIGITS; i++)
        result.at[i] = _mm512_mask_mov_epi64(others->at[i], lanes, those->at[i]);
    return result;
}

static WITH_IFMA point point_blend(__mmask8 lanes, const point *others, const point *those)
{
    return (point){field_blend(lanes, &others->x, &those->x), field_blend(lanes, &others->y, &those->y),
                   field_blend(lanes, &others->z, &those->z)};
}

static WITH_IFMA point negated(const point *a)
{
    const uint64_t nothing[P256_DIGITS] = {0};
    field zero = field_of(nothing), y = field_difference(&zero, &a->y);
    return (point){a->x, field_settle(&y), a->z};
}

/* x and y of points from their projective coordinates: one inversion in each lane for all entries (Montgomery). */
static WITH_IFMA void make_affine(const point *points, size_t count, affine *ret_entries)
{
    field products[ENTRIES_MAX];
    products[0] = points[0].z;
    for (size_t i = 1; i < count; i++)
        products[i] = field_product(&products[i - 1], &points[i].z);
    field rest = inverse(&products[count - 1]);
    for (size_t i = count; i-- > 0;) {
        const field z_inverse = i == 0 ? rest : field_product(&rest, &products[i - 1]);
        rest = field_product(&rest, &points[i].z);
        ret_entries[i].x = field_product(&points[i].x, &z_inverse);
        ret_entries[i].y = field_product(&points[i].y, &z_inverse);
    }
}

static WITH_IFMA void fill(p256_table *table, const uint8_t *x, const uint8_t *y)
{
    point points[ENTRIES_MAX], twice[BASE_TEETH];
    const point given = {montgomery_field(x), montgomery_field(y), field_of(montgomery_one)};
    const unsigned int apart = LANE_BITS / table->teeth;

    /* Lane i: 2^(32 i) times the point. */
    point tooth = given, moving = given;
    for (unsigned int lane = 1; lane < P256_LANES; lane++) {
        moving = doubled(moving, LANE_BITS);
        tooth = point_blend((__mmask8) (0xff << lane), &tooth, &moving);
    }

    /* All teeth but the last -1; then in each pattern one that was not set before. */
    const uint64_t nothing[P256_DIGITS] = {0};
    points[0] = (point){field_of(nothing), field_of(montgomery_one), field_of(nothing)};
    for (unsigned int i = 0; i < table->teeth; i++) {
        const point signed_tooth = i + 1 < table->teeth ? negated(&tooth) : tooth;
        points[0] = point_sum(&points[0], &signed_tooth);
        twice[i] = point_double(&tooth);
        tooth = doubled(twice[i], apart - 1);
    }
    const size_t count = (size_t) 1 << (table->teeth - 1);
    for (unsigned int i = 0; i + 1 < table->teeth; i++)
        for (size_t pattern = 0; pattern < (size_t) 1 << i; pattern++)
            points[pattern | (size_t) 1 << i] = point_sum(&points[pattern], &twice[i]);
    make_affine(points, count, table->entries);
}

static p256_table *table_of(unsigned int teeth, const uint8_t *x, const uint8_t *y)
{
    const size_t entries_bytes = sizeof(affine) << (teeth - 1);
    p256_table *table = aligned_alloc(_Alignof(affine), sizeof *table + entries_bytes);
    if (table != NULL) {
        table->teeth = teeth;
        fill(table, x, y);
    }
    return table;
}

p256_table *p256_table_new(const uint8_t x[P256_BYTES], const uint8_t y[P256_BYTES])
{
    return table_of(KEY_TEETH, x, y);
}

void p256_table_free(p256_table *table)
{
    free(table);
}

static const p256_table *base;
static pthread_once_t base_made = PTHREAD_ONCE_INIT;

static void make_base(void)
{
    base = table_of(BASE_TEETH, base_x, base_y);
}

/* ---- numbers modulo the order ---------------------------------------------------------------------------------- */

/* Bit i of the results is set where digit i of digest / s and r / s is +1, else it is -1: as the sum of (2 bit_i - 1) 2^i
 * is the quotient, the sum of bit_i 2^i is (quotient + 2^256 - 1) / 2. */
static void digits_of_quotients(const uint8_t *s, const uint8_t *r, const uint8_t *digest, scalar *ret_u1, scalar *ret_u2)
{
    /* (2^256 - 1) / 2 modulo the order */
    static const scalar offset = {{0x86231a9e81ce6d57, 0x218c82a92c7430bd, 0x8000000000000000, 0x000000007fffffff}};
    scalar half = scalar_of(s);
    half = scalar_sum(&half, &half);
    half = scalar_inverse(&half);
    *ret_u1 = scalar_of(digest);
    *ret_u1 = scalar_product(ret_u1, &half);
    *ret_u1 = scalar_sum(ret_u1, &offset);
    *ret_u2 = scalar_of(r);
    *ret_u2 = scalar_product(ret_u2, &half);
    *ret_u2 = scalar_sum(ret_u2, &offset);
}

/* ---- verifying ----------------------------------------------------------------------------------------------- */

/* The bits of one column, tooth 0 lowest. */
static WITH_IFMA __m512i column_of(__m512i bits, unsigned int column, unsigned int teeth)
{
    const unsigned int apart = LANE_BITS / teeth;
    __m512i pattern = _mm512_setzero_si512();
    for (unsigned int tooth = 0; tooth < teeth; tooth++) {
        const __m512i bit = _mm512_srl_epi64(bits, _mm_cvtsi32_si128((int) (column + tooth * apart)));
        const __m512i one_bit = _mm512_and_si512(bit, _mm512_set1_epi64(1));
        pattern = _mm512_or_si512(pattern, _mm512_sll_epi64(one_bit, _mm_cvtsi32_si128((int) tooth)));
    }
    return pattern;
}

static WITH_IFMA affine entry_of(const p256_table *table, __m512i bits, unsigned int column)
{
    const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m512i pattern = column_of(bits, column, table->teeth);
    const __m512i last = _mm512_set1_epi64(1ll << (table->teeth - 1));
    const __mmask8 negative = _mm512_testn_epi64_mask(pattern, last);
    const __m512i others = _mm512_sub_epi64(last, _mm512_set1_epi64(1));
    pattern = _mm512_and_si512(pattern, others);
    pattern = _mm512_mask_xor_epi64(pattern, negative, pattern, others);
    const __m512i index = _mm512_add_epi64(_mm512_mul_epu32(pattern, _mm512_set1_epi64(sizeof(affine) / 8)), lanes);
    affine entry;
    for (int i = 0; i < P256_DIGITS; i++) {
        entry.x.at[i] = _mm512_i64gather_epi64(index, &table->entries[0].x.at[i], 8);
        entry.y.at[i] = _mm512_i64gather_epi64(index, &table->entries[0].y.at[i], 8);
    }
    const uint64_t nothing[P256_DIGITS] = {0};
    const field zero = field_of(nothing);
    field minus_y = field_difference(&zero, &entry.y);
    minus_y = field_settle(&minus_y);
    entry.y = field_blend(negative, &entry.y, &minus_y);
    return entry;
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

static WITH_IFMA point combination(const p256_table *key, const scalar *u1, const scalar *u2)
{
    const __m512i bits1 = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *) u1->at));
    const __m512i bits2 = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *) u2->at));
    const uint64_t nothing[P256_DIGITS] = {0};
    point sum = {field_of(nothing), field_of(montgomery_one), field_of(nothing)};
    for (unsigned int column = LANE_BITS / KEY_TEETH; column-- > 0;) {
        if (column + 1 < LANE_BITS / KEY_TEETH)
            sum = point_double(&sum);
        const affine of_key = entry_of(key, bits2, column);
        sum = point_sum_affine(&sum, &of_key);
        if (column < LANE_BITS / BASE_TEETH) {
            const affine of_base = entry_of(base, bits1, column);
            sum = point_sum_affine(&sum, &of_base);
        }
    }
    return sum_over_lanes(sum);
}

/* One lane, less than twice p, made less than p. */
static void take_out(const uint64_t a[P256_DIGITS][P256_LANES], size_t lane, uint64_t ret_digits[P256_DIGITS])
{
    int64_t carry = 0;
    uint64_t less[P256_DIGITS];
    for (int i = 0; i < P256_DIGITS; i++) {
        ret_digits[i] = a[i][lane];
        carry += (int64_t) (ret_digits[i] - prime[i]);
        less[i] = (uint64_t) carry & DIGIT_MASK;
        carry >>= DIGIT_BITS;
    }
    if (carry == 0)
        memcpy(ret_digits, less, sizeof less);
}

/* Is x = X / Z congruent to r modulo the order: r Z = X, or (r + order) Z = X where r + order is below p? */
static WITH_IFMA bool has_x(const point *a, const uint8_t *r)
{
    enum { PLAIN, WRAPPED, X, Z };
    static const uint64_t order[P256_DIGITS] = {0x9cac2fc632551, 0xada7179e84f3b, 0xfffffffbce6fa, 0x0000fffffffff,
                                                0x0ffffffff0000};
    uint64_t digits[P256_DIGITS], wrapped[P256_DIGITS], carry = 0;
    int64_t borrow = 0;
    digits_from_bytes(r, P256_BYTES, digits, 1, P256_DIGITS);
    for (int i = 0; i < P256_DIGITS; i++) {
        carry += digits[i] + order[i];
        wrapped[i] = carry & DIGIT_MASK;
        carry >>= DIGIT_BITS;
        borrow = (borrow + (int64_t) (wrapped[i] - prime[i])) >> DIGIT_BITS;
    }
    field factors = field_of(one), with = field_blend(1 << X, &a->z, &a->x);
    const field by_r = field_of(digits), by_wrapped = field_of(wrapped);
    factors = field_blend(1 << PLAIN, &factors, &by_r);
    factors = field_blend(1 << WRAPPED, &factors, &by_wrapped);
    const field products = field_product(&factors, &with);

    static const uint64_t nothing[P256_DIGITS];
    uint64_t lanes[P256_DIGITS][P256_LANES], plain[P256_DIGITS], x[P256_DIGITS], z[P256_DIGITS];
    for (int i = 0; i < P256_DIGITS; i++)
        _mm512_storeu_si512(lanes[i], products.at[i]);
    take_out(lanes, PLAIN, plain);
    take_out(lanes, WRAPPED, wrapped);
    take_out(lanes, X, x);
    take_out(lanes, Z, z);
    if (memcmp(z, nothing, sizeof z) == 0)
        return false;
    return memcmp(plain, x, sizeof x) == 0 || (borrow < 0 && memcmp(wrapped, x, sizeof x) == 0);
}

static WITH_IFMA bool sums_to(const p256_table *key, const scalar *u1, const scalar *u2, const uint8_t *r)
{
    const point sum = combination(key, u1, u2);
    return has_x(&sum, r);
}

p256_verdict p256_verify(const p256_table *key, const uint8_t r[P256_BYTES], const uint8_t s[P256_BYTES],
                         const uint8_t digest[P256_BYTES])
{
    scalar u1, u2;
    if (pthread_once(&base_made, make_base) != 0 || base == NULL)
        return P256_NO_MEMORY;
    digits_of_quotients(s, r, digest, &u1, &u2);
    return sums_to(key, &u1, &u2, r) ? P256_GOOD : P256_BAD;
}

#else /* built without lanes: nobody asks */

p256_table *p256_table_new(const uint8_t x[P256_BYTES], const uint8_t y[P256_BYTES])
{
    return NULL;
}

void p256_table_free(p256_table *table)
{
}

p256_verdict p256_verify(const p256_table *key, const uint8_t r[P256_BYTES], const uint8_t s[P256_BYTES],
                         const uint8_t digest[P256_BYTES])
{
    return P256_BAD;
}

#endif
