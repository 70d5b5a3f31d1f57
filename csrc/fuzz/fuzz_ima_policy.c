/* fuzz_ima_policy.c: any bytes as a compiled IMA policy, whose hash is always the right one. */
#include <stdlib.h>

#include "hash.h"
#include "ima_policy.h"
#include "tpm_public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    tccp_ima_policy *policy = NULL;
    if (!hash_bytes(TPM_ALG_SHA256, data, size, digest))
        abort();
    if (tccp_ima_policy_open(data, size, digest, &policy) != TCCP_OK)
        return 0;
    const uint8_t *path = data, *key = size >= 64 ? data + size - 64 : NULL;
    for (uint32_t bank = IMA_SHA256; key != NULL && bank <= IMA_SHA512; bank++)
        if (tccp_ima_policy_find(policy, bank, key, path, size) == TCCP_ERR_INTERNAL)
            abort();
    (void) ima_policy_matches(policy, IMA_RULE_EXCLUDE, (span){data, size < 4096 ? size : 4096});
    tccp_ima_policy_free(policy);
    return 0;
}
