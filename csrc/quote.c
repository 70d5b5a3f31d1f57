/* quote.c: a TPM's signed word on its PCR values.
 *
 * Every path is the same three steps: is the claim one we could have asked for, is the signature good, and only then
 * what do the signed bytes say. A batch collects the second step of several claims to take it eight at a time.
 */
#include "tccp.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "hash.h"
#include "lanes.h"
#include "reader.h"
#include "signature.h"

enum {
    TPM_GENERATED_VALUE = (int) 0xff544347,
    TPM_ST_ATTEST_QUOTE = 0x8018,
    PCRS_RESETTABLE = 1 << 16 | 1 << 23, /* debug and application: any software may reset them at any time */
    PCR_SELECT_BYTES_MIN = 3,            /* TPM 2.0 Library, Part 2, 10.6.1: PCR_SELECT_MIN on a PC */
    PCR_SELECT_BYTES_MAX = 4
};

/* ---- what we asked for -------------------------------------------------------------------------------------- */

static bool askable(const tccp_quote_claim *claim)
{
    size_t size = hash_size(claim->bank);
    if (claim->attest == NULL || claim->signature == NULL || claim->nonce == NULL || claim->pcrs == NULL || size == 0)
        return false;
    if (claim->nonce_len < TCCP_NONCE_BYTES_MIN || claim->nonce_len > TCCP_NONCE_BYTES_MAX)
        return false;
    if (claim->pcr_mask == 0 || claim->pcr_mask >> TCCP_PCR_COUNT != 0 || (claim->pcr_mask & PCRS_RESETTABLE) != 0)
        return false;
    return claim->pcrs_len == size * (size_t) __builtin_popcount(claim->pcr_mask);
}

/* ---- what the signed bytes say ------------------------------------------------------------------------------ */

/* TPML_PCR_SELECTION (TPM 2.0 Library, Part 2, 10.9.7); bit 0 of the first byte is PCR 0. */
static bool read_selections(reader *in, tccp_quote *quote)
{
    uint32_t count = (uint32_t) read_uint_be(in, 4);
    if (count > TCCP_PCR_SELECTIONS_MAX)
        return false;
    quote->selection_count = (uint16_t) count;
    for (uint32_t i = 0; i < count; i++) {
        quote->selection_banks[i] = (uint16_t) read_uint_be(in, 2);
        size_t size = (size_t) read_uint_be(in, 1);
        if (size < PCR_SELECT_BYTES_MIN || size > PCR_SELECT_BYTES_MAX)
            return false;
        quote->selection_masks[i] = (uint32_t) read_uint_le(in, size);
    }
    return true;
}

static bool read_bounded(reader *in, size_t max, uint8_t *ret_bytes, size_t *ret_len)
{
    size_t len;
    const uint8_t *bytes = read_tpm2b(in, &len);
    if (bytes == NULL || len > max)
        return false;
    memcpy(ret_bytes, bytes, len);
    *ret_len = len;
    return true;
}

/* TPMS_ATTEST (TPM 2.0 Library, Part 2, 10.12.8) of a quote. */
static tccp_status read_attest(const uint8_t *attest, size_t attest_len, tccp_quote *quote)
{
    reader in = reader_of(attest, attest_len);
    uint32_t magic = (uint32_t) read_uint_be(&in, 4);
    uint16_t type = (uint16_t) read_uint_be(&in, 2);
    if (!in.failed && (magic != (uint32_t) TPM_GENERATED_VALUE || type != TPM_ST_ATTEST_QUOTE))
        return TCCP_ERR_NOT_A_QUOTE;
    if (!read_bounded(&in, sizeof quote->qualified_signer, quote->qualified_signer, &quote->qualified_signer_len) ||
        !read_bounded(&in, sizeof quote->extra_data, quote->extra_data, &quote->extra_data_len))
        return TCCP_ERR_MALFORMED;
    quote->clock_ms = read_uint_be(&in, 8);
    quote->reset_count = (uint32_t) read_uint_be(&in, 4);
    quote->restart_count = (uint32_t) read_uint_be(&in, 4);
    quote->safe = (uint16_t) read_uint_be(&in, 1);
    quote->firmware_version = read_uint_be(&in, 8);
    if (!read_selections(&in, quote) ||
        !read_bounded(&in, sizeof quote->pcr_digest, quote->pcr_digest, &quote->pcr_digest_len))
        return TCCP_ERR_MALFORMED;
    return reader_finished(&in) && quote->safe <= 1 ? TCCP_OK : TCCP_ERR_MALFORMED;
}

