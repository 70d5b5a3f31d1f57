/* tccp.h: the whole interface of the C core.
 *
 * Contract of every function:
 *   - bytes in, a status and ret_ values out; ret_ values are written on TCCP_OK and left untouched otherwise;
 *   - nothing is logged, opened or kept between calls, except inside the opaque handles below;
 *   - every function may be called from any thread; a handle may be read by many threads at once;
 *   - a status says whose fault it is: below 16 ours, from 16 on the peer's bytes.
 *
 * Python sees exactly what stands between the two markers (csrc/build.py hands it to cffi).
 */
#ifndef TCCP_H
#define TCCP_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TCCP_MUST_USE __attribute__((warn_unused_result))
#else
#define TCCP_MUST_USE
#endif

/* [cffi */

/* ---- status ------------------------------------------------------------------------------------------------ */

typedef enum tccp_status {
    TCCP_OK = 0,
    TCCP_ERR_USAGE = 1,          /* a bug in our caller: a NULL, a length that cannot be */
    TCCP_ERR_INTERNAL = 2,       /* libcrypto or libsodium failed where it should not */
    TCCP_ERR_NO_MEMORY = 3,      /* an allocation failed */
    TCCP_ERR_IO = 4,             /* the operating system refused: the errno stands beside it */
    TCCP_ERR_CANCELLED = 5,      /* the caller asked for it */
    TCCP_ERR_NO_SPACE = 6,       /* a file of this host has no room left */

    TCCP_ERR_MALFORMED = 16,     /* the bytes are not the structure they claim to be */
    TCCP_ERR_TOO_LARGE = 17,     /* larger, or more of them, than we accept */
    TCCP_ERR_UNSUPPORTED = 18,   /* an algorithm, curve or key size that we do not accept */
    TCCP_ERR_SIGNATURE = 19,     /* the signature is not by this key over these bytes */
    TCCP_ERR_NOT_A_QUOTE = 20,   /* signed by the TPM, but not TPM_GENERATED, or another kind of attestation */
    TCCP_ERR_NONCE_MISMATCH = 21, /* genuine, but not an answer to our challenge */
    TCCP_ERR_SELECTION = 22,     /* another PCR bank or other PCR indices than we asked for */
    TCCP_ERR_PCR_DIGEST = 23,    /* the PCR values do not hash to the quoted digest */
    TCCP_ERR_KEY_ATTRIBUTES = 24, /* not a restricted signing key that never left its TPM; not an EK */
    TCCP_ERR_UNTRUSTED = 25,     /* no chain from the certificate to a configured authority */
    TCCP_ERR_KEY_MISMATCH = 26,  /* two keys that must be the same are not */
    TCCP_ERR_EXPIRED = 27,       /* a certificate is outside its validity */
    TCCP_ERR_TRUNCATED = 28,     /* the structure begins well and ends too early */

    TCCP_ERR_EXTENDED = 40,      /* there are bytes behind the end of the sealed image */
    TCCP_ERR_WRONG_KEY = 41,     /* the header commits to another key */
    TCCP_ERR_SUITE_ALTERED = 42, /* sealed with another cipher than the header says */
    TCCP_ERR_HEADER_ALTERED = 43, /* the header is not the one that was sealed with this key */
    TCCP_ERR_RECIPIENTS_ALTERED = 44, /* the wrapped keys are not those that a holder of the key put there */
    TCCP_ERR_TAGS_ALTERED = 45,  /* the tags of the chunks do not lead to the root */
    TCCP_ERR_TAGS_ZEROED = 46,   /* the same, and a page of them is all zeros: never written, or wiped */
    TCCP_ERR_CHUNK_ALTERED = 47, /* a chunk is not the one that was sealed at its place */
    TCCP_ERR_CHUNK_MOVED = 48,   /* the same, and it is another chunk of this image */
    TCCP_ERR_ROOT = 49,          /* a sealed image, but not the one that was asked for */

    TCCP_ERR_DISK_KEY = 64,      /* another key than the disk was made with */
    TCCP_ERR_DISK_CORRUPT = 65,  /* a part of the disk does not verify: altered, moved or cut */
    TCCP_ERR_DISK_ROOT = 66,     /* a genuine state of the disk, but not the one asked for: rolled back, or gone on */
    TCCP_ERR_DISK_BASE = 67,     /* made over another base image than the one given */
    TCCP_ERR_DISK_MARK = 68      /* the disk's history does not pass through the moment asked for: rolled back, or forked */
} tccp_status;

/* The stable lower-case name of a status: "nonce_mismatch"; "unknown" for a number that is none. */
const char *tccp_status_name(int status);

/* ---- library ----------------------------------------------------------------------------------------------- */

/* What the core runs with; the strings are the libraries' own and live as long as the process. */
typedef struct tccp_library_info {
    const char *openssl;         /* "3.0.17": the libcrypto that was loaded, not the one compiled against */
    const char *sodium;          /* "1.0.20" */
    int crypto_mb_built;         /* 1: built with Intel crypto_mb, which verifies 8 signatures by P-384 at once */
} tccp_library_info;

void tccp_library_versions(tccp_library_info *ret_info);

/* ---- public areas of TPM keys (tpm_public.c) ---------------------------------------------------------------- */

#define TCCP_RSA_BYTES_MAX 512
#define TCCP_ECC_BYTES_MAX 48
#define TCCP_DIGEST_BYTES_MAX 64
#define TCCP_TPM_NAME_BYTES_MAX 66
#define TCCP_SPKI_BYTES_MAX 600

/* TPMA_OBJECT (TPM 2.0 Library, Part 2, 8.3): the attributes that make a role. */
#define TCCP_TPM_FIXED_TPM 0x00000002
#define TCCP_TPM_FIXED_PARENT 0x00000010
#define TCCP_TPM_SENSITIVE_DATA_ORIGIN 0x00000020
#define TCCP_TPM_RESTRICTED 0x00010000
#define TCCP_TPM_DECRYPT 0x00020000
#define TCCP_TPM_SIGN 0x00040000

