/* p256.h: ECDSA over P-256 with keys that were made ready, eight pieces of one signature at once, on CPUs with AVX-512 IFMA.
 *
 * Everything here is public: nothing takes constant time. */
#ifndef TCCP_P256_H
#define TCCP_P256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digits.h"

enum { P256_BYTES = 32 };

/* Multiples of a public key. */
typedef struct p256_table p256_table;

/* Of the point (x, y) of the curve; most significant byte first. NULL: no memory. Freed by p256_table_free. */
p256_table *p256_table_new(const uint8_t x[P256_BYTES], const uint8_t y[P256_BYTES]);

/* NULL is allowed. */
void p256_table_free(p256_table *table);

typedef enum p256_verdict { P256_GOOD, P256_BAD, P256_NO_MEMORY } p256_verdict;

/* Is (r, s) the key's signature over this digest (FIPS 186-5, 6.4.2)? r and s are between 1 and the order less 1. */
p256_verdict p256_verify(const p256_table *key, const uint8_t r[P256_BYTES], const uint8_t s[P256_BYTES],
                         const uint8_t digest[P256_BYTES]);

#endif /* TCCP_P256_H */
