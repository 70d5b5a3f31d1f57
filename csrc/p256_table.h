/* p256_table.h: multiples of a point, ready to be added up; for p256.c.
 *
 * A number is written with the digits +1 and -1 alone, 256 of them, and piece i of a number is its digits 32 i to 32 i + 31.
 * The digits of a piece are a comb: those of one column, 32 / teeth apart, make one pattern, and the table holds the sum of
 * points for each pattern in which the last tooth is +1: 2^(teeth - 1) for each piece. No digit is nothing, so no sum is the
 * point at infinity.
 *
 *     teeth = 4:   column      7   6   5   4   3   2   1   0
 *                  digits      7   6   5   4   3   2   1   0      tooth 0
 *                             15  14  13  12  11  10   9   8      tooth 1
 *                             23  22  21  20  19  18  17  16      tooth 2
 *                             31  30  29  28  27  26  25  24      tooth 3
 *
 * Column 7 is taken first, doubled and column 6 added, and so on.
 */
#ifndef TCCP_P256_TABLE_H
#define TCCP_P256_TABLE_H

#include "p256.h"
#include "p256_point.h"

enum { PIECES = P256_LANES, PIECE_BITS = 32, KEY_TEETH = 4, BASE_TEETH = 8, ENTRIES_MAX = 1 << (BASE_TEETH - 1) };

/* Lane i of an entry is for piece i; bit t of an entry's number is set where tooth t is +1. */
struct p256_table {
    unsigned int teeth;
    affine entries[];
};

/* That of G, which all keys share: it has eight teeth, so that only every other column of a key has one of G beside it.
 * NULL: no memory. */
const p256_table *p256_base_table(void);

#endif /* TCCP_P256_TABLE_H */