/* ---- whether that is what we asked for ---------------------------------------------------------------------- */

static tccp_status judge(const signature_check *check, const tccp_quote_claim *claim, const tccp_quote *quote)
{
    if (quote->extra_data_len != claim->nonce_len ||
        CRYPTO_memcmp(quote->extra_data, claim->nonce, claim->nonce_len) != 0)
        return TCCP_ERR_NONCE_MISMATCH;
    if (quote->selection_count != 1 || quote->selection_banks[0] != claim->bank ||
        quote->selection_masks[0] != claim->pcr_mask)
        return TCCP_ERR_SELECTION;
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    if (!hash_bytes(check->hash, claim->pcrs, claim->pcrs_len, digest))
        return TCCP_ERR_INTERNAL;
    if (quote->pcr_digest_len != check->digest_len || memcmp(quote->pcr_digest, digest, check->digest_len) != 0)
        return TCCP_ERR_PCR_DIGEST;
    return TCCP_OK;
}

/* Everything after the signature, whose verdict is given. */
static tccp_status conclude(const signature_check *check, tccp_status verdict, const tccp_quote_claim *claim,
                            tccp_quote *ret_quote)
{
    if (verdict != TCCP_OK)
        return verdict;
    tccp_quote quote = {.scheme = check->scheme, .hash = check->hash};
    tccp_status status = read_attest(claim->attest, claim->attest_len, &quote);
    if (status == TCCP_OK)
        status = judge(check, claim, &quote);
    if (status == TCCP_OK)
        *ret_quote = quote;
    return status;
}

static tccp_status begin(const tccp_ak *ak, const tccp_quote_claim *claim, signature_check *ret_check)
{
    if (ak == NULL || !askable(claim))
        return TCCP_ERR_USAGE;
    return signature_prepare(ak, claim->attest, claim->attest_len, claim->signature, claim->signature_len, ret_check);
}

/* ---- the interface ------------------------------------------------------------------------------------------ */

tccp_status tccp_quote_verify(const tccp_ak *ak, const tccp_quote_claim *claim, tccp_quote *ret_quote)
{
    signature_check check;
    if (claim == NULL || ret_quote == NULL)
        return TCCP_ERR_USAGE;
    tccp_status status = begin(ak, claim, &check);
    if (status != TCCP_OK)
        return status;
    return conclude(&check, signature_verify(&check), claim, ret_quote);
}

tccp_status tccp_quote_verify_parts(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                    const uint8_t *signature, size_t signature_len, const uint8_t *nonce,
                                    size_t nonce_len, uint16_t bank, uint32_t pcr_mask, const uint8_t *pcrs,
                                    size_t pcrs_len, tccp_quote *ret_quote)
{
    const tccp_quote_claim claim = {.attest = attest, .attest_len = attest_len, .signature = signature,
                                    .signature_len = signature_len, .nonce = nonce, .nonce_len = nonce_len,
                                    .pcrs = pcrs, .pcrs_len = pcrs_len, .pcr_mask = pcr_mask, .bank = bank};
    return tccp_quote_verify(ak, &claim, ret_quote);
}

/* Claims of one kind of key that wait for their lanes to fill up. */
typedef struct waiting {
    size_t count;
    size_t indexes[LANES];
    signature_check checks[LANES];
} waiting;