/* A parsed TPMT_PUBLIC. Numbers are TPM_ALG_ID and TPM_ECC_CURVE of the TCG Algorithm Registry. */
typedef struct tccp_tpm_public {
    uint16_t type;              /* TPM_ALG_RSA or TPM_ALG_ECC */
    uint16_t name_alg;          /* SHA-256, SHA-384 or SHA-512 */
    uint32_t attributes;        /* TPMA_OBJECT; no reserved bit is set */
    uint16_t symmetric_bits;    /* AES-CFB with so many bits; 0 for none */
    uint16_t scheme;            /* RSASSA, RSAPSS, OAEP, ECDSA, ECDH or TPM_ALG_NULL */
    uint16_t scheme_hash;       /* SHA-256, SHA-384 or SHA-512; 0 without a scheme */
    uint16_t key_bits;          /* RSA: 2048, 3072, 4096; ECC: 256, 384 */
    uint16_t curve;             /* NIST P-256 or P-384; 0 for RSA */
    size_t auth_policy_len;     /* 0, or the size of a digest of name_alg */
    uint8_t auth_policy[TCCP_DIGEST_BYTES_MAX];
    uint8_t rsa_modulus[TCCP_RSA_BYTES_MAX];   /* key_bits / 8 bytes, big-endian; the exponent is 65537 */
    uint8_t ecc_x[TCCP_ECC_BYTES_MAX];          /* key_bits / 8 bytes, padded */
    uint8_t ecc_y[TCCP_ECC_BYTES_MAX];
    size_t name_len;            /* name: name_alg || digest of the TPMT_PUBLIC, computed here */
    uint8_t name[TCCP_TPM_NAME_BYTES_MAX];
    size_t spki_len;            /* DER SubjectPublicKeyInfo; equal keys give equal bytes */
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t area_offset;         /* where the TPMT_PUBLIC began: 0, or 2 inside a TPM2B_PUBLIC */
} tccp_tpm_public;

/* Parse a TPMT_PUBLIC, or the TPM2B_PUBLIC around it; nothing may follow.
 * RSA 2048, 3072, 4096 with exponent 65537; ECC NIST P-256 and P-384, the point on its curve.
 * Other algorithms, SHA-1 among them, are TCCP_ERR_UNSUPPORTED, and so are RSA keys of the "ROCA" family.
 * Source: TPM 2.0 Library, Part 2, 12.2.4 (TPMT_PUBLIC); Part 1, 16 (names). */
TCCP_MUST_USE tccp_status tccp_tpm_public_parse(const uint8_t *public_area, size_t public_area_len,
                                                tccp_tpm_public *ret_public);

/* Is this what an attestation key must be: made inside its TPM, never to leave it, and signing nothing but what the
 * TPM itself made (fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, not decrypt, a signing scheme)?
 * TCCP_OK or TCCP_ERR_KEY_ATTRIBUTES. It says nothing about which TPM: that is what activation proves. */
TCCP_MUST_USE tccp_status tccp_tpm_public_check_ak(const tccp_tpm_public *public_area);

/* Is this what an endorsement key must be: the same, but restricted to decryption, with AES and no scheme? */
TCCP_MUST_USE tccp_status tccp_tpm_public_check_ek(const tccp_tpm_public *public_area);

/* ---- EK certificates (certificate.c, ek_certificate.c) ------------------------------------------------------- */

#define TCCP_CERTIFICATE_BYTES_MAX 65536
#define TCCP_CHAIN_MAX 16
#define TCCP_AUTHORITIES_BYTES_MAX 4194304
#define TCCP_AUTHORITIES_MAX 4096
#define TCCP_TPM_TEXT_BYTES 65
#define TCCP_X509_NAME_BYTES 1025
#define TCCP_SERIAL_BYTES 129
#define TCCP_DETAIL_BYTES 1280

/* The authorities that an operator trusts to certify endorsement keys, parsed once. Fill it, then share it. */
typedef struct tccp_authorities tccp_authorities;

/* An empty set: nothing is trusted. Freed by tccp_authorities_free; NULL when an allocation failed. */
tccp_authorities *tccp_authorities_new(void);
void tccp_authorities_free(tccp_authorities *authorities);

/* Add the certificates of a DER or PEM file, one or many, all or (after an error) none.
 * Each is trusted by itself: an intermediate authority needs no root above it, and what signed it does not matter.
 *   ret_count  how many certificates the file held
 * TCCP_ERR_KEY_ATTRIBUTES: a certificate among them may not sign certificates. */
TCCP_MUST_USE tccp_status tccp_authorities_add(tccp_authorities *authorities, const uint8_t *certificates,
                                               size_t certificates_len, size_t *ret_count);

/* Add certificates that may stand between an EK certificate and an authority, and are trusted in nothing. */
TCCP_MUST_USE tccp_status tccp_authorities_add_intermediates(tccp_authorities *authorities,
                                                             const uint8_t *certificates, size_t certificates_len,
                                                             size_t *ret_count);

/* How many different authorities are trusted. */
size_t tccp_authorities_count(const tccp_authorities *authorities);

/* What a verified EK certificate says. Texts are printable ASCII, empty where the certificate says nothing. */
typedef struct tccp_ek_certificate {
    size_t spki_len; /* DER SubjectPublicKeyInfo of the EK, in the same form as tccp_tpm_public's */
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    char manufacturer[TCCP_TPM_TEXT_BYTES]; /* "id:494E5443" */
    char model[TCCP_TPM_TEXT_BYTES];
    char version[TCCP_TPM_TEXT_BYTES];
    char subject[TCCP_X509_NAME_BYTES]; /* RFC 2253 */
    char issuer[TCCP_X509_NAME_BYTES];
    char serial[TCCP_SERIAL_BYTES]; /* hexadecimal */
    int64_t not_before_s;           /* seconds since 1970-01-01 UTC */
    int64_t not_after_s;
    uint8_t sha256[32];             /* of the certificate in DER, without what pads it */
    uint8_t authority_sha256[32];   /* of the authority that the chain ended at */
} tccp_ek_certificate;

