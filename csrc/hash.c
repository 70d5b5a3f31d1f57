/* hash.c: SHA-2 by libcrypto, which knows the CPU's SHA instructions. */
#include "hash.h"

#include <openssl/evp.h>
#include <pthread.h>

#include "tpm_public.h"

/* Fetched once, for the life of the process: to look one up by name costs more than to hash a quote. */
static EVP_MD *sha256, *sha384, *sha512;
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    sha384 = EVP_MD_fetch(NULL, "SHA2-384", NULL);
    sha512 = EVP_MD_fetch(NULL, "SHA2-512", NULL);
}

static const EVP_MD *implementation(uint16_t algorithm)
{
    if (pthread_once(&fetched, fetch) != 0)
        return NULL;
    switch (algorithm) {
    case TPM_ALG_SHA256: return sha256;
    case TPM_ALG_SHA384: return sha384;
    case TPM_ALG_SHA512: return sha512;
    default: return NULL;
    }
}

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
    const EVP_MD *md = implementation(algorithm);
    return md != NULL && EVP_Digest(bytes, len, ret_digest, NULL, md, NULL) == 1;
}
