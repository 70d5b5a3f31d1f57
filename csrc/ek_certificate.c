/* ek_certificate.c: did a trusted authority certify this endorsement key, and what does the certificate say?
 *
 *   EK certificate  <-  intermediates (given by the node, or configured)  <-  an authority of the operator's
 *
 * First the chain, then what the certificate may be used for, then what it says: nothing is read from a certificate
 * that no authority vouches for. libcrypto builds the chain. The strength of signatures and keys is judged here, not
 * by libcrypto's security level: that one also judges the EK's key, which it cannot read in every form that makers
 * use, and cannot tell a weak signature below an authority from one above it, which nobody relies on.
 */
#include "certificate.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { CHAIN_DEPTH_MAX = 8, AUTHORITY_SECURITY_BITS = 112 }; /* RSA-2048, P-256 and above */

/* tcg-kp-EKCertificate (TCG EK Credential Profile, 3.2.16). */
static const char *const EK_USAGE = "2.23.133.8.1";

/* For the operator's own eyes: the names are the peer's, in printable ASCII. */
static void explain(char *detail, const char *what, int depth, const X509 *certificate)
{
    if (detail == NULL)
        return;
    char subject[TCCP_X509_NAME_BYTES] = "?", issuer[TCCP_X509_NAME_BYTES] = "?";
    if (certificate != NULL) {
        (void) x509_name_text(X509_get_subject_name(certificate), subject, sizeof(subject));
        (void) x509_name_text(X509_get_issuer_name(certificate), issuer, sizeof(issuer));
    }
    (void) snprintf(detail, TCCP_DETAIL_BYTES, "%s (depth %d, subject \"%.400s\", issuer \"%.400s\")", what, depth,
                    subject, issuer);
}

/* ---- the chain ---------------------------------------------------------------------------------------------- */

/* Is every critical extension that libcrypto does not know one that says nothing about what the key may do?
 * Subject directory attributes tell the TPM's specification; some makers mark them critical. */
static int only_harmless_criticals(const X509 *certificate)
{
    for (int i = 0; i < X509_get_ext_count(certificate); i++) {
        X509_EXTENSION *extension = X509_get_ext(certificate, i);
        if (X509_EXTENSION_get_critical(extension) && !X509_supported_extension(extension) &&
            OBJ_obj2nid(X509_EXTENSION_get_object(extension)) != NID_subject_directory_attributes)
            return 0;
    }
    return 1;
}

/* A certificate whose key libcrypto cannot read, and its twin: the same but with a readable key, and so with a
 * signature that is none. libcrypto builds a chain for the twin; the signature of the original is checked here. */
typedef struct twins {
    X509 *original;
    X509 *twin; /* NULL when libcrypto can read the original */
} twins;

/* libcrypto takes the first issuer whose name fits. Authorities roll their keys over and keep their names, and some
 * makers leave out the identifiers that would tell them apart: so the signature must fit too. */
int ek_is_issued_by(X509_STORE_CTX *ctx, X509 *certificate, X509 *issuer)
{
    const twins *pair = X509_STORE_CTX_get_app_data(ctx);
    X509 *signed_one = certificate == pair->twin ? pair->original : certificate;
    return X509_check_issued(issuer, certificate) == X509_V_OK &&
           X509_verify(signed_one, X509_get0_pubkey(issuer)) == 1;
}

static int judge_chain_error(int ok, X509_STORE_CTX *ctx)
{
    if (ok || X509_STORE_CTX_get_error_depth(ctx) != 0)
        return ok;
    switch (X509_STORE_CTX_get_error(ctx)) {
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
        return only_harmless_criticals(X509_STORE_CTX_get_current_cert(ctx));
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: { /* of a twin: check_original looks at the other */
        const twins *pair = X509_STORE_CTX_get_app_data(ctx);
        return X509_STORE_CTX_get_current_cert(ctx) == pair->twin;
    }
    default: return 0;
    }
}

static tccp_status make_twin(const X509 *certificate, X509 **ret_twin)
{
    EVP_PKEY *key = ek_oaep_key(certificate);
    if (key == NULL)
        return TCCP_OK;
    X509 *twin = X509_dup(certificate);
    tccp_status status = TCCP_ERR_NO_MEMORY;
    if (twin != NULL && X509_set_pubkey(twin, key) == 1) {
        *ret_twin = twin;
        twin = NULL;
        status = TCCP_OK;
    }
    X509_free(twin);
    EVP_PKEY_free(key);
    return status;
}

static tccp_status check_original(STACK_OF(X509) *chain, X509 *original, char *detail)
{
    if (sk_X509_num(chain) >= 2 && X509_verify(original, X509_get0_pubkey(sk_X509_value(chain, 1))) == 1)
        return TCCP_OK;
    explain(detail, "certificate signature failure", 0, original);
    return TCCP_ERR_UNTRUSTED;
}

