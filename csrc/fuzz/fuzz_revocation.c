/* fuzz_revocation.c: any bytes as a file of revocations; and each list in it once more, signed by a certificate's issuer. */
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "../certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SERIAL = 5 };

static EVP_PKEY *key;
static X509 *issuer, *certificate;

/* Of itself, issued now: libcrypto answers for certificates that it has read. */
static X509 *make_certificate(void)
{
    uint8_t *der = NULL;
    X509 *made = X509_new();
    if (made == NULL || X509_set_pubkey(made, key) != 1 ||
        ASN1_INTEGER_set(X509_get_serialNumber(made), SERIAL) != 1 ||
        X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC, (const uint8_t *) "root", -1, -1, 0) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(made), 0) == NULL || X509_gmtime_adj(X509_getm_notAfter(made), 1) == NULL ||
        X509_sign(made, key, EVP_sha256()) <= 0)
        abort();
    int len = i2d_X509(made, &der);
    const uint8_t *at = der;
    X509_free(made);
    made = d2i_X509(NULL, &at, len);
    OPENSSL_free(der);
    if (made == NULL)
        abort();
    return made;
}

static void make_once(void)
{
    if (key != NULL)
        return;
    key = EVP_EC_gen("P-256");
    if (key == NULL)
        abort();
    issuer = make_certificate();
    certificate = make_certificate();
}

static tccp_authorities *with_lists(const uint8_t *data, size_t size)
{
    tccp_authorities *authorities = tccp_authorities_new();
    int64_t next_update_s;
    if (authorities == NULL)
        abort();
    bool loaded = tccp_authorities_add_revocations(authorities, data, size, &next_update_s) == TCCP_OK;
    if (loaded != (sk_X509_CRL_num(authorities->revocations) != 0) || tccp_authorities_count(authorities) != 0)
        abort();
    return authorities;
}

static bool names_certificate(X509_CRL *list)
{
    STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++)
        if (ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, i)),
                             X509_get0_serialNumber(certificate)) == 0)
            return true;
    return false;
}

/* A list that its issuer has signed refuses what it names and nothing else, unless it says that another key signed it. */
static void sign_and_check(X509_CRL *list)
{
    const char *why;
    uint8_t *der = NULL;
    bool named = names_certificate(list);
    bool names_key = X509_CRL_get_ext_by_NID(list, NID_authority_key_identifier, -1) >= 0;
    if (X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer)) != 1 || X509_CRL_sign(list, key, EVP_sha256()) <= 0)
        return; /* what may be read need not be written again */
    int len = i2d_X509_CRL(list, &der);
    if (len <= 0)
        return;
    tccp_authorities *authorities = with_lists(der, (size_t) len);
    if (sk_X509_CRL_num(authorities->revocations) == 1) {
        tccp_status verdict = revocations_check(authorities, certificate, issuer, &why);
        if (verdict != (named ? TCCP_ERR_REVOKED : TCCP_OK) && !(names_key && verdict == TCCP_OK))
            abort();
    }
    tccp_authorities_free(authorities);
    OPENSSL_free(der);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why;
    make_once();
    tccp_authorities *authorities = with_lists(data, size);
    if (revocations_check(authorities, certificate, issuer, &why) == TCCP_ERR_REVOKED)
        abort(); /* the key was made a moment ago: nobody has signed with it */
    for (int i = 0; i < sk_X509_CRL_num(authorities->revocations); i++)
        sign_and_check(sk_X509_CRL_value(authorities->revocations, i));
    tccp_authorities_free(authorities);
    ERR_clear_error(); /* of the functions above that are called without the marks of their callers */
    return 0;
}
