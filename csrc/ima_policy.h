/* ima_policy.h: a compiled policy as ima_policy.c makes it ready and ima_judge.c asks it. Private to the core.
 *
 *   "tccpima1"  bucket_bits(4)  rules_len(4)  record_count(8)
 *   rules       kind(4) len(4) bytes ..., padded with zeros to a multiple of 8
 *   index       2^bucket_bits + 1 numbers(4): where the records of each bucket begin, and the end
 *   records     key(32) digest_bank(4) path(8), sorted
 *
 * All numbers are little-endian. A bucket is the first bits of a key; a key the first 32 bytes of a digest; path the
 * first 8 bytes of the SHA-256 of a path, or zeros for every path.
 */
#ifndef TCCP_IMA_POLICY_H
#define TCCP_IMA_POLICY_H

#include "ima.h"

enum {
    IMA_KEY_BYTES = 32,
    IMA_PATH_TAG_BYTES = 8,
    IMA_RECORD_BYTES = IMA_KEY_BYTES + 4 + IMA_PATH_TAG_BYTES,
    IMA_HEADER_BYTES = 24,
    IMA_BUCKET_BITS_MAX = 24,
    IMA_RULES_BYTES_MAX = 1 << 20,
    IMA_PATTERN_BYTES_MAX = 1024,
};

typedef enum ima_rule_kind {
    IMA_RULE_EXCLUDE = 1,    /* a pattern: files whose paths match are not judged */
    IMA_RULE_SIGNED = 2,     /* a pattern: files whose paths match may be signed instead of listed */
    IMA_RULE_KEY = 3,        /* DER SubjectPublicKeyInfo */
    IMA_RULE_BUFFER = 4,     /* a pattern: buffers of such a name may hold anything */
    IMA_RULE_VIOLATIONS = 5, /* violations are allowed */
} ima_rule_kind;

typedef struct ima_rule {
    ima_rule_kind kind;
    span text;
} ima_rule;

struct tccp_ima_policy {
    const uint8_t *index, *records; /* in the mapped file */
    uint64_t record_count;
    uint32_t bucket_bits;
    uint8_t *rules_bytes;           /* a copy, into which the rules point */
    ima_rule *rules;
    size_t rule_count;
    ima_key *keys[TCCP_IMA_POLICY_KEYS_MAX];
    size_t key_count;
    bool violations_allowed;
};

/* Is the digest listed for this path? Sets *ret_found; false when libcrypto fails. */
bool ima_policy_find(const tccp_ima_policy *policy, hasher *h, uint8_t digest_bank, const uint8_t *digest, span prefix,
                     span path, bool *ret_found);

/* Does a rule of this kind match? '*' stands for any run of bytes, '?' for any one byte. */
bool ima_policy_matches(const tccp_ima_policy *policy, ima_rule_kind kind, span path);

#endif /* TCCP_IMA_POLICY_H */
