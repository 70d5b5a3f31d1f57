/* fuzz_ima.c: any bytes as an IMA list, binary and in ASCII; what is returned lies inside them and can be judged. */
#include <stdlib.h>

#include "hash.h"
#include "ima.h"
#include "tpm_public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool promise)
{
    if (!promise)
        abort();
}

static void check_list(const tccp_ima_policy *policy, const uint8_t *list, size_t len, size_t column_len, uint16_t bank)
{
    static const uint8_t zeros[TCCP_IMA_PCR_BYTES];
    static tccp_ima_entry entries[4096];
    static uint8_t verdicts[4096];
    tccp_ima_replayed replayed, again;
    size_t count = 0, refused = 0, count_again = 0;
    if (tccp_ima_replay(list, len, column_len, bank, 10, zeros, NULL, entries, 4096, &count, &replayed) != TCCP_OK)
        return;
    require(replayed.consumed <= len && !replayed.matched && replayed.truncated == (replayed.consumed < len));
    require(tccp_ima_judge(policy, list, len, entries, count, 0, 10, NULL, 0, verdicts, &refused) == TCCP_OK);
    require(refused <= count);
    const uint8_t *target = replayed.pcr;
    require(tccp_ima_replay(list, len, column_len, bank, 10, zeros, target, entries, 4096, &count_again, &again) ==
            TCCP_OK);
    require(again.matched && count_again <= count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A policy with one rule: signed files everywhere, by nobody. */
    static const uint8_t file[24 + 16 + 8] = "tccpima1\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\1\0\0\0*";
    static tccp_ima_policy *policy;
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    if (policy == NULL)
        require(hash_bytes(TPM_ALG_SHA256, file, sizeof file, digest) &&
                tccp_ima_policy_open(file, sizeof file, digest, &policy) == TCCP_OK);
    check_list(policy, data, size, 20, 0x000B);
    check_list(policy, data, size, 32, 0x0004);
    uint8_t *list = malloc(2 * size + 64);
    size_t len = 0;
    if (tccp_ima_from_text(data, size, list, 2 * size + 64, &len) == TCCP_OK)
        check_list(policy, list, len, 20, 0x000B);
    free(list);
    return 0;
}
