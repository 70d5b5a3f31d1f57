/* ima_judge.c: what a policy says of each entry of a list that a replay has proved.
 *
 * Only the fields of an entry are proved, not which template they belong to. Whatever is accepted here is therefore
 * accepted for its digest, or for a signature over it; a name alone is enough only where a policy says so.
 */
#include "ima_policy.h"

enum { AGGREGATE_BYTES = 1 + TCCP_DIGEST_BYTES_MAX };

static const span BUFFER_PREFIX = {(const uint8_t *) "buffer:", 7};
static const span NOTHING = {(const uint8_t *) "", 0};

typedef struct judge {
    const tccp_ima_policy *policy;
    const uint8_t *list;
    const uint8_t *aggregates;
    size_t aggregates_count;
    hasher hash;
    bool failed; /* libcrypto did */
} judge;

static span part(const judge *j, uint32_t offset, uint32_t len)
{
    return (span){j->list + offset, len};
}

static bool is_listed(judge *j, const tccp_ima_entry *entry, span prefix, span name)
{
    bool found = false;
    if (!ima_policy_find(j->policy, &j->hash, entry->digest_bank, j->list + entry->digest_offset, prefix, name, &found))
        j->failed = true;
    return found;
}

/* Not even an administrator can make a path of this name, but a file whose path cannot be found may bear it. */
static bool is_aggregate(span path)
{
    return path.len == 14 && memcmp(path.bytes, "boot_aggregate", 14) == 0;
}

static tccp_ima_verdict judge_aggregate(const judge *j, const tccp_ima_entry *entry, uint64_t number)
{
    size_t digest_len;
    const uint8_t *digest = ima_digest(j->list, entry, &digest_len);
    for (size_t i = 0; digest != NULL && i < j->aggregates_count; i++) {
        const uint8_t *expected = j->aggregates + i * AGGREGATE_BYTES;
        if (expected[0] == entry->digest_bank && memcmp(expected + 1, digest, digest_len) == 0)
            return TCCP_IMA_BOOT_AGGREGATE;
    }
    return number == 0 && j->aggregates_count == 0 ? TCCP_IMA_BOOT_AGGREGATE : TCCP_IMA_WRONG_AGGREGATE;
}

static tccp_ima_verdict judge_buffer(judge *j, const tccp_ima_entry *entry, span name)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (entry->digest_bank < IMA_SHA256)
        return TCCP_IMA_WEAK_DIGEST;
    size_t digest_len = BANK[entry->digest_bank - 1].digest_len;
    span buffer = part(j, entry->extra_offset, entry->extra_len);
    if (!ima_hash(&j->hash, entry->digest_bank, buffer, NOTHING, digest))
        j->failed = true;
    if (memcmp(digest, j->list + entry->digest_offset, digest_len) != 0)
        return TCCP_IMA_BUFFER_ALTERED;
    if (is_listed(j, entry, BUFFER_PREFIX, name))
        return TCCP_IMA_BUFFER;
    /* A path is no buffer's name: an entry about a file could be relabelled as one about a buffer. */
    bool named = name.len > 0 && name.bytes[0] != '/' && ima_policy_matches(j->policy, IMA_RULE_BUFFER, name);
    return named ? TCCP_IMA_BUFFER : TCCP_IMA_BUFFER_NOT_LISTED;
}

static bool is_signed(const judge *j, const tccp_ima_entry *entry)
{
    const tccp_ima_policy *policy = j->policy;
    span digest = {.len = 0}, signature = part(j, entry->extra_offset, entry->extra_len);
    digest.bytes = ima_digest(j->list, entry, &digest.len);
    if (signature.len > 0 &&
        ima_signature_holds(policy->keys, policy->key_count, entry->digest_bank, digest, signature))
        return true;
    if (entry->modsig_digest_bank < IMA_SHA256 || entry->modsig_len == 0)
        return false;
    span content = part(j, entry->modsig_digest_offset, BANK[entry->modsig_digest_bank - 1].digest_len);
    span modsig = part(j, entry->modsig_offset, entry->modsig_len);
    return ima_modsig_holds(policy->keys, policy->key_count, entry->modsig_digest_bank, content, modsig);
}