static tccp_status status_of_chain_error(int error)
{
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return TCCP_ERR_EXPIRED;
    case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
    case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
    case X509_V_ERR_INVALID_EXTENSION: return TCCP_ERR_MALFORMED;
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION: return TCCP_ERR_UNSUPPORTED;
    case X509_V_ERR_OUT_OF_MEM: return TCCP_ERR_NO_MEMORY;
    default: return TCCP_ERR_UNTRUSTED;
    }
}

static int is_strong_signature(X509 *certificate)
{
    int hash, key;
    if (X509_get_signature_info(certificate, &hash, &key, NULL, NULL) != 1)
        return 0;
    return (hash == NID_sha256 || hash == NID_sha384 || hash == NID_sha512) &&
           (key == EVP_PKEY_RSA || key == EVP_PKEY_RSA_PSS || key == EVP_PKEY_EC);
}

static int is_strong_authority(const X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    return key != NULL && EVP_PKEY_get_security_bits(key) >= AUTHORITY_SECURITY_BITS;
}

/* A signature by SHA-1 can be forged, so none counts. The authority's own is not relied upon: an operator who must
 * live with an intermediate that its root signed by SHA-1 configures the intermediate. */
static tccp_status check_strength(STACK_OF(X509) *chain, char *detail)
{
    int last = sk_X509_num(chain) - 1;
    for (int i = 0; i <= last; i++) {
        X509 *certificate = sk_X509_value(chain, i);
        if (i < last && !is_strong_signature(certificate)) {
            explain(detail, "signed by a weak or unknown algorithm", i, certificate);
            return TCCP_ERR_UNSUPPORTED;
        }
        if (i > 0 && !is_strong_authority(certificate)) {
            explain(detail, "an authority with a weak or unknown key", i, certificate);
            return TCCP_ERR_UNSUPPORTED;
        }
    }
    return TCCP_OK;
}

/* The authority at the end is trusted by itself: whoever stands above it could not take it back. */
static tccp_status check_revocations(const tccp_authorities *authorities, STACK_OF(X509) *chain, char *detail)
{
    tccp_status status = TCCP_OK;
    for (int i = 0; status == TCCP_OK && i + 1 < sk_X509_num(chain); i++) {
        const char *why;
        X509 *certificate = sk_X509_value(chain, i);
        status = revocations_check(authorities, certificate, sk_X509_value(chain, i + 1), &why);
        if (status != TCCP_OK)
            explain(detail, why, i, certificate);
    }
    return status;
}

static tccp_status build_chain(X509_STORE_CTX *ctx, int64_t now_s, char *detail)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_depth(param, CHAIN_DEPTH_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, 0);
    X509_VERIFY_PARAM_set_time(param, (time_t) now_s);
    /* Every configured certificate is an authority by itself, whether a root stands above it or not. */
    if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        return TCCP_ERR_INTERNAL;
    X509_STORE_CTX_set_verify_cb(ctx, judge_chain_error);
    if (X509_verify_cert(ctx) == 1)
        return TCCP_OK;
    int error = X509_STORE_CTX_get_error(ctx);
    explain(detail, X509_verify_cert_error_string(error), X509_STORE_CTX_get_error_depth(ctx),
            X509_STORE_CTX_get_current_cert(ctx));
    return status_of_chain_error(error);
}

static tccp_status check_chain(const tccp_authorities *authorities, X509_STORE_CTX *ctx, int64_t now_s,
                               tccp_ek_certificate *ek, char *detail)
{
    tccp_status status = build_chain(ctx, now_s, detail);
    if (status != TCCP_OK)
        return status;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    const X509 *authority = sk_X509_value(chain, sk_X509_num(chain) - 1);
    if (X509_digest(authority, EVP_sha256(), ek->authority_sha256, NULL) != 1)
        return TCCP_ERR_INTERNAL;
    const twins *pair = X509_STORE_CTX_get_app_data(ctx);
    if (pair->twin != NULL)
        status = check_original(chain, pair->original, detail);
    if (status == TCCP_OK)
        status = check_strength(chain, detail);
    return status == TCCP_OK ? check_revocations(authorities, chain, detail) : status;
}

/* ---- the role ----------------------------------------------------------------------------------------------- */

static int allows_ek_usage(const X509 *certificate)
{
    EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(certificate, NID_ext_key_usage, NULL, NULL);
    int found = 0;
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++)
        found |= x509_is_oid(sk_ASN1_OBJECT_value(usages, i), EK_USAGE);
    sk_ASN1_OBJECT_pop_free(usages, ASN1_OBJECT_free);
    return found;
}

/* An authority is no EK. Where the certificate names usages, an EK's must be among them: makers leave either
 * extension out, but a key that is certified for signing is an attestation key, whatever else is written there. */