static void flush(waiting *group, const tccp_quote_claim *claims, tccp_status *ret_statuses, tccp_quote *ret_quotes)
{
    tccp_status verdicts[LANES];
    if (lanes_take(group->checks[0].ak))
        lanes_verify(group->checks, group->count, verdicts);
    else
        for (size_t i = 0; i < group->count; i++)
            verdicts[i] = signature_verify_libcrypto(&group->checks[i]);
    for (size_t i = 0; i < group->count; i++) {
        size_t index = group->indexes[i];
        ret_statuses[index] = conclude(&group->checks[i], verdicts[i], &claims[index], &ret_quotes[index]);
    }
    group->count = 0;
}

tccp_status tccp_quote_verify_batch(const tccp_ak *const *aks, const tccp_quote_claim *claims, size_t n,
                                    tccp_status *ret_statuses, tccp_quote *ret_quotes)
{
    waiting groups[LANE_KINDS];
    if (n != 0 && (aks == NULL || claims == NULL || ret_statuses == NULL || ret_quotes == NULL))
        return TCCP_ERR_USAGE;
    for (size_t kind = 0; kind < LANE_KINDS; kind++)
        groups[kind].count = 0;

    for (size_t i = 0; i < n; i++) {
        waiting *group = &groups[aks[i] == NULL ? 0 : lanes_kind(aks[i])];
        signature_check *check = &group->checks[group->count];
        ret_statuses[i] = begin(aks[i], &claims[i], check);
        if (ret_statuses[i] != TCCP_OK)
            continue;
        group->indexes[group->count++] = i;
        if (group->count == LANES || !lanes_take(aks[i]))
            flush(group, claims, ret_statuses, ret_quotes);
    }
    for (size_t kind = 0; kind < LANE_KINDS; kind++)
        if (groups[kind].count != 0)
            flush(&groups[kind], claims, ret_statuses, ret_quotes);
    return TCCP_OK;
}

tccp_status tccp_quote_verify_packed(const tccp_ak *const *aks, const uint8_t *packed, size_t packed_len,
                                     const uint32_t *numbers, size_t n, tccp_status *ret_statuses,
                                     tccp_quote *ret_quotes)
{
    if (packed == NULL || numbers == NULL || n > TCCP_BATCH_MAX)
        return TCCP_ERR_USAGE;
    tccp_quote_claim *claims = calloc(n + 1, sizeof *claims);
    if (claims == NULL)
        return TCCP_ERR_NO_MEMORY;
    reader in = reader_of(packed, packed_len);
    for (size_t i = 0; i < n; i++, numbers += TCCP_PACKED_NUMBERS)
        claims[i] = (tccp_quote_claim){
            .attest = read_bytes(&in, numbers[0]), .attest_len = numbers[0],
            .signature = read_bytes(&in, numbers[1]), .signature_len = numbers[1],
            .nonce = read_bytes(&in, numbers[2]), .nonce_len = numbers[2],
            .pcrs = read_bytes(&in, numbers[3]), .pcrs_len = numbers[3],
            .pcr_mask = numbers[4], .bank = (uint16_t) numbers[5],
        };
    tccp_status status = TCCP_ERR_USAGE;
    if (reader_finished(&in))
        status = tccp_quote_verify_batch(aks, claims, n, ret_statuses, ret_quotes);
    free(claims);
    return status;
}

tccp_status tccp_quote_inspect(const tccp_ak *ak, const uint8_t *attest, size_t attest_len, const uint8_t *signature,
                               size_t signature_len, tccp_quote *ret_quote)
{
    signature_check check;
    if (ak == NULL || attest == NULL || signature == NULL || ret_quote == NULL)
        return TCCP_ERR_USAGE;
    tccp_status status = signature_prepare(ak, attest, attest_len, signature, signature_len, &check);
    if (status == TCCP_OK)
        status = signature_verify(&check);
    if (status != TCCP_OK)
        return status;
    tccp_quote quote = {.scheme = check.scheme, .hash = check.hash};
    status = read_attest(attest, attest_len, &quote);
    if (status == TCCP_OK)
        *ret_quote = quote;
    return status;
}
