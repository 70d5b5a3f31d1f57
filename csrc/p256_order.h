/* p256_order.h: numbers modulo the order of P-256, for p256.c. None of them is secret. */
#ifndef TCCP_P256_ORDER_H
#define TCCP_P256_ORDER_H

#include <stdint.h>

#include "digits.h"

enum { P256_WORDS = 4 };

/* Below 2^256, least significant word first. */
typedef struct scalar {
    uint64_t at[P256_WORDS];
} scalar;

/* Of 32 bytes, most significant first. */
scalar scalar_of(const uint8_t bytes[32]);

/* a + b, 1 / a and a * b modulo the order; 1 / 0 is 0. All but one factor of a product must be below the order. */
scalar scalar_sum(const scalar *a, const scalar *b);
scalar scalar_inverse(const scalar *a);
scalar scalar_product(const scalar *a, const scalar *b);

#endif /* TCCP_P256_ORDER_H */
