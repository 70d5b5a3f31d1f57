/* revocation.c: the lists by which makers of TPMs take certificates back (CRLs), as an operator has fetched them.
 *
 * They are judged here, and not by libcrypto while it verifies a chain: that one looks for the one list that fits best, and
 * of two it takes an old one that is in date rather than a new one that is not. Here every list counts, whatever its date,
 * and all that it can do is to refuse: a certificate for whose issuer there is none is as good as without lists. What a
 * list could say beside that (changes of another list, certificates of other issuers, anything critical that is not known
 * here) is not understood, and such a list is not taken in the first place.
 */
#include "certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* ---- reading them ------------------------------------------------------------------------------------------------ */

static tccp_status load_der(const uint8_t *bytes, size_t len, STACK_OF(X509_CRL) *lists)
{
    const uint8_t *at = bytes;
    X509_CRL *list = d2i_X509_CRL(NULL, &at, (long) len);
    if (list == NULL || at != bytes + len) {
        X509_CRL_free(list);
        return TCCP_ERR_MALFORMED;
    }
    if (sk_X509_CRL_push(lists, list) == 0) {
        X509_CRL_free(list);
        return TCCP_ERR_NO_MEMORY;
    }
    return TCCP_OK;
}

static tccp_status load_pem(const uint8_t *bytes, size_t len, STACK_OF(X509_CRL) *lists)
{
    BIO *in = BIO_new_mem_buf(bytes, (int) len);
    if (in == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = TCCP_OK;
    while (status == TCCP_OK) {
        X509_CRL *list = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL);
        if (list == NULL) {
            if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
                status = TCCP_ERR_MALFORMED;
            break;
        }
        if (sk_X509_CRL_push(lists, list) == 0) {
            X509_CRL_free(list);
            status = TCCP_ERR_NO_MEMORY;
        }
    }
    BIO_free(in);
    return status == TCCP_OK && sk_X509_CRL_num(lists) == 0 ? TCCP_ERR_MALFORMED : status;
}

/* Is every critical extension one that is understood, and none there that makes the list about something else? */
static int extensions_understood(const STACK_OF(X509_EXTENSION) *extensions)
{
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); i++) {
        X509_EXTENSION *extension = sk_X509_EXTENSION_value(extensions, i);
        int kind = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (kind == NID_delta_crl || kind == NID_certificate_issuer)
            return 0;
        if (X509_EXTENSION_get_critical(extension) && kind != NID_issuing_distribution_point &&
            kind != NID_authority_key_identifier)
            return 0;
    }
    return 1;
}

/* Does the list name certificates of its own issuer? For a part of them only is no matter: what it names counts. */
static int names_issuers_own(const X509_CRL *list)
{
    int critical; /* -1: there is none */
    ISSUING_DIST_POINT *about = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, &critical, NULL);
    int own = about == NULL ? critical == -1 : about->indirectCRL <= 0 && about->onlyattr <= 0;
    ISSUING_DIST_POINT_free(about);
    return own;
}

static tccp_status check_understood(STACK_OF(X509_CRL) *lists)
{
    for (int i = 0; i < sk_X509_CRL_num(lists); i++) {
        X509_CRL *list = sk_X509_CRL_value(lists, i);
        if (!extensions_understood(X509_CRL_get0_extensions(list)) || !names_issuers_own(list))
            return TCCP_ERR_UNSUPPORTED;
        STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
        for (int k = 0; k < sk_X509_REVOKED_num(entries); k++)
            if (!extensions_understood(X509_REVOKED_get0_extensions(sk_X509_REVOKED_value(entries, k))))
                return TCCP_ERR_UNSUPPORTED;
    }
    return TCCP_OK;
}

