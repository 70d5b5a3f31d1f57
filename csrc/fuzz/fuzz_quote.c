/* fuzz_quote.c: TPMS_ATTEST behind its signature, which a fuzzer could never make: quote.c is included for that. */
#include <stdlib.h>

#include "../quote.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nonce[32], pcrs[9 * 32];
    const tccp_quote_claim claim = {.attest = data, .attest_len = size, .nonce = nonce, .nonce_len = sizeof nonce,
                                    .pcrs = pcrs, .pcrs_len = sizeof pcrs, .pcr_mask = 0x1ff, .bank = 0x000b};
    const signature_check check = {.scheme = 0x0018, .hash = 0x000b, .digest_len = 32};
    tccp_quote quote, before;
    memset(&quote, 0x5a, sizeof quote);
    before = quote;
    tccp_status status = conclude(&check, TCCP_OK, &claim, &quote);
    require(status == TCCP_OK || memcmp(&quote, &before, sizeof quote) == 0);
    require(status == TCCP_OK || status >= TCCP_ERR_MALFORMED);

    tccp_quote read = {.safe = 0};
    if (read_attest(data, size, &read) == TCCP_OK) {
        require(read.selection_count <= TCCP_PCR_SELECTIONS_MAX && read.safe <= 1);
        require(read.extra_data_len <= sizeof read.extra_data && read.pcr_digest_len <= sizeof read.pcr_digest);
        require(status != TCCP_ERR_MALFORMED && status != TCCP_ERR_NOT_A_QUOTE);
    }
    return 0;
}
