/* hash.h: SHA-256, SHA-384 and SHA-512 by their TPM_ALG_ID; there is no other hash that we rely on. */
#ifndef TCCP_HASH_H
#define TCCP_HASH_H

#include <stdbool.h>

#include "tccp.h"

/* How long a digest of an accepted algorithm is; 0 for every other number. */
size_t hash_size(uint16_t algorithm);

/* The digest of len bytes; false when libcrypto fails or the algorithm is not accepted. */
bool hash_bytes(uint16_t algorithm, const void *bytes, size_t len, uint8_t ret_digest[TCCP_DIGEST_BYTES_MAX]);

#endif /* TCCP_HASH_H */
