/* p256.h: ECDSA over P-256 with keys that were made ready, on CPUs with AVX-512 IFMA.
 *
 * Everything here is public: nothing takes constant time. */
#ifndef TCCP_P256_H
#define TCCP_P256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digits.h"

enum { P256_BYTES = 32, P256_TOGETHER = 8 };

/* Multiples of a public key. */
typedef struct p256_table p256_table;

/* Of the point (x, y) of the curve; most significant byte first. NULL: no memory. Freed by p256_table_free. */
p256_table *p256_table_new(const uint8_t x[P256_BYTES], const uint8_t y[P256_BYTES]);

/* NULL is allowed. */
void p256_table_free(p256_table *table);

typedef enum p256_verdict { P256_GOOD, P256_BAD, P256_NO_MEMORY } p256_verdict;

/* A signature (r, s) and what it is said to be over; most significant byte first. r and s are between 1 and the order
 * less 1. */
typedef struct p256_signature {
    const p256_table *key;
    const uint8_t *r, *s, *digest; /* P256_BYTES each */
} p256_signature;

/* Is it the key's signature over this digest (FIPS 186-5, 6.4.2)? */
p256_verdict p256_verify(const p256_signature *given);

/* Eight of them, by any keys, in the time that four take one by one. */
void p256_verify_eight(const p256_signature given[P256_TOGETHER], p256_verdict ret_verdicts[P256_TOGETHER]);

#endif /* TCCP_P256_H */