/* Verify that a configured authority certified this endorsement key, directly or through intermediates.
 *   certificate    one certificate, DER or PEM; zeros or ones that fill an NV index may follow DER
 *   chain          files of intermediate certificates as the node gave them, chain_count of them; trusted in nothing
 *   now_s          when: every certificate of the chain must be valid then
 *   ret_detail     NULL, or what was found wrong, for our own log; written on failure, "" on success
 *
 * TCCP_ERR_UNTRUSTED       no chain to an authority, or a signature in it is wrong
 * TCCP_ERR_EXPIRED         a certificate of the chain is not valid at now_s
 * TCCP_ERR_KEY_ATTRIBUTES  certified, but not as an EK: an authority, another extended key usage, a signing key
 * TCCP_ERR_UNSUPPORTED     SHA-1 or weaker below the authority, a weak or strange key, an unknown critical extension
 *
 * Source: TCG EK Credential Profile for TPM Family 2.0, version 2.5, section 3; RFC 5280, section 6. */
TCCP_MUST_USE tccp_status tccp_ek_certificate_verify(const tccp_authorities *authorities, const uint8_t *certificate,
                                                     size_t certificate_len, const uint8_t *const *chain,
                                                     const size_t *chain_lens, size_t chain_count, int64_t now_s,
                                                     tccp_ek_certificate *ret_certificate,
                                                     char ret_detail[TCCP_DETAIL_BYTES]);

/* ---- credentials (credential.c) ------------------------------------------------------------------------------ */

#define TCCP_SECRET_BYTES 32
#define TCCP_ID_OBJECT_BYTES_MAX 100
#define TCCP_ENCRYPTED_SECRET_BYTES_MAX 512

/* What TPM2_ActivateCredential takes: the contents of its two TPM2B, without their lengths. */
typedef struct tccp_credential {
    size_t id_object_len; /* of TPM2B_ID_OBJECT */
    uint8_t id_object[TCCP_ID_OBJECT_BYTES_MAX];
    size_t encrypted_secret_len; /* of TPM2B_ENCRYPTED_SECRET */
    uint8_t encrypted_secret[TCCP_ENCRYPTED_SECRET_BYTES_MAX];
} tccp_credential;

/* Encrypt a secret so that only the TPM that holds the EK can read it, and only while the object with this name is
 * loaded in it: TPM2_MakeCredential, done in software.
 *   ek_public  TPMT_PUBLIC of the EK; TCCP_ERR_KEY_ATTRIBUTES when it is none
 *   ak_name    the name of the AK, computed by tccp_tpm_public_parse
 *   secret     TCCP_SECRET_BYTES
 * The seed and the ephemeral key are made here by libcrypto's generator, new in each call, and wiped.
 * Source: TPM 2.0 Library, Part 1, 24 (credential protection), B.10.4 (RSA), C.6.3 (ECC). */
TCCP_MUST_USE tccp_status tccp_credential_make(const uint8_t *ek_public, size_t ek_public_len, const uint8_t *ak_name,
                                               size_t ak_name_len, const uint8_t *secret, size_t secret_len,
                                               tccp_credential *ret_credential);

/* ---- firmware event logs (event_log.c, event_cover.c) -------------------------------------------------------- */

#define TCCP_EVENT_LOG_BYTES_MAX 4194304
#define TCCP_EVENT_LOG_EVENTS_MAX 65536
#define TCCP_EVENT_LOG_BANKS 4 /* SHA-1, SHA-256, SHA-384, SHA-512, in this order; bit i of a mask is bank i */
#define TCCP_EVENT_LOG_PCRS 24
#define TCCP_EVENT_LOG_DIGEST_BYTES 64

/* Where a log ends, and why. From TCCP_EVENT_LOG_TRUNCATED on it is damaged, and what follows is not known. */
typedef enum tccp_event_log_ending {
    TCCP_EVENT_LOG_CLEAN = 0,            /* with its last event */
    TCCP_EVENT_LOG_PADDED_ZEROS = 1,     /* only 0x00 follows, as in the rest of a table's buffer */
    TCCP_EVENT_LOG_PADDED_ONES = 2,      /* only 0xFF follows */
    TCCP_EVENT_LOG_TRUNCATED = 3,        /* an event runs past the end of the log */
    TCCP_EVENT_LOG_BAD_PCR = 4,          /* an event in a PCR that no TPM has */
    TCCP_EVENT_LOG_BAD_DIGESTS = 5,      /* no digest, one bank twice, or a bank that the header does not declare */
    TCCP_EVENT_LOG_SECOND_HEADER = 6,    /* the format cannot change within a log */
    TCCP_EVENT_LOG_BAD_LOCALITY = 7      /* StartupLocality twice, after PCR 0 was extended, or not 0, 3 or 4 */
} tccp_event_log_ending;

/* One event; offsets count from the start of the log. Neither pcr nor type nor the data is covered by a digest:
 * pcr is proved by the replay, the data only where covered_banks says so, and the type by nothing at all. */
typedef struct tccp_event {
    uint32_t pcr;
    uint32_t type;
    uint32_t data_offset;
    uint32_t data_len;
    uint32_t covered_offset;    /* the part of the data whose hash is the digest, often all of it */
    uint32_t covered_len;
    uint32_t digest_offsets[TCCP_EVENT_LOG_BANKS]; /* for each bank; meaningful where the bit of digest_banks is set */
    uint8_t digest_banks;       /* the banks for which the event carries a digest */
    uint8_t covered_banks;      /* the banks whose digest is the hash of the covered part; 0: no part was found */
    uint8_t extends;            /* 0 for EV_NO_ACTION, which extends nothing and is proved by nothing */
} tccp_event;

