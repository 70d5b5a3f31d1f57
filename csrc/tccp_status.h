/* tccp_status.h: what every function of the core says, and what the core runs with.
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_STATUS_H
#define TCCP_TCCP_STATUS_H

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
    TCCP_ERR_IO = 4,             /* the operating system refused; errno tells why where a function says so */
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
    TCCP_ERR_REVOKED = 29,       /* whoever issued the certificate has taken it back */

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

/* cffi] */

#endif /* TCCP_TCCP_STATUS_H */
