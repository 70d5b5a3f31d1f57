/* certificate.c: certificates from DER and PEM, and the set of authorities that an operator trusts.
 *
 * TPM makers' certificates are read by libcrypto, which is lenient about encodings that stricter readers refuse
 * (sets out of order, serial number 0): what was signed is the bytes as they are, and these are kept.
 */
#include "certificate.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* ---- DER and PEM -------------------------------------------------------------------------------------------- */

static tccp_status append_der(const uint8_t **at, size_t len, size_t max, STACK_OF(X509) *certificates)
{
    if ((size_t) sk_X509_num(certificates) >= max)
        return TCCP_ERR_TOO_LARGE;
    const uint8_t *start = *at;
    X509 *certificate = d2i_X509(NULL, at, (long) len);
    if (certificate == NULL)
        return TCCP_ERR_MALFORMED;
    if ((size_t) (*at - start) > TCCP_CERTIFICATE_BYTES_MAX || sk_X509_push(certificates, certificate) == 0) {
        X509_free(certificate);
        return TCCP_ERR_TOO_LARGE;
    }
    return TCCP_OK;
}

/* An NV index is often larger than the certificate in it: erased flash is all zeros or all ones. */
static int is_padding(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != bytes[0])
            return 0;
    return len == 0 || bytes[0] == 0x00 || bytes[0] == 0xff;
}

static tccp_status load_der(const uint8_t *bytes, size_t len, size_t max, STACK_OF(X509) *certificates)
{
    const uint8_t *at = bytes;
    const uint8_t *end = bytes + len;
    do {
        tccp_status status = append_der(&at, (size_t) (end - at), max, certificates);
        if (status != TCCP_OK)
            return status;
    } while (!is_padding(at, (size_t) (end - at)));
    return TCCP_OK;
}

/* One block of PEM. *ret_end says that there was none left. */
static tccp_status load_pem_block(BIO *in, size_t max, STACK_OF(X509) *certificates, int *ret_end)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    if (PEM_read_bio(in, &name, &header, &der, &len) != 1) {
        *ret_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        return *ret_end ? TCCP_OK : TCCP_ERR_MALFORMED;
    }
    tccp_status status = TCCP_ERR_MALFORMED;
    if (strcmp(name, PEM_STRING_X509) == 0 && header[0] == '\0') {
        const uint8_t *at = der;
        status = append_der(&at, (size_t) len, max, certificates);
        if (status == TCCP_OK && at != der + len)
            status = TCCP_ERR_MALFORMED;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return status;
}

static tccp_status load_pem(const uint8_t *bytes, size_t len, size_t max, STACK_OF(X509) *certificates)
{
    BIO *in = BIO_new_mem_buf(bytes, (int) len);
    if (in == NULL)
        return TCCP_ERR_NO_MEMORY;
    int end = 0;
    tccp_status status = TCCP_OK;
    while (status == TCCP_OK && !end)
        status = load_pem_block(in, max, certificates, &end);
    BIO_free(in);
    return status == TCCP_OK && sk_X509_num(certificates) == 0 ? TCCP_ERR_MALFORMED : status;
}

tccp_status certificates_load(const uint8_t *bytes, size_t len, size_t max, STACK_OF(X509) *certificates)
{
    if (len == 0)
        return TCCP_ERR_MALFORMED;
    /* DER begins with the tag of a SEQUENCE, which is the character '0'; no PEM file begins with that. */
    ERR_set_mark();
    tccp_status status = bytes[0] == 0x30 ? load_der(bytes, len, max, certificates)
                                          : load_pem(bytes, len, max, certificates);
    (void) ERR_pop_to_mark();
    return status;
}

/* ---- authorities -------------------------------------------------------------------------------------------- */