typedef struct tccp_event_log_info {
    uint32_t consumed;           /* bytes of header and whole events; where the ending was found */
    uint32_t ending;             /* tccp_event_log_ending */
    uint8_t crypto_agile;        /* 1: TCG_PCR_EVENT2 after a Spec ID header; 0: SHA-1 only, TCG_PCClientPCREvent */
    uint8_t confidential;        /* 1: indices are those of a confidential VM's measurement registers, 1 = RTMR 0 */
    uint8_t startup_locality;    /* of TPM2_Startup; also the last byte with which PCR 0 starts */
    uint8_t dynamic_launch;      /* 1: events in PCRs 17-22, which therefore started at 0 and not at FF.. */
    uint8_t banks;               /* mask of the banks that the log carries and that were wanted */
    uint8_t exit_boot_services;  /* mask of the banks in which "Exit Boot Services Returned with Success" is measured */
    uint32_t touched[TCCP_EVENT_LOG_BANKS]; /* for each bank, bit i: PCR i was extended */
    /* The replay: final values, or reset values where nothing was extended. */
    uint8_t pcrs[TCCP_EVENT_LOG_BANKS][TCCP_EVENT_LOG_PCRS][TCCP_EVENT_LOG_DIGEST_BYTES];
} tccp_event_log_info;

/* Parse a firmware event log and replay it.
 *   banks_wanted  mask of the banks to replay, all of them with 0x0F; the digests of others are skipped
 *   events        room for events_max events; the header of a crypto-agile log is not one of them
 * TCCP_OK also for a damaged log: what stands before the damage is returned, and ret_info->ending says what is wrong.
 * TCCP_ERR_TOO_LARGE: more than TCCP_EVENT_LOG_BYTES_MAX bytes or events_max events.
 * TCCP_ERR_TRUNCATED, TCCP_ERR_MALFORMED: there is no first event, or its header contradicts itself.
 * Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (events), 10.4.5.1 (Spec ID), 10.4.5.3
 * (StartupLocality); Intel TDX Virtual Firmware Design Guide (confidential VMs). */
TCCP_MUST_USE tccp_status tccp_event_log_parse(const uint8_t *log, size_t log_len, uint32_t banks_wanted,
                                               tccp_event *events, size_t events_max, size_t *ret_count,
                                               tccp_event_log_info *ret_info);

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

/* ---- attestation keys (ak.c) -------------------------------------------------------------------------------- */

/* An attestation key, parsed and checked once: what verifying with it needs stands ready in it. Never written after
 * it was made, so that any number of threads may verify with it at once; freed when none does any more. */
typedef struct tccp_ak tccp_ak;

/* From a DER SubjectPublicKeyInfo: RSA 2048, 3072 or 4096 with exponent 65537, or ECC P-256 or P-384 by name and with an
 * uncompressed point, in the one encoding that tccp_tpm_public_parse gives too. Such a key has no name and no scheme of
 * its own, and nobody can tell whether it is restricted: the caller knows it from an enrolment. */
TCCP_MUST_USE tccp_status tccp_ak_from_spki(const uint8_t *spki, size_t spki_len, tccp_ak **ret_ak);

/* From a TPMT_PUBLIC or TPM2B_PUBLIC; refused unless tccp_tpm_public_check_ak finds it to be an attestation key.
 * Quotes by it are then accepted in its own scheme and hash only. */
TCCP_MUST_USE tccp_status tccp_ak_from_tpm_public(const uint8_t *public_area, size_t public_area_len, tccp_ak **ret_ak);

/* NULL is allowed. */
void tccp_ak_free(tccp_ak *ak);

typedef struct tccp_ak_info {
    uint16_t type;              /* TPM_ALG_RSA or TPM_ALG_ECC */
    uint16_t bits;              /* 2048, 3072, 4096; 256, 384 */
    uint16_t scheme;            /* RSASSA, RSAPSS, ECDSA; TPM_ALG_NULL: any */
    uint16_t scheme_hash;       /* 0 without a scheme */
    size_t spki_len;
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t name_len;            /* 0 for a key from a SubjectPublicKeyInfo */
    uint8_t name[TCCP_TPM_NAME_BYTES_MAX];
} tccp_ak_info;

TCCP_MUST_USE tccp_status tccp_ak_describe(const tccp_ak *ak, tccp_ak_info *ret_info);

/* ---- quotes (quote.c) --------------------------------------------------------------------------------------- */

#define TCCP_ATTEST_BYTES_MAX 1024
#define TCCP_SIGNATURE_BYTES_MAX 1024
#define TCCP_NONCE_BYTES_MIN 16
#define TCCP_NONCE_BYTES_MAX 64
#define TCCP_QUALIFIED_NAME_BYTES_MAX 66
#define TCCP_EXTRA_DATA_BYTES_MAX 66
#define TCCP_PCR_COUNT 24
#define TCCP_PCR_SELECTIONS_MAX 16

/* What a peer sent, and what we asked of it. */
typedef struct tccp_quote_claim {
    const uint8_t *attest;      /* TPMS_ATTEST: exactly the bytes that the TPM signed */
    size_t attest_len;
    const uint8_t *signature;   /* TPMT_SIGNATURE */
    size_t signature_len;
    const uint8_t *nonce;       /* what extraData must be: 16 to 64 bytes */
    size_t nonce_len;
    const uint8_t *pcrs;        /* claimed values, ascending by index, without gaps */
    size_t pcrs_len;
    uint32_t pcr_mask;          /* which PCRs we asked for: bit i for PCR i, not 16 and not 23 */
    uint16_t bank;              /* in which bank: TPM_ALG_ID of SHA-256, SHA-384 or SHA-512 */
} tccp_quote_claim;

