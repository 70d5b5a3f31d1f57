/* ima_policy.c: a compiled IMA policy, checked once and then looked up in O(1).
 *
 * The file is hashed when it is opened, and its hash is what somebody signed. What is read from it later is bounded
 * all the same, so that a file that is changed below us can mislead, and cannot make us read elsewhere.
 */
#include "ima_policy.h"

#include <stdlib.h>

#include "hash.h"
#include "reader.h"
#include "tpm_public.h"

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
}

/* ---- rules -------------------------------------------------------------------------------------------------- */

static tccp_status add_rule(tccp_ima_policy *policy, ima_rule rule)
{
    switch (rule.kind) {
    case IMA_RULE_EXCLUDE:
    case IMA_RULE_SIGNED:
    case IMA_RULE_BUFFER:
        if (rule.text.len == 0 || rule.text.len > IMA_PATTERN_BYTES_MAX)
            return TCCP_ERR_MALFORMED;
        policy->rules[policy->rule_count++] = rule;
        return TCCP_OK;
    case IMA_RULE_KEY:
        if (policy->key_count == TCCP_IMA_POLICY_KEYS_MAX)
            return TCCP_ERR_TOO_LARGE;
        tccp_status status = ima_key_from_spki(rule.text, &policy->keys[policy->key_count]);
        policy->key_count += status == TCCP_OK;
        return status;
    case IMA_RULE_VIOLATIONS:
        policy->violations_allowed = true;
        return rule.text.len == 0 ? TCCP_OK : TCCP_ERR_MALFORMED;
    default: return TCCP_ERR_MALFORMED;
    }
}

static tccp_status read_rules(tccp_ima_policy *policy, size_t rules_len)
{
    reader in = reader_of(policy->rules_bytes, rules_len);
    for (size_t count = 0; in.left > 0; count++) {
        if (count == TCCP_IMA_POLICY_RULES_MAX)
            return TCCP_ERR_TOO_LARGE;
        ima_rule rule = {.kind = (ima_rule_kind) read_uint_le(&in, 4)};
        rule.text.len = (size_t) read_uint_le(&in, 4);
        rule.text.bytes = read_bytes(&in, rule.text.len);
        if (in.failed)
            return TCCP_ERR_MALFORMED;
        tccp_status status = add_rule(policy, rule);
        if (status != TCCP_OK)
            return status;
    }
    return TCCP_OK;
}

