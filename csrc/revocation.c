/* revocation.c: the lists by which makers of TPMs take certificates back (CRLs), as an operator has fetched them.
 *
 * libcrypto judges them while it verifies a chain (X509_V_FLAG_CRL_CHECK): whether a list is of the certificate's
 * issuer and signed by it, and what it says. Two things differ here: a certificate for whose issuer there is no list is
 * as good as without lists, and an old list counts on. What it names stays revoked, and to refuse the whole maker
 * because nobody has fetched the next one would stop a cloud.
 */
#include "certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

enum { CHECKED = X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL }; /* what makes an EK's certificate count, too */

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

/* When the first of the lists says that there will be another; INT64_MAX when none says so. */
static tccp_status read_next_update(STACK_OF(X509_CRL) *lists, int64_t *ret_seconds)
{
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    if (epoch == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = TCCP_OK;
    *ret_seconds = INT64_MAX;
    for (int i = 0; status == TCCP_OK && i < sk_X509_CRL_num(lists); i++) {
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(lists, i));
        int days, seconds;
        if (next == NULL)
            continue;
        if (ASN1_TIME_diff(&days, &seconds, epoch, next) != 1)
            status = TCCP_ERR_MALFORMED;
        else if ((int64_t) days * 86400 + seconds < *ret_seconds)
            *ret_seconds = (int64_t) days * 86400 + seconds;
    }
    ASN1_TIME_free(epoch);
    return status;
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
    ERR_set_mark();
    tccp_status status = lists[0] == 0x30 ? load_der(lists, lists_len, loaded) : load_pem(lists, lists_len, loaded);
    if (status == TCCP_OK && (size_t) sk_X509_CRL_num(loaded) > TCCP_REVOCATIONS_MAX - authorities->lists)
        status = TCCP_ERR_TOO_LARGE;
    if (status == TCCP_OK)
        status = read_next_update(loaded, ret_next_update_s);
    if (status == TCCP_OK && X509_STORE_set_flags(authorities->trusted, CHECKED) != 1)
        status = TCCP_ERR_NO_MEMORY;
    for (int i = 0; status == TCCP_OK && i < sk_X509_CRL_num(loaded); i++) {
        if (X509_STORE_add_crl(authorities->trusted, sk_X509_CRL_value(loaded, i)) != 1)
            status = TCCP_ERR_NO_MEMORY;
        authorities->lists++;
    }
    (void) ERR_pop_to_mark();
    sk_X509_CRL_pop_free(loaded, X509_CRL_free);
    return status;
}

int revocation_is_tolerable(int error, int is_authority)
{
    switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_CRL: /* its issuer has none here */
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID: return 1;
    /* The chain ends at an authority, which is trusted by itself: whoever stands above it could not take it back. */
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_CERT_REVOKED: return is_authority;
    default: return 0;
    }
}