/* What a quote says (TPM 2.0 Library, Part 2, 10.12.8 TPMS_ATTEST, 10.12.1 TPMS_QUOTE_INFO, 10.11.1 TPMS_CLOCK_INFO). */
typedef struct tccp_quote {
    uint64_t clock_ms;          /* time the TPM was powered, since its owner last cleared it */
    uint64_t firmware_version;  /* as the TPM's maker counts them */
    uint32_t reset_count;       /* TPM resets: boots */
    uint32_t restart_count;     /* TPM restarts and resumes: suspends, since the last reset */
    uint16_t safe;              /* 1: no larger clock_ms was ever reported; 0 after an unorderly shutdown */
    uint16_t scheme;            /* of the signature: RSASSA, RSAPSS, ECDSA */
    uint16_t hash;              /* of the signature and of the PCR digest */
    uint16_t selection_count;
    uint16_t selection_banks[TCCP_PCR_SELECTIONS_MAX];
    uint32_t selection_masks[TCCP_PCR_SELECTIONS_MAX];
    size_t qualified_signer_len;
    uint8_t qualified_signer[TCCP_QUALIFIED_NAME_BYTES_MAX];
    size_t extra_data_len;
    uint8_t extra_data[TCCP_EXTRA_DATA_BYTES_MAX];
    size_t pcr_digest_len;
    uint8_t pcr_digest[TCCP_DIGEST_BYTES_MAX];
} tccp_quote;

/* Verify that the TPM with this AK quoted exactly the claimed PCR values, in answer to our nonce.
 *
 *   1. the signature, over attest: RSASSA, RSAPSS or ECDSA with SHA-256, SHA-384 or SHA-512, in the AK's own scheme when
 *      it has one. No byte of attest is interpreted before.          TCCP_ERR_UNSUPPORTED, TCCP_ERR_SIGNATURE
 *   2. the structure: TPM_GENERATED, a quote, nothing left over       TCCP_ERR_NOT_A_QUOTE, TCCP_ERR_MALFORMED
 *   3. the nonce, in constant time                                    TCCP_ERR_NONCE_MISMATCH
 *   4. one selection, of exactly our bank and our PCRs                TCCP_ERR_SELECTION
 *   5. the digest over the claimed values, by the hash of the signature (Part 3, 18.4 TPM2_Quote)
 *                                                                     TCCP_ERR_PCR_DIGEST
 *
 * That the AK is one of a genuine TPM is the caller's knowledge. */
TCCP_MUST_USE tccp_status tccp_quote_verify(const tccp_ak *ak, const tccp_quote_claim *claim, tccp_quote *ret_quote);

/* The same, with the claim in arguments: what is quickest to call from Python. */
TCCP_MUST_USE tccp_status tccp_quote_verify_parts(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                                  const uint8_t *signature, size_t signature_len,
                                                  const uint8_t *nonce, size_t nonce_len, uint16_t bank,
                                                  uint32_t pcr_mask, const uint8_t *pcrs, size_t pcrs_len,
                                                  tccp_quote *ret_quote);

/* The same for n claims, each by the AK of its index. ret_statuses[i] is the verdict on claims[i], and ret_quotes[i] is
 * written when that is TCCP_OK. Where the CPU can, eight signatures by RSA or P-384 keys of one kind are checked at once. */
TCCP_MUST_USE tccp_status tccp_quote_verify_batch(const tccp_ak *const *aks, const tccp_quote_claim *claims, size_t n,
                                                  tccp_status *ret_statuses, tccp_quote *ret_quotes);

#define TCCP_BATCH_MAX 65536
#define TCCP_PACKED_NUMBERS 6

/* The same, with the claims packed: what is quickest to fill from Python.
 *   packed   for each claim: attest, signature, nonce and PCR values, one behind the other, packed_len bytes in all
 *   numbers  for each claim: those four lengths, pcr_mask, bank */
TCCP_MUST_USE tccp_status tccp_quote_verify_packed(const tccp_ak *const *aks, const uint8_t *packed, size_t packed_len,
                                                   const uint32_t *numbers, size_t n, tccp_status *ret_statuses,
                                                   tccp_quote *ret_quotes);

/* Steps 1 and 2 alone: what a signed quote says, whoever asked for whatever whenever. It proves no present state of any
 * machine, and is for tools that show quotes. */
TCCP_MUST_USE tccp_status tccp_quote_inspect(const tccp_ak *ak, const uint8_t *attest, size_t attest_len,
                                             const uint8_t *signature, size_t signature_len, tccp_quote *ret_quote);

/* Whether signatures are verified in eight lanes: on a CPU with AVX-512 IFMA. */
int tccp_lanes_available(void);

/* ---- sealed images (image_*.c; docs/IMAGE_FORMAT.md) --------------------------------------------------------- */

#define TCCP_IMAGE_HEADER_BYTES 65536
#define TCCP_IMAGE_CHUNK_BYTES 65536
#define TCCP_IMAGE_KEY_BYTES 32
#define TCCP_IMAGE_RECIPIENT_BYTES 1216
#define TCCP_IMAGE_RECIPIENTS_MAX 50
#define TCCP_IMAGE_SIZE_MAX 17592186044416
#define TCCP_IMAGE_THREADS_MAX 64

#define TCCP_SUITE_AEGIS256 1
#define TCCP_SUITE_XCHACHA20_POLY1305 2

