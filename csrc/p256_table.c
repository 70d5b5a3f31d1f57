/* p256_table.c: multiples of a point, computed once: 256 doublings one after the other, then all pieces in their lanes. */
#include "p256_table.h"

#ifdef TCCP_HAVE_LANES

#include <pthread.h>
#include <stdlib.h>

/* SEC 2, 2.4.2. */
static const uint8_t base_x[P256_BYTES] = {
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
static const uint8_t base_y[P256_BYTES] = {
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
    0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

/* A number of 32 bytes, most significant first, in each lane, times R. */
static WITH_IFMA field field_of_bytes(const uint8_t *bytes)
{
    uint64_t digits[P256_DIGITS];
    digits_from_bytes(bytes, 32, digits, 1, P256_DIGITS);
    const field plain = field_of(digits), square = field_of(p256_square);
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

static WITH_IFMA point point_blend(__mmask8 lanes, const point *others, const point *those)
{
    return (point){field_blend(lanes, &others->x, &those->x), field_blend(lanes, &others->y, &those->y),
                   field_blend(lanes, &others->z, &those->z)};
}

static WITH_IFMA point negated(const point *a)
{
    return (point){a->x, field_negated(&a->y), a->z};
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
    const point given = {field_of_bytes(x), field_of_bytes(y), field_of(p256_one)};
    const unsigned int apart = PIECE_BITS / table->teeth;

    /* Lane i: 2^(32 i) times the point. */
    point tooth = given, moving = given;
    for (unsigned int lane = 1; lane < PIECES; lane++) {
        moving = doubled(moving, PIECE_BITS);
        tooth = point_blend((__mmask8) (0xff << lane), &tooth, &moving);
    }

    /* All teeth but the last -1; then in each pattern one that was not set before. */
    points[0] = point_at_infinity();
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

const p256_table *p256_base_table(void)
{
    return pthread_once(&base_made, make_base) == 0 ? base : NULL;
}

#else /* built without lanes: nobody asks */

p256_table *p256_table_new(const uint8_t x[P256_BYTES], const uint8_t y[P256_BYTES])
{
    return NULL;
}

void p256_table_free(p256_table *table)
{
}

#endif