static tccp_status check_role(X509 *certificate, char *detail)
{
    uint32_t flags = X509_get_extension_flags(certificate);
    uint32_t usage = X509_get_key_usage(certificate);
    const char *wrong = NULL;
    if ((flags & EXFLAG_CA) != 0 || ((flags & EXFLAG_KUSAGE) != 0 && (usage & KU_KEY_CERT_SIGN) != 0))
        wrong = "the certificate of an authority, not of an EK";
    else if ((flags & EXFLAG_KUSAGE) != 0 && (usage & (KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)) == 0)
        wrong = "the key usage allows neither key encipherment nor key agreement";
    else if ((flags & EXFLAG_XKUSAGE) != 0 && !allows_ek_usage(certificate))
        wrong = "the extended key usage does not name tcg-kp-EKCertificate";
    if (wrong == NULL)
        return TCCP_OK;
    explain(detail, wrong, 0, certificate);
    return TCCP_ERR_KEY_ATTRIBUTES;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static tccp_status load_ek(const uint8_t *bytes, size_t len, X509 **ret_certificate)
{
    STACK_OF(X509) *one = sk_X509_new_null();
    if (one == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = len > TCCP_CERTIFICATE_BYTES_MAX ? TCCP_ERR_TOO_LARGE : certificates_load(bytes, len, 1, one);
    if (status == TCCP_OK)
        *ret_certificate = sk_X509_pop(one);
    sk_X509_pop_free(one, X509_free);
    return status;
}

/* The certificates of the node, then those that are configured: libcrypto takes the first that fits. */
static tccp_status load_untrusted(const tccp_authorities *authorities, const uint8_t *const *chain,
                                  const size_t *chain_lens, size_t chain_count, STACK_OF(X509) *untrusted)
{
    for (size_t i = 0; i < chain_count; i++) {
        if (chain_lens[i] > TCCP_CERTIFICATE_BYTES_MAX)
            return TCCP_ERR_TOO_LARGE;
        tccp_status status = certificates_load(chain[i], chain_lens[i], TCCP_CHAIN_MAX, untrusted);
        if (status != TCCP_OK)
            return status;
    }
    int added = X509_add_certs(untrusted, authorities->intermediates, X509_ADD_FLAG_UP_REF);
    return added == 1 ? TCCP_OK : TCCP_ERR_NO_MEMORY;
}

static tccp_status verify(const tccp_authorities *authorities, X509 *certificate, STACK_OF(X509) *untrusted,
                          int64_t now_s, tccp_ek_certificate *ek, char *detail)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    twins pair = {.original = certificate};
    tccp_status status = make_twin(certificate, &pair.twin);
    X509 *readable = pair.twin == NULL ? certificate : pair.twin;
    if (status == TCCP_OK &&
        (ctx == NULL || X509_STORE_CTX_init(ctx, authorities->trusted, readable, untrusted) != 1 ||
         X509_STORE_CTX_set_app_data(ctx, &pair) != 1))
        status = TCCP_ERR_NO_MEMORY;
    if (status == TCCP_OK)
        status = check_chain(authorities, ctx, now_s, ek, detail);
    X509_STORE_CTX_free(ctx);
    X509_free(pair.twin);
    if (status == TCCP_OK)
        status = check_role(certificate, detail);
    if (status == TCCP_OK)
        status = ek_contents_read(certificate, ek);
    return status;
}

tccp_status tccp_ek_certificate_verify(const tccp_authorities *authorities, const uint8_t *certificate,
                                       size_t certificate_len, const uint8_t *const *chain, const size_t *chain_lens,
                                       size_t chain_count, int64_t now_s, tccp_ek_certificate *ret_certificate,
                                       char ret_detail[TCCP_DETAIL_BYTES])
{
    if (authorities == NULL || certificate == NULL || ret_certificate == NULL ||
        (chain_count != 0 && (chain == NULL || chain_lens == NULL)))
        return TCCP_ERR_USAGE;
    if (ret_detail != NULL)
        ret_detail[0] = '\0';
    if (chain_count > TCCP_CHAIN_MAX)
        return TCCP_ERR_TOO_LARGE;

    STACK_OF(X509) *untrusted = sk_X509_new_null();
    if (untrusted == NULL)
        return TCCP_ERR_NO_MEMORY;
    ERR_set_mark(); /* what is wrong with a peer's certificate is no error of this thread's next caller of libcrypto */
    X509 *loaded = NULL;
    tccp_ek_certificate ek = {0};
    tccp_status status = load_ek(certificate, certificate_len, &loaded);
    if (status == TCCP_OK)
        status = load_untrusted(authorities, chain, chain_lens, chain_count, untrusted);
    if (status == TCCP_OK)
        status = verify(authorities, loaded, untrusted, now_s, &ek, ret_detail);
    (void) ERR_pop_to_mark();
    if (status == TCCP_OK)
        *ret_certificate = ek;
    X509_free(loaded);
    sk_X509_pop_free(untrusted, X509_free);
    return status;
}