/* What the header of a sealed image says. */
typedef struct tccp_image_info {
    uint64_t size;              /* of the image, in bytes */
    uint64_t file_bytes;        /* of the sealed file */
    uint32_t suite;             /* TCCP_SUITE_... */
    uint32_t recipient_count;
    int is_signed;              /* 1: tenant and signature are there; nobody has verified them yet */
    uint8_t image_id[16];
    uint8_t file_nonce[16];
    uint8_t commitment[32];     /* to the image key */
    uint8_t tree[32];           /* RFC 6962 hash over the tag pages */
    uint8_t tenant[32];         /* Ed25519 */
    uint8_t signature[64];      /* Ed25519, over a domain separator and the root */
    uint8_t root[32];           /* what a ticket names: SHA-256 over a domain separator and the descriptor */
} tccp_image_info;

/* Shared with the caller while a job runs: it may read these at any time, and set cancel to 1. */
typedef struct tccp_image_progress {
    uint64_t total_bytes;       /* of the image; 0 while it is unknown */
    uint64_t done_bytes;
    int32_t cancel;
    int32_t os_error;           /* with TCCP_ERR_IO: the errno */
    uint64_t chunk;             /* with TCCP_ERR_CHUNK_...: which one */
    uint64_t moved_from;        /* with TCCP_ERR_CHUNK_MOVED: which one stands in its place */
} tccp_image_progress;

/* The key of one image, in locked memory. */
typedef struct tccp_image_key tccp_image_key;

/* A fresh random key, or one copied from 32 bytes, which are wiped. Freed and wiped by tccp_image_key_free, which takes
 * NULL too. */
TCCP_MUST_USE tccp_status tccp_image_key_generate(tccp_image_key **ret_key);
TCCP_MUST_USE tccp_status tccp_image_key_take(uint8_t *bytes, size_t bytes_len, tccp_image_key **ret_key);
void tccp_image_key_free(tccp_image_key *key);

/* The 32 bytes themselves, for wrapping; they live as long as the key. */
const uint8_t *tccp_image_key_bytes(const tccp_image_key *key);

/* The suite for new images on this CPU. */
uint32_t tccp_image_suite_of_cpu(void);

/* Parse header and recipients: the first TCCP_IMAGE_HEADER_BYTES of a sealed image, in a file of file_bytes.
 * Nothing in it has been verified after that; the structure is canonical, the file exactly as long as it must be.
 * TCCP_ERR_MALFORMED, TCCP_ERR_UNSUPPORTED (version or suite), TCCP_ERR_TRUNCATED, TCCP_ERR_EXTENDED. */
TCCP_MUST_USE tccp_status tccp_image_header_parse(const uint8_t *header, size_t header_len, uint64_t file_bytes,
                                                  tccp_image_info *ret_info);

/* Check a parsed header against the image key: the commitment (TCCP_ERR_WRONG_KEY, TCCP_ERR_SUITE_ALTERED), the MAC
 * over the header (TCCP_ERR_HEADER_ALTERED) and the MAC over the recipients (TCCP_ERR_RECIPIENTS_ALTERED). */
TCCP_MUST_USE tccp_status tccp_image_header_check(const uint8_t *header, size_t header_len,
                                                  const tccp_image_info *info, const tccp_image_key *key);

/* Write the header of an image that was sealed with this key.
 *   info        from tccp_image_seal or tccp_image_header_parse; the root is computed here anew
 *   recipients  recipient_count entries of TCCP_IMAGE_RECIPIENT_BYTES */
TCCP_MUST_USE tccp_status tccp_image_header_write(const tccp_image_info *info, const uint8_t *recipients,
                                                  size_t recipients_len, const tccp_image_key *key,
                                                  uint8_t *ret_header, size_t header_len);

/* Encrypt what source_fd gives into target_fd, an empty regular file; the room for the header stays free.
 * A regular file as source is read from its beginning, holes are skipped; anything else is read to its end.
 * ret_info has a fresh id and file nonce, size, commitment, tree and root. */
TCCP_MUST_USE tccp_status tccp_image_seal(int source_fd, int target_fd, const tccp_image_key *key, uint32_t suite,
                                          uint32_t threads, tccp_image_progress *progress, tccp_image_info *ret_info);

/* Verify the tags of image_fd against info, which came from tccp_image_header_parse: no key is needed, and no data is
 * read. TCCP_ERR_TAGS_ALTERED, TCCP_ERR_TAGS_ZEROED. */
TCCP_MUST_USE tccp_status tccp_image_check_tags(int image_fd, const tccp_image_info *info,
                                                tccp_image_progress *progress);

/* Decrypt image_fd into target_fd: an empty regular file, which gets holes; or, with in_order, whatever it is, from where
 * it stands to its end. What is no regular file is always written in order.
 * With target_fd -1 everything is verified and nothing written. Tags are checked first, as tccp_image_check_tags does;
 * nothing of a chunk is written before its own tag was verified. The caller has checked the header with this key.
 * TCCP_ERR_TAGS_..., TCCP_ERR_CHUNK_ALTERED, TCCP_ERR_CHUNK_MOVED. */
TCCP_MUST_USE tccp_status tccp_image_open(int image_fd, int target_fd, int in_order, const tccp_image_info *info,
                                          const tccp_image_key *key, uint32_t threads, tccp_image_progress *progress);
/* ---- live disks (disk.c; the format is docs/DISK_FORMAT.md) ---------------------------------------------------- */

#define TCCP_DISK_BLOCK_BYTES 4096
#define TCCP_DISK_KEY_BYTES 32
#define TCCP_DISK_ROOT_BYTES 32
#define TCCP_DISK_MARK_BYTES 40
#define TCCP_DISK_LOG_BYTES_DEFAULT 67108864

/* A key in locked memory that no core dump shows; wiped when freed. */
typedef struct tccp_disk_key tccp_disk_key;

/* Read a key from a descriptor: exactly TCCP_DISK_KEY_BYTES until its end. The descriptor stays open. */
TCCP_MUST_USE tccp_status tccp_disk_key_read(int descriptor, tccp_disk_key **ret_key);
void tccp_disk_key_free(tccp_disk_key *key);