/* When the first of the lists says that there will be another; INT64_MAX when none says so. */
static tccp_status read_next_update(STACK_OF(X509_CRL) *lists, int64_t *ret_seconds)
{
    int64_t first = INT64_MAX, next;
    for (int i = 0; i < sk_X509_CRL_num(lists); i++) {
        const ASN1_TIME *time = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(lists, i));
        if (time != NULL && !x509_time_s(time, &next))
            return TCCP_ERR_MALFORMED;
        if (time != NULL && next < first)
            first = next;
    }
    *ret_seconds = first;
    return TCCP_OK;
}

static tccp_status load(const uint8_t *bytes, size_t len, size_t max, STACK_OF(X509_CRL) *lists, int64_t *ret_next_s)
{
    tccp_status status = bytes[0] == 0x30 ? load_der(bytes, len, lists) : load_pem(bytes, len, lists);
    if (status == TCCP_OK && (size_t) sk_X509_CRL_num(lists) > max)
        status = TCCP_ERR_TOO_LARGE;
    if (status == TCCP_OK)
        status = check_understood(lists);
    return status == TCCP_OK ? read_next_update(lists, ret_next_s) : status;
}

tccp_status tccp_authorities_add_revocations(tccp_authorities *authorities, const uint8_t *lists, size_t lists_len,
                                             int64_t *ret_next_update_s)
{
    if (authorities == NULL || lists == NULL || ret_next_update_s == NULL)
        return TCCP_ERR_USAGE;
    if (lists_len > TCCP_AUTHORITIES_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    if (lists_len == 0)
        return TCCP_ERR_MALFORMED;
    STACK_OF(X509_CRL) *loaded = sk_X509_CRL_new_null();
    if (loaded == NULL)
        return TCCP_ERR_NO_MEMORY;
    int64_t next_s;
    size_t room = TCCP_REVOCATIONS_MAX - (size_t) sk_X509_CRL_num(authorities->revocations);
    ERR_set_mark();
    tccp_status status = load(lists, lists_len, room, loaded, &next_s);
    if (status == TCCP_OK && sk_X509_CRL_reserve(authorities->revocations, sk_X509_CRL_num(loaded)) != 1)
        status = TCCP_ERR_NO_MEMORY;
    (void) ERR_pop_to_mark();
    while (status == TCCP_OK && sk_X509_CRL_num(loaded) > 0)
        (void) sk_X509_CRL_push(authorities->revocations, sk_X509_CRL_shift(loaded)); /* there is room */
    if (status == TCCP_OK)
        *ret_next_update_s = next_s;
    sk_X509_CRL_pop_free(loaded, X509_CRL_free);
    return status;
}

/* ---- what they say of a certificate --------------------------------------------------------------------------- */

/* Authorities roll their keys over and keep their names: does the list say that it is signed by another key? */
static int is_by_another_key(const X509_CRL *list, X509 *issuer)
{
    AUTHORITY_KEYID *key = X509_CRL_get_ext_d2i(list, NID_authority_key_identifier, NULL, NULL);
    int another = key != NULL && X509_check_akid(issuer, key) != X509_V_OK;
    AUTHORITY_KEYID_free(key);
    return another;
}

tccp_status revocations_check(const tccp_authorities *authorities, const X509 *certificate, X509 *issuer,
                              const char **ret_why)
{
    for (int i = 0; i < sk_X509_CRL_num(authorities->revocations); i++) {
        X509_CRL *list = sk_X509_CRL_value(authorities->revocations, i);
        X509_REVOKED *entry;
        if (X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(issuer)) != 0 || is_by_another_key(list, issuer))
            continue;
        /* Somebody has put a wrong file there: to pass over it would be to pass over what it should have said. */
        if ((X509_get_key_usage(issuer) & KU_CRL_SIGN) == 0 || X509_CRL_verify(list, X509_get0_pubkey(issuer)) != 1) {
            *ret_why = "a list of revocations that its issuer has not signed, or may not sign";
            return TCCP_ERR_UNTRUSTED;
        }
        if (X509_CRL_get0_by_serial(list, &entry, X509_get0_serialNumber(certificate)) != 0) {
            *ret_why = "certificate revoked";
            return TCCP_ERR_REVOKED;
        }
    }
    return TCCP_OK;
}
