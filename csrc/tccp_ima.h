/* tccp_ima.h: IMA measurement lists and the policies that judge them.
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_IMA_H
#define TCCP_TCCP_IMA_H

#include "tccp_status.h"

/* [cffi */

/* ---- IMA measurement lists (ima.c, ima_text.c) ----------------------------------------------------------------- */

#define TCCP_IMA_LIST_BYTES_MAX 268435456
#define TCCP_IMA_FIELD_BYTES_MAX 1048576
#define TCCP_IMA_ENTRIES_MAX 4194304
#define TCCP_IMA_ENTRY_BYTES_MIN 32 /* no whole entry is shorter */
#define TCCP_IMA_PCR_BYTES 32       /* the longest PCR value of a bank that we replay */

/* What an entry's fields are; no digest covers it, only the fields themselves are hashed. */
typedef enum tccp_ima_template {
    TCCP_IMA_OTHER = 0,   /* a template that we do not know, or fields that are not what its name promises */
    TCCP_IMA_PLAIN = 1,   /* "ima": SHA-1 of a file, and its name */
    TCCP_IMA_NG = 2,      /* "ima-ng", "ima-ngv2": digest of a file, path */
    TCCP_IMA_SIG = 3,     /* "ima-sig", "ima-sigv2": the same and its signature (security.ima), which may be empty */
    TCCP_IMA_BUF = 4,     /* "ima-buf": digest of a buffer, its name, the buffer */
    TCCP_IMA_MODSIG = 5   /* "ima-modsig": as ima-sig, and a signature appended to the file with what it is over */
} tccp_ima_template;

/* One entry; offsets count from the start of the list. */
typedef struct tccp_ima_entry {
    uint32_t offset, len;                         /* the whole of it */
    uint32_t pcr;
    uint32_t digest_offset;                       /* of the file or buffer */
    uint32_t path_offset, path_len;               /* of the file, or the name of the buffer; without its NUL */
    uint32_t extra_offset, extra_len;             /* the signature, or the buffer */
    uint32_t modsig_digest_offset;
    uint32_t modsig_offset, modsig_len;
    uint8_t template_kind;                        /* tccp_ima_template */
    uint8_t violation;                            /* 1: extended with FF.., so that nothing of it is proved */
    uint8_t digest_bank;                          /* 1: SHA-1, 2: SHA-256, 3: SHA-384, 4: SHA-512, 0: another kind */
    uint8_t modsig_digest_bank;                   /* the same, of modsig_digest_offset */
} tccp_ima_entry;

typedef struct tccp_ima_replayed {
    uint32_t consumed;                            /* bytes of the entries that count */
    uint8_t matched;                              /* 1: they lead to the value asked for */
    uint8_t truncated;                            /* 1: not matched, and the last entry runs past the end */
    uint8_t pcr[TCCP_IMA_PCR_BYTES];              /* to what they lead */
} tccp_ima_replayed;

/* Replay a list in the kernel's binary format (little-endian) from a PCR value, up to the first entry after which the
 * PCR has the value asked for: that prefix counts, and what follows it was measured after the quote.
 *   column_len   bytes of the template digest that each entry begins with: 20, or 32 in lists of a SHA-256 bank
 *   bank         TPM_ALG_ID: SHA-1 or SHA-256; each entry is hashed anew for it
 *   pcr          the PCR that is replayed, 10; entries of others are returned and extend nothing
 *   start        the value before the first entry: zeros, or where an earlier replay ended
 *   target       the value asked for; NULL replays to the end
 * TCCP_OK also when nothing matched. TCCP_ERR_MALFORMED: not such a list, or damaged before the match.
 * TCCP_ERR_TOO_LARGE: larger than the limits above, or more than entries_max entries before the match.
 * Source: Linux, security/integrity/ima/ima_fs.c (ima_measurements_show), ima_crypto.c (ima_calc_field_array_hash),
 * ima_queue.c (a violation extends with ones). */
TCCP_MUST_USE tccp_status tccp_ima_replay(const uint8_t *list, size_t list_len, size_t column_len, uint16_t bank,
                                          uint32_t pcr, const uint8_t *start, const uint8_t *target,
                                          tccp_ima_entry *entries, size_t entries_max, size_t *ret_count,
                                          tccp_ima_replayed *ret_replayed);