/* What a disk shows where nothing has been written yet. It outlives the disk; read is called by many threads at once. */
typedef struct tccp_disk_base {
    void *context;
    uint64_t blocks;            /* beyond these, zeros */
    uint8_t root[TCCP_DISK_ROOT_BYTES];  /* names the base; the disk is bound to it */
    /* Fill buffer with count blocks from block on, all of them inside the base, all of them verified. */
    tccp_status (*read)(void *context, uint64_t block, uint32_t count, uint8_t *buffer);
    /* Whether a block inside the base is known to be zeros without reading it; may be NULL. */
    int (*is_zero)(void *context, uint64_t block);
} tccp_disk_base;

/* A sealed image as a base. Its key is the disk's: what is derived from it differs by purpose and by id.
 *   image   a descriptor that stays open as long as the base
 *   root    TCCP_DISK_ROOT_BYTES that name the image, or NULL: a disk that exists accepts no other than its own base
 * Statuses are those of sealed images. */
TCCP_MUST_USE tccp_status tccp_disk_base_open(int image, const tccp_disk_key *key, const uint8_t *root,
                                              tccp_disk_base **ret_base);
void tccp_disk_base_close(tccp_disk_base *base);

typedef struct tccp_disk tccp_disk;

typedef struct tccp_disk_info {
    uint8_t disk_id[16];
    uint8_t root[TCCP_DISK_ROOT_BYTES];       /* of the last checkpoint: after tccp_disk_close_clean, of everything */
    uint8_t base_root[TCCP_DISK_ROOT_BYTES];  /* zeros without a base */
    uint8_t mark[TCCP_DISK_MARK_BYTES];       /* of this moment; only a disk that is open for reading will know it later */
    uint32_t suite;
    uint64_t base_blocks;
    uint64_t size_bytes;
    uint64_t generation;        /* checkpoints so far */
    uint64_t sequence;          /* commits so far */
    uint64_t replayed;          /* commits after the last checkpoint that were found when it was opened */
    uint64_t dropped;           /* 1: the last commit was torn by a crash, and no flush had answered yet */
    uint64_t data_blocks;       /* blocks with contents of their own */
    uint64_t zero_blocks;       /* blocks discarded or written with zeros */
    uint64_t slots;             /* room in the file, in blocks */
    uint64_t slots_free;
} tccp_disk_info;

/* Make a disk in an empty file, or in what a call of this that was killed has left. size_bytes is a multiple of the block size and not smaller than the base; log_bytes is a
 * multiple of the block size from 65536 on. base may be NULL. The suite is as for sealed images. */
TCCP_MUST_USE tccp_status tccp_disk_create(int file, const tccp_disk_key *key, const tccp_disk_base *base,
                                           uint32_t suite, uint64_t size_bytes, uint64_t log_bytes);

/* What a disk must be to be opened; each may be NULL, and then any is taken.
 *   root   TCCP_DISK_ROOT_BYTES: it must stand exactly as when that root was returned
 *   mark   TCCP_DISK_MARK_BYTES: its history must pass through that moment. Remembered are 64: the one that was last
 *          demanded or said to be kept, and the newest that came from tccp_disk_mark or that it was opened at */
typedef struct tccp_disk_demand {
    const uint8_t *root;
    const uint8_t *mark;
} tccp_disk_demand;

/* Open a disk, and bring it to the last state that a flush answered for, or a later one.
 *   demand      may be NULL. TCCP_ERR_DISK_ROOT, TCCP_ERR_DISK_MARK
 *   read_only   nothing is written to the file
 * The caller has locked the file against a second process; the descriptor must stay open as long as the disk. */
TCCP_MUST_USE tccp_status tccp_disk_open(int file, const tccp_disk_key *key, const tccp_disk_base *base,
                                         const tccp_disk_demand *demand, int read_only, tccp_disk **ret_disk);

/* Read, write and zero any bytes inside the disk; from any number of threads. A write is durable when a flush that began
 * after its end has returned TCCP_OK. After a failed flush every write and flush fails. */
TCCP_MUST_USE tccp_status tccp_disk_read(tccp_disk *disk, uint64_t offset, size_t len, uint8_t *buffer);
TCCP_MUST_USE tccp_status tccp_disk_write(tccp_disk *disk, uint64_t offset, size_t len, const uint8_t *bytes);
TCCP_MUST_USE tccp_status tccp_disk_zero(tccp_disk *disk, uint64_t offset, uint64_t len);
TCCP_MUST_USE tccp_status tccp_disk_flush(tccp_disk *disk);

/* Whether the len bytes from offset on begin with data (1) or with a hole that reads as zeros (0), and for how long. */
TCCP_MUST_USE tccp_status tccp_disk_extent(tccp_disk *disk, uint64_t offset, uint64_t len, int *ret_is_data,
                                           uint64_t *ret_len);

/* Verify count blocks from block on, those of the base included. ret_bad counts those that do not, ret_first_bad is the
 * first of them. TCCP_OK also when some are bad. */
TCCP_MUST_USE tccp_status tccp_disk_verify(tccp_disk *disk, uint64_t block, uint64_t count, uint64_t *ret_bad,
                                           uint64_t *ret_first_bad);

/* Grow a disk that nobody is using; durable on return. */
TCCP_MUST_USE tccp_status tccp_disk_grow(tccp_disk *disk, uint64_t size_bytes);

/* Start a thread of the disk's own, until it is closed or freed: it makes room in the file ready before it is needed, and
 * commits when much was written and nobody flushes. Nothing for a disk that is open for reading, or has one. */
TCCP_MUST_USE tccp_status tccp_disk_keeper_start(tccp_disk *disk);

/* Give the room of all free slots back to the file system. The disk may be in use: other calls go on meanwhile, but for
 * the moments in which a window of slots is looked at or the file is shortened. */
