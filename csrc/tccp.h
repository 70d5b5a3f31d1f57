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
    TCCP_ERR_TRUNCATED = 28      /* the structure begins well and ends too early */
} tccp_status;

/* The stable lower-case name of a status: "nonce_mismatch"; "unknown" for a number that is none. */
const char *tccp_status_name(int status);

/* cffi] */

#endif /* TCCP_H */
