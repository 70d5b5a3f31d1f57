/* hash.c: SHA-2 by libcrypto, which knows the CPU's SHA instructions.
 *
 * Through SHA256_Init and its kin, which OpenSSL 3 calls deprecated: for the few blocks of a quote the way through EVP takes
 * longer than the hashing, and RSAPSS hashes nine times.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "hash.h"

#include <openssl/sha.h>

#include "tpm_public.h"

size_t hash_size(uint16_t algorithm)
{
    switch (algorithm) {
    case TPM_ALG_SHA256: return 32;
    case TPM_ALG_SHA384: return 48;
    case TPM_ALG_SHA512: return 64;
    default: return 0;
    }
}

bool hash_bytes(uint16_t algorithm, const void *bytes, size_t len, uint8_t ret_digest[TCCP_DIGEST_BYTES_MAX])
{
    SHA256_CTX small;
    SHA512_CTX large;
    switch (algorithm) {
    case TPM_ALG_SHA256:
        return SHA256_Init(&small) == 1 && SHA256_Update(&small, bytes, len) == 1 &&
               SHA256_Final(ret_digest, &small) == 1;
    case TPM_ALG_SHA384:
        return SHA384_Init(&large) == 1 && SHA384_Update(&large, bytes, len) == 1 &&
               SHA384_Final(ret_digest, &large) == 1;
    case TPM_ALG_SHA512:
        return SHA512_Init(&large) == 1 && SHA512_Update(&large, bytes, len) == 1 &&
               SHA512_Final(ret_digest, &large) == 1;
    default: return false;
    }
}