/* Linear but for runs after a '*', where the last one alone is tried again. */
static bool pattern_matches(span pattern, span path)
{
    size_t p = 0, at = 0, star = SIZE_MAX, star_at = 0;
    while (at < path.len) {
        if (p < pattern.len && pattern.bytes[p] == '*') {
            star = p++;
            star_at = at;
        } else if (p < pattern.len && (pattern.bytes[p] == '?' || pattern.bytes[p] == path.bytes[at])) {
            p++;
            at++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.bytes[p] == '*')
        p++;
    return p == pattern.len;
}

bool ima_policy_matches(const tccp_ima_policy *policy, ima_rule_kind kind, span path)
{
    for (size_t i = 0; i < policy->rule_count; i++)
        if (policy->rules[i].kind == kind && pattern_matches(policy->rules[i].text, path))
            return true;
    return false;
}

/* ---- records ------------------------------------------------------------------------------------------------ */

static uint64_t bounded(const tccp_ima_policy *policy, size_t bucket)
{
    uint32_t at = u32_at(policy->index + 4 * bucket);
    return at < policy->record_count ? at : policy->record_count;
}

bool ima_policy_find(const tccp_ima_policy *policy, hasher *h, uint8_t digest_bank, const uint8_t *digest, span prefix,
                     span path, bool *ret_found)
{
    static const uint8_t every_path[IMA_PATH_TAG_BYTES];
    uint8_t tag[EVP_MAX_MD_SIZE];
    bool have_tag = false;
    uint32_t first = (uint32_t) digest[0] << 24 | (uint32_t) digest[1] << 16 | (uint32_t) digest[2] << 8 | digest[3];
    size_t bucket = policy->bucket_bits == 0 ? 0 : first >> (32 - policy->bucket_bits);
    uint64_t end = bounded(policy, bucket + 1);
    *ret_found = false;
    for (uint64_t i = bounded(policy, bucket); i < end && !*ret_found; i++) {
        const uint8_t *record = policy->records + i * IMA_RECORD_BYTES;
        int order = memcmp(record, digest, IMA_KEY_BYTES);
        if (order > 0)
            break;
        if (order < 0 || u32_at(record + IMA_KEY_BYTES) != digest_bank)
            continue;
        const uint8_t *wanted = record + IMA_KEY_BYTES + 4;
        if (memcmp(wanted, every_path, IMA_PATH_TAG_BYTES) == 0) {
            *ret_found = true;
            break;
        }
        if (!have_tag && !ima_hash(h, IMA_SHA256, prefix, path, tag))
            return false;
        have_tag = true;
        *ret_found = memcmp(wanted, tag, IMA_PATH_TAG_BYTES) == 0;
    }
    return true;
}

tccp_status tccp_ima_policy_find(const tccp_ima_policy *policy, uint32_t digest_bank, const uint8_t *digest,
                                 const uint8_t *path, size_t path_len)
{
    if (policy == NULL || digest == NULL || path == NULL || digest_bank < IMA_SHA256 || digest_bank > IMA_SHA512)
        return TCCP_ERR_USAGE;
    hasher h;
    bool found = false;
    span prefix = {path, 0}, whole = {path, path_len};
    bool done = ima_open_hashes(&h) &&
                ima_policy_find(policy, &h, (uint8_t) digest_bank, digest, prefix, whole, &found);
    ima_close_hashes(&h);
    if (!done)
        return TCCP_ERR_INTERNAL;
    return found ? TCCP_OK : TCCP_ERR_UNTRUSTED;
}

/* ---- the file ----------------------------------------------------------------------------------------------- */

static tccp_status read_file(const uint8_t *file, size_t file_len, tccp_ima_policy *policy)
{
    reader in = reader_of(file, file_len);
    const uint8_t *magic = read_bytes(&in, 8);
    policy->bucket_bits = (uint32_t) read_uint_le(&in, 4);
    size_t rules_len = (size_t) read_uint_le(&in, 4);
    policy->record_count = read_uint_le(&in, 8);
    if (in.failed || memcmp(magic, "tccpima1", 8) != 0 || policy->bucket_bits > IMA_BUCKET_BITS_MAX)
        return TCCP_ERR_MALFORMED;
    if (rules_len > IMA_RULES_BYTES_MAX || policy->record_count > TCCP_IMA_POLICY_BYTES_MAX / IMA_RECORD_BYTES)
        return TCCP_ERR_TOO_LARGE;
    const uint8_t *rules = read_bytes(&in, rules_len);
    (void) read_bytes(&in, (8 - rules_len % 8) % 8);
    policy->index = read_bytes(&in, 4 * (((size_t) 1 << policy->bucket_bits) + 1));
    policy->records = read_bytes(&in, (size_t) policy->record_count * IMA_RECORD_BYTES);
    if (!reader_finished(&in))
        return TCCP_ERR_MALFORMED;
    policy->rules_bytes = malloc(rules_len + 1);
    policy->rules = calloc(rules_len / 8 + 1, sizeof *policy->rules);
    if (policy->rules_bytes == NULL || policy->rules == NULL)
        return TCCP_ERR_NO_MEMORY;
    memcpy(policy->rules_bytes, rules, rules_len);
    return read_rules(policy, rules_len);
}

tccp_status tccp_ima_policy_open(const uint8_t *file, size_t file_len, const uint8_t *sha256,
                                 tccp_ima_policy **ret_policy)
{
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    if (file == NULL || sha256 == NULL || ret_policy == NULL)
        return TCCP_ERR_USAGE;
    if (file_len > TCCP_IMA_POLICY_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    if (!hash_bytes(TPM_ALG_SHA256, file, file_len, digest))
        return TCCP_ERR_INTERNAL;
    if (memcmp(digest, sha256, 32) != 0)
        return TCCP_ERR_ROOT;
    tccp_ima_policy *policy = calloc(1, sizeof *policy);
    if (policy == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = read_file(file, file_len, policy);
    if (status != TCCP_OK) {
        tccp_ima_policy_free(policy);
        return status;
    }
    *ret_policy = policy;
    return TCCP_OK;
}

void tccp_ima_policy_free(tccp_ima_policy *policy)
{
    if (policy == NULL)
        return;
    for (size_t i = 0; i < policy->key_count; i++)
        ima_key_free(policy->keys[i]);
    free(policy->rules);
    free(policy->rules_bytes);
    free(policy);
}

uint64_t tccp_ima_policy_records(const tccp_ima_policy *policy)
{
    return policy->record_count;
}