tccp_authorities *tccp_authorities_new(void)
{
    tccp_authorities *authorities = OPENSSL_zalloc(sizeof(*authorities));
    if (authorities == NULL)
        return NULL;
    authorities->trusted = X509_STORE_new();
    authorities->intermediates = sk_X509_new_null();
    authorities->revocations = sk_X509_CRL_new_null();
    if (authorities->trusted == NULL || authorities->intermediates == NULL || authorities->revocations == NULL) {
        tccp_authorities_free(authorities);
        return NULL;
    }
    X509_STORE_set_check_issued(authorities->trusted, ek_is_issued_by);
    return authorities;
}

void tccp_authorities_free(tccp_authorities *authorities)
{
    if (authorities == NULL)
        return;
    X509_STORE_free(authorities->trusted);
    sk_X509_pop_free(authorities->intermediates, X509_free);
    sk_X509_CRL_pop_free(authorities->revocations, X509_CRL_free);
    OPENSSL_free(authorities);
}

size_t tccp_authorities_count(const tccp_authorities *authorities)
{
    if (authorities == NULL)
        return 0;
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(authorities->trusted);
    size_t count = 0;
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
        count += X509_OBJECT_get_type(sk_X509_OBJECT_value(objects, i)) == X509_LU_X509;
    return count;
}

/* The certificates of a file, in a stack that the caller frees; each may sign certificates. */
static tccp_status load_authorities(const uint8_t *bytes, size_t len, size_t max, STACK_OF(X509) **ret_loaded)
{
    if (len > TCCP_AUTHORITIES_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    STACK_OF(X509) *loaded = sk_X509_new_null();
    if (loaded == NULL)
        return TCCP_ERR_NO_MEMORY;
    tccp_status status = certificates_load(bytes, len, max, loaded);
    ERR_set_mark();
    for (int i = 0; status == TCCP_OK && i < sk_X509_num(loaded); i++)
        if (X509_check_ca(sk_X509_value(loaded, i)) != 1) /* 1: a version 3 authority that says so itself */
            status = TCCP_ERR_KEY_ATTRIBUTES;
    (void) ERR_pop_to_mark();
    if (status != TCCP_OK) {
        sk_X509_pop_free(loaded, X509_free);
        return status;
    }
    *ret_loaded = loaded;
    return TCCP_OK;
}

tccp_status tccp_authorities_add(tccp_authorities *authorities, const uint8_t *certificates, size_t certificates_len,
                                 size_t *ret_count)
{
    if (authorities == NULL || certificates == NULL || ret_count == NULL)
        return TCCP_ERR_USAGE;
    STACK_OF(X509) *loaded;
    size_t room = TCCP_AUTHORITIES_MAX - tccp_authorities_count(authorities);
    tccp_status status = load_authorities(certificates, certificates_len, room, &loaded);
    if (status != TCCP_OK)
        return status;
    for (int i = 0; i < sk_X509_num(loaded); i++)
        if (X509_STORE_add_cert(authorities->trusted, sk_X509_value(loaded, i)) != 1)
            status = TCCP_ERR_NO_MEMORY; /* one that is there already is no error */
    if (status == TCCP_OK)
        *ret_count = (size_t) sk_X509_num(loaded);
    sk_X509_pop_free(loaded, X509_free);
    return status;
}

tccp_status tccp_authorities_add_intermediates(tccp_authorities *authorities, const uint8_t *certificates,
                                               size_t certificates_len, size_t *ret_count)
{
    if (authorities == NULL || certificates == NULL || ret_count == NULL)
        return TCCP_ERR_USAGE;
    STACK_OF(X509) *loaded;
    size_t room = TCCP_AUTHORITIES_MAX - (size_t) sk_X509_num(authorities->intermediates);
    tccp_status status = load_authorities(certificates, certificates_len, room, &loaded);
    if (status != TCCP_OK)
        return status;
    *ret_count = (size_t) sk_X509_num(loaded);
    if (X509_add_certs(authorities->intermediates, loaded, X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP) != 1)
        status = TCCP_ERR_NO_MEMORY;
    sk_X509_pop_free(loaded, X509_free);
    return status;
}