static tccp_ima_verdict judge_file(judge *j, const tccp_ima_entry *entry, span path)
{
    if (entry->digest_bank >= IMA_SHA256 && is_listed(j, entry, NOTHING, path))
        return TCCP_IMA_LISTED;
    bool may_be_signed = entry->digest_bank >= IMA_SHA256 && (entry->extra_len > 0 || entry->modsig_len > 0) &&
                         ima_policy_matches(j->policy, IMA_RULE_SIGNED, path);
    if (may_be_signed && is_signed(j, entry))
        return TCCP_IMA_SIGNED;
    if (ima_policy_matches(j->policy, IMA_RULE_EXCLUDE, path))
        return TCCP_IMA_EXCLUDED;
    if (entry->digest_bank < IMA_SHA256)
        return TCCP_IMA_WEAK_DIGEST;
    return may_be_signed ? TCCP_IMA_BAD_SIGNATURE : TCCP_IMA_NOT_LISTED;
}

static tccp_ima_verdict judge_entry(judge *j, const tccp_ima_entry *entry, uint64_t number, uint32_t pcr)
{
    span path = part(j, entry->path_offset, entry->path_len);
    if (entry->pcr != pcr)
        return TCCP_IMA_OTHER_PCR;
    if (entry->violation)
        return j->policy->violations_allowed ? TCCP_IMA_VIOLATION_ALLOWED : TCCP_IMA_VIOLATION;
    if (entry->template_kind == TCCP_IMA_OTHER)
        return TCCP_IMA_UNKNOWN_TEMPLATE;
    if (is_aggregate(path))
        return judge_aggregate(j, entry, number);
    if (entry->template_kind == TCCP_IMA_BUF)
        return judge_buffer(j, entry, path);
    return judge_file(j, entry, path);
}

/* Entries come from a replay of this list; offsets that do not are a bug of the caller. */
static bool lies_inside(const tccp_ima_entry *entry, size_t list_len)
{
    if (entry->digest_bank > BANKS || entry->modsig_digest_bank > BANKS)
        return false;
    size_t digest_len = entry->digest_bank == 0 ? 0 : BANK[entry->digest_bank - 1].digest_len;
    size_t modsig_digest_len = entry->modsig_digest_bank == 0 ? 0 : BANK[entry->modsig_digest_bank - 1].digest_len;
    return entry->digest_offset + digest_len <= list_len &&
           entry->modsig_digest_offset + modsig_digest_len <= list_len &&
           (size_t) entry->path_offset + entry->path_len <= list_len &&
           (size_t) entry->extra_offset + entry->extra_len <= list_len &&
           (size_t) entry->modsig_offset + entry->modsig_len <= list_len;
}

tccp_status tccp_ima_judge(const tccp_ima_policy *policy, const uint8_t *list, size_t list_len,
                           const tccp_ima_entry *entries, size_t count, uint64_t first_number, uint32_t pcr,
                           const uint8_t *aggregates, size_t aggregates_count, uint8_t *ret_verdicts,
                           size_t *ret_refused)
{
    if (policy == NULL || list == NULL || entries == NULL || ret_verdicts == NULL || ret_refused == NULL ||
        (aggregates == NULL && aggregates_count > 0))
        return TCCP_ERR_USAGE;
    judge j = {.policy = policy, .list = list, .aggregates = aggregates, .aggregates_count = aggregates_count};
    size_t refused = 0;
    tccp_status status = ima_open_hashes(&j.hash) ? TCCP_OK : TCCP_ERR_INTERNAL;
    for (size_t i = 0; i < count && status == TCCP_OK; i++) {
        if (!lies_inside(&entries[i], list_len)) {
            status = TCCP_ERR_USAGE;
            break;
        }
        tccp_ima_verdict verdict = judge_entry(&j, &entries[i], first_number + i, pcr);
        ret_verdicts[i] = (uint8_t) verdict;
        refused += verdict >= TCCP_IMA_REFUSED;
        if (j.failed)
            status = TCCP_ERR_INTERNAL;
    }
    ima_close_hashes(&j.hash);
    if (status == TCCP_OK)
        *ret_refused = refused;
    return status;
}