/* A list in ASCII as its binary form with a column of 20 bytes, of which only "all zeros" means anything.
 * Twice text_len and 64 bytes are always room enough. Paths with a line end in them cannot be told from two entries. */
TCCP_MUST_USE tccp_status tccp_ima_from_text(const uint8_t *text, size_t text_len, uint8_t *list, size_t list_max,
                                             size_t *ret_len);

/* ---- IMA policies, compiled (ima_policy.c, ima_judge.c, ima_signature.c) --------------------------------------- */

#define TCCP_IMA_POLICY_BYTES_MAX 1073741824
#define TCCP_IMA_POLICY_RULES_MAX 4096
#define TCCP_IMA_POLICY_KEYS_MAX 64

/* What a policy says of an entry; from TCCP_IMA_REFUSED on it is refused. */
typedef enum tccp_ima_verdict {
    TCCP_IMA_LISTED = 0,           /* the digest is in the list, for this path or for all */
    TCCP_IMA_SIGNED = 1,           /* by a key of the keyring, and its path is one that a signature is enough for */
    TCCP_IMA_EXCLUDED = 2,         /* the path is one that is not judged */
    TCCP_IMA_BOOT_AGGREGATE = 3,   /* the hash of the boot's PCRs, first of all */
    TCCP_IMA_BUFFER = 4,           /* a buffer that is listed, or whose name is enough */
    TCCP_IMA_VIOLATION_ALLOWED = 5,
    TCCP_IMA_REFUSED = 16,
    TCCP_IMA_NOT_LISTED = 16,      /* neither listed, nor signed, nor excluded */
    TCCP_IMA_BAD_SIGNATURE = 17,   /* a signature should be enough, and no key of the keyring made it */
    TCCP_IMA_WEAK_DIGEST = 18,     /* SHA-1, MD5 or a kind that we do not know */
    TCCP_IMA_VIOLATION = 19,       /* a file was written while it was measured */
    TCCP_IMA_WRONG_AGGREGATE = 20, /* a boot aggregate of another boot, or one that stands too late */
    TCCP_IMA_BUFFER_NOT_LISTED = 21,
    TCCP_IMA_BUFFER_ALTERED = 22,  /* the buffer in the list is not the one that was measured */
    TCCP_IMA_UNKNOWN_TEMPLATE = 23,
    TCCP_IMA_OTHER_PCR = 24        /* measured into a PCR that nobody looks at */
} tccp_ima_verdict;

/* A compiled policy; read by any number of threads at once. */
typedef struct tccp_ima_policy tccp_ima_policy;

/* Check a compiled policy (docs/POLICIES.md has the bytes) and make it ready. file is not copied: it stays mapped, and is
 * not changed, until the policy is freed. sha256: what the policy's file must hash to, 32 bytes.
 * TCCP_ERR_ROOT: it is another file. TCCP_ERR_MALFORMED, TCCP_ERR_TOO_LARGE, TCCP_ERR_UNSUPPORTED (a key). */
TCCP_MUST_USE tccp_status tccp_ima_policy_open(const uint8_t *file, size_t file_len, const uint8_t *sha256,
                                               tccp_ima_policy **ret_policy);

void tccp_ima_policy_free(tccp_ima_policy *policy);

uint64_t tccp_ima_policy_records(const tccp_ima_policy *policy);

/* Is this digest listed for this path? digest_bank as in tccp_ima_entry. TCCP_OK or TCCP_ERR_UNTRUSTED. */
TCCP_MUST_USE tccp_status tccp_ima_policy_find(const tccp_ima_policy *policy, uint32_t digest_bank, const uint8_t *digest,
                                               const uint8_t *path, size_t path_len);

/* Judge entries that a replay has proved.
 *   first_number     how many entries of this boot came before entries[0]
 *   pcr              the PCR that was replayed
 *   aggregates       digests that a boot aggregate may have, each of 1 byte digest_bank and 64 bytes (padded)
 *   ret_verdicts     a tccp_ima_verdict for each entry */
TCCP_MUST_USE tccp_status tccp_ima_judge(const tccp_ima_policy *policy, const uint8_t *list, size_t list_len,
                                         const tccp_ima_entry *entries, size_t count, uint64_t first_number,
                                         uint32_t pcr, const uint8_t *aggregates, size_t aggregates_count,
                                         uint8_t *ret_verdicts, size_t *ret_refused);

/* cffi] */

#endif /* TCCP_TCCP_IMA_H */