TCCP_MUST_USE tccp_status tccp_disk_compact(tccp_disk *disk, uint64_t *ret_freed_bytes);

void tccp_disk_describe(tccp_disk *disk, tccp_disk_info *ret_info);

/* The moment that the disk's history has come to: whoever demands it later gets this state or one that came after it. It
 * holds what the last flush has answered for. Cheap; from any thread. */
TCCP_MUST_USE tccp_status tccp_disk_mark(tccp_disk *disk, uint8_t *ret_mark);

/* Say that a mark is kept where it is safe: it will be remembered until this is said of a newer one, and older ones are
 * forgotten. TCCP_ERR_DISK_MARK: it is not remembered. */
TCCP_MUST_USE tccp_status tccp_disk_mark_kept(tccp_disk *disk, const uint8_t *mark);

/* Write everything, and return the root of what the disk now is. The disk is not usable any more, only to be freed. */
TCCP_MUST_USE tccp_status tccp_disk_close_clean(tccp_disk *disk, uint8_t *ret_root);

/* Forget a disk and wipe its keys. What no flush answered for may be lost. */
void tccp_disk_free(tccp_disk *disk);

/* Serve a disk over NBD to whoever connects to a listening stream socket, up to 16 at a time, until `stop` can be read.
 * Every connection has been ended and its thread joined on return; nothing is flushed. Starts the disk's keeper. */
TCCP_MUST_USE tccp_status tccp_nbd_serve(tccp_disk *disk, int listener, int stop);

/* Before the process reads a key: no core dumps, no debugger of the same user, no privileges by executing. For good. */
TCCP_MUST_USE tccp_status tccp_disk_process_harden(void);

/* Before it serves: only the system calls that serving and ending need; any other is refused. For good, for all threads.
 * TCCP_ERR_UNSUPPORTED on architectures whose calls are not listed. */
TCCP_MUST_USE tccp_status tccp_disk_process_confine(void);

/* ---- children (child.c) ---------------------------------------------------------------------------------------- */

#define TCCP_CHILD_DESCRIPTORS_MAX 64
#define TCCP_CHILD_SAME_USER 0xFFFFFFFF
#define TCCP_CHILD_NO_GROUP 0xFFFFFFFF

/* A program to start as a child, and what it may do. In any case it is in a session of its own, leaves no core file, and
 * is killed when the thread that started it ends. It has no capabilities and can never get more privileges; and it has
 * namespaces of its own for users, network, IPC and host name, all empty. */
typedef struct tccp_child {
    int program;                    /* descriptor of an executable file; one that the child cannot read makes the child
                                       undumpable: neither debuggers nor /proc/PID/mem are for its own user then */
    const char *const *arguments;   /* with the program's name first, NULL at the end */
    const char *const *environment; /* "NAME=value", NULL at the end */
    const int *descriptors;         /* they become 3, 4 ... in the child, in this order; it has no others but 0, 1, 2 */
    size_t descriptor_count;
    int output;                     /* becomes 1 and 2; 0 is /dev/null */
    uint32_t user;                  /* or TCCP_CHILD_SAME_USER: then the groups stay, too */
    uint32_t extra_group;           /* beside the group with the number of the user, or TCCP_CHILD_NO_GROUP */
    uint64_t file_bytes_max;        /* RLIMIT_FSIZE */
    uint64_t files_max;             /* RLIMIT_NOFILE */
    uint64_t memory_bytes_max;      /* RLIMIT_AS */
    uint64_t tasks_max;             /* RLIMIT_NPROC, all of its user's together; not for the same user */
    int keeps_privileges;           /* not 0: until it calls tccp_child_give_up; `user` is of no account then */
    const char *const *readable;    /* files and folders that it may read and execute; NULL: what its user may */
    const char *const *writable;    /* ... and change: plain files, where it is a folder; only beside readable */
} tccp_child;

/* Where starting a child failed. */
typedef enum tccp_child_step {
    TCCP_CHILD_START = 1,
    TCCP_CHILD_LIMITS = 2,
    TCCP_CHILD_USER = 3,
    TCCP_CHILD_NETWORK = 4,
    TCCP_CHILD_PRIVILEGES = 5,
    TCCP_CHILD_FILES = 6,
    TCCP_CHILD_EXECUTE = 7
} tccp_child_step;

/* Start a child; on return it executes its program. The caller waits for ret_pid and closes ret_pidfd.
 * TCCP_ERR_IO with errno and *ret_step: nothing was started. */
TCCP_MUST_USE tccp_status tccp_child_start(const tccp_child *child, int *ret_pid, int *ret_pidfd, int *ret_step);

/* In a child that kept its privileges to start with: become `user`, leave all namespaces and privileges behind, and be
 * killed when `parent`, whose child this is, ends. For good. Before there is a second thread. */
TCCP_MUST_USE tccp_status tccp_child_give_up(uint32_t user, int parent, int *ret_step);

/* ---- the keeper (keeper.c) -------------------------------------------------------------------------------------- */

#define TCCP_KEEPER_GUARDED_MAX 8192

/* End processes when their time is over, or when whoever gave it has gone. Returns, when all of them are killed, once
 * the other end of *control*, a SOCK_SEQPACKET socket, is closed or says something else than
 *
 *     8 bytes                     the deadline for all of them: nanoseconds of CLOCK_BOOTTIME; said again in answer
 *     8 bytes and a descriptor    of a process (pidfd) that is guarded until it has ended
 *
 * Before the first deadline, and after one has passed, whatever is handed over is killed at once; so is one too many.
 * Keeps of its privileges the one to kill, for good. TCCP_ERR_IO with errno: it could not begin. */
TCCP_MUST_USE tccp_status tccp_keeper_run(int control);

/* cffi] */

#endif /* TCCP_H */
