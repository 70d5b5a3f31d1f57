/* p256_point.h: eight points of P-256 at once; for p256.c alone.
 *
 * A point is (X : Y : Z), x = X / Z and y = Y / Z; Z = 0 is the point at infinity. The formulas are complete: they hold
 * for any two points of the curve, whether equal, opposite or at infinity, so that nobody has to look which they are.
 * Coordinates are below 2.01 p: p256_field.h says what that is for.
 *
 * Source: Renes, Costello, Batina: Complete addition formulas for prime order elliptic curves (2016), algorithms 4 to 6.
 */
#ifndef TCCP_P256_POINT_H
#define TCCP_P256_POINT_H

#include "p256_field.h"

typedef struct point {
    field x, y, z;
} point;

/* x and y of points that are not at infinity. */
typedef struct affine {
    field x, y;
} affine;

/* b * R modulo p, where the curve is y^2 = x^3 - 3 x + b. */
static const uint64_t p256_b[P256_DIGITS] = {0xdf6229c4bddfd, 0xca8843090d89c, 0x212ed6acf005c, 0x83415a220abf7,
                                             0x0c30061dd4874};

static inline WITH_IFMA point point_at_infinity(void)
{
    const uint64_t nothing[P256_DIGITS] = {0};
    return (point){field_of(nothing), field_of(p256_one), field_of(nothing)};
}

/* The sum of points 1 and 2 from X1 X2, Y1 Y2, Z1 Z2, X1 Y2 + X2 Y1, X1 Z2 + X2 Z1 and Y1 Z2 + Y2 Z1. */
INLINE_IFMA point point_from_terms(const field *xx, const field *yy, const field *zz, const field *xy, const field *xz,
                                   const field *yz)
{
    const field b = field_of(p256_b);
    const field b_xz = field_product(&b, xz), b_zz = field_product(&b, zz);
    const field zz3 = field_triple(zz), xx3 = field_triple(xx);

    /* t = 3 (xz - b zz): plus = yy + t, minus = yy - t */
    field t = field_difference(xz, &b_zz);
    t = field_triple(&t);
    field plus = field_sum(yy, &t), minus = field_difference(yy, &t);
    plus = field_settle(&plus);
    minus = field_settle(&minus);

    /* u = 3 (b xz - 3 zz - xx) */
    field u = field_difference(&b_xz, &zz3);
    u = field_difference(&u, xx);
    u = field_triple(&u);
    const field minus_u = field_negated(&u);
    u = field_settle(&u);

    /* v = 3 (xx - zz) */
    field v = field_difference(&xx3, &zz3);
    v = field_settle(&v);

    return (point){.x = field_products(xy, &plus, yz, &minus_u),
                   .y = field_products(&plus, &minus, &v, &u),
                   .z = field_products(yz, &minus, xy, &v)};
}

static inline WITH_IFMA point point_sum(const point *a, const point *b)
{
    const field xx = field_product(&a->x, &b->x), yy = field_product(&a->y, &b->y), zz = field_product(&a->z, &b->z);
    const field xy = field_products(&a->x, &b->y, &b->x, &a->y);
    const field xz = field_products(&a->x, &b->z, &b->x, &a->z);
    const field yz = field_products(&a->y, &b->z, &b->y, &a->z);
    return point_from_terms(&xx, &yy, &zz, &xy, &xz, &yz);
}

static inline WITH_IFMA point point_sum_affine(const point *a, const affine *b)
{
    const field xx = field_product(&a->x, &b->x), yy = field_product(&a->y, &b->y);
    const field xy = field_products(&a->x, &b->y, &b->x, &a->y);
    const field xz2 = field_product(&a->z, &b->x), yz2 = field_product(&a->z, &b->y);
    const field xz = field_sum(&xz2, &a->x), yz = field_sum(&yz2, &a->y);
    const field settled_xz = field_settle(&xz), settled_yz = field_settle(&yz);
    return point_from_terms(&xx, &yy, &a->z, &xy, &settled_xz, &settled_yz);
}

static inline WITH_IFMA point point_double(const point *a)
{
    const field x = field_sum(&a->x, &a->x), y = field_sum(&a->y, &a->y);
    const field x2 = field_carried(&x), y2 = field_carried(&y);
    const field xx = field_product(&a->x, &a->x), yy = field_product(&a->y, &a->y), zz = field_product(&a->z, &a->z);
    const field xy = field_product(&x2, &a->y), xz = field_product(&x2, &a->z), yz = field_product(&y2, &a->z);
    return point_from_terms(&xx, &yy, &zz, &xy, &xz, &yz);
}

#endif /* TCCP_P256_POINT_H */
