/* lanes.c: what eight lanes verify faster than libcrypto, be it eight signatures at once or the pieces of one: RSA by
 * lanes_rsa.c and P-256 by p256.c, which compute nothing again that follows from the key, P-384 by crypto_mb.
 *
 * All eight lanes are worked through whether they are wanted or not; those that are not get the first one's numbers.
 */
#include "lanes.h"

#include <string.h>

#include "tpm_public.h"

size_t lanes_kind(const tccp_ak *ak)
{
    switch (ak->info.bits) {
    case 256: return 0;
    case 384: return 1;
    case 2048: return 2;
    case 3072: return 3;
    default: return 4;
    }
}

#ifdef TCCP_HAVE_LANES

#include <pthread.h>

#ifdef TCCP_HAVE_CRYPTO_MB
#include <crypto_mb/cpu_features.h>
#include <crypto_mb/ec_nistp384.h>
#endif

#include "lanes_rsa.h"

/* From how many signatures on it is quicker to give each its lane. */
enum { RSA_TOGETHER_FROM = 5, P256_TOGETHER_FROM = 5 };

static int available, p384_available;
static pthread_once_t decided = PTHREAD_ONCE_INIT;

static void decide(void)
{
    available = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
#ifdef TCCP_HAVE_CRYPTO_MB
    p384_available = available && mbx_is_crypto_mb_applicable(mbx_get_cpu_features());
#endif
}

int tccp_lanes_available(void)
{
    return pthread_once(&decided, decide) == 0 && available;
}

bool lanes_take(const tccp_ak *ak)
{
    return tccp_lanes_available() && (ak->info.type == TPM_ALG_RSA || ak->multiples != NULL || p384_available);
}

static tccp_status status_of(bool good)
{
    return good ? TCCP_OK : TCCP_ERR_SIGNATURE;
}

static void verify_rsa(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    uint8_t encoded[LANES][TCCP_RSA_BYTES_MAX];
    const tccp_ak *aks[LANES];
    const uint8_t *signatures[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        const signature_check *check = &checks[lane < n ? lane : 0];
        aks[lane] = check->ak;
        signatures[lane] = check->rsa;
    }
    if (n >= RSA_TOGETHER_FROM)
        lanes_rsa_power(aks, signatures, encoded);
    else
        for (size_t i = 0; i < n; i++)
            lanes_rsa_power_one(aks[i], signatures[i], encoded[i]);
    for (size_t i = 0; i < n; i++)
        ret_verdicts[i] = status_of(signature_encoding_matches(&checks[i], encoded[i]));
}

static void verify_p256(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    static const tccp_status statuses[] = {
        [P256_GOOD] = TCCP_OK, [P256_BAD] = TCCP_ERR_SIGNATURE, [P256_NO_MEMORY] = TCCP_ERR_NO_MEMORY};
    uint8_t digests[LANES][TCCP_ECC_BYTES_MAX];
    p256_signature given[LANES];
    p256_verdict verdicts[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        const signature_check *check = &checks[lane < n ? lane : 0];
        signature_ecdsa_digest(check, digests[lane]);
        given[lane] = (p256_signature){check->ak->multiples, check->r, check->s, digests[lane]};
    }
    if (n >= P256_TOGETHER_FROM)
        p256_verify_eight(given, verdicts);
    else
        for (size_t i = 0; i < n; i++)
            verdicts[i] = p256_verify(&given[i]);
    for (size_t i = 0; i < n; i++)
        ret_verdicts[i] = statuses[verdicts[i]];
}

#ifdef TCCP_HAVE_CRYPTO_MB

/* crypto_mb refuses good signatures over a digest of zero, or not below the order. */
static bool digest_suits(const tccp_ak *ak, const uint8_t *digest)
{
    static const uint8_t zero[TCCP_ECC_BYTES_MAX];
    return memcmp(digest, zero, ak->bytes) != 0 && memcmp(digest, ak->order, ak->bytes) < 0;
}

static void verify_p384(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    uint8_t digests[LANES][TCCP_ECC_BYTES_MAX];
    const int8u *r[LANES], *s[LANES], *digest[LANES];
    const int64u *x[LANES], *y[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        const signature_check *check = &checks[lane < n ? lane : 0];
        signature_ecdsa_digest(check, digests[lane]);
        r[lane] = check->r;
        s[lane] = check->s;
        digest[lane] = digests[lane];
        x[lane] = (const int64u *) check->ak->x_words;
        y[lane] = (const int64u *) check->ak->y_words;
    }
    mbx_status done = mbx_nistp384_ecdsa_verify_mb8(r, s, digest, x, y, NULL, NULL);
    for (size_t lane = 0; lane < n; lane++) {
        if (!digest_suits(checks[lane].ak, digests[lane]))
            ret_verdicts[lane] = signature_verify_libcrypto(&checks[lane]);
        else
            ret_verdicts[lane] = status_of(MBX_GET_STS(done, (int) lane) == MBX_STATUS_OK);
    }
}

#else

static void verify_p384(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    for (size_t i = 0; i < n; i++)
        ret_verdicts[i] = signature_verify_libcrypto(&checks[i]);
}

#endif

void lanes_verify(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    if (checks[0].scheme != TPM_ALG_ECDSA)
        verify_rsa(checks, n, ret_verdicts);
    else if (checks[0].ak->multiples != NULL)
        verify_p256(checks, n, ret_verdicts);
    else
        verify_p384(checks, n, ret_verdicts);
}

#else /* built without lanes */

int tccp_lanes_available(void)
{
    return 0;
}

bool lanes_take(const tccp_ak *ak)
{
    return false;
}

void lanes_verify(const signature_check *checks, size_t n, tccp_status *ret_verdicts)
{
    for (size_t i = 0; i < n; i++)
        ret_verdicts[i] = signature_verify_libcrypto(&checks[i]);
}

#endif
