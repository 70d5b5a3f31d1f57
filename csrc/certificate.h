/* certificate.h: certificates of strangers as libcrypto's X509, bounded before they are parsed. */
#ifndef TCCP_CERTIFICATE_H
#define TCCP_CERTIFICATE_H

#include <openssl/x509.h>

#include "tccp.h"

struct tccp_authorities {
    X509_STORE *trusted;
    STACK_OF(X509) *intermediates;
    STACK_OF(X509_CRL) *revocations;
};

/* Append the certificates of a DER or PEM file to certificates, which then holds max at the most.
 * On an error some may have been appended: the caller throws them away. */
TCCP_MUST_USE tccp_status certificates_load(const uint8_t *bytes, size_t len, size_t max,
                                            STACK_OF(X509) *certificates);

/* What the lists of revocations of a certificate's issuer say of it: TCCP_OK where there are none.
 * TCCP_ERR_REVOKED, TCCP_ERR_UNTRUSTED; then *ret_why says what was found. */
TCCP_MUST_USE tccp_status revocations_check(const tccp_authorities *authorities, const X509 *certificate, X509 *issuer,
                                            const char **ret_why);

/* How the store of authorities recognises an issuer (X509_STORE_set_check_issued). */
int ek_is_issued_by(X509_STORE_CTX *ctx, X509 *certificate, X509 *issuer);

/* Read the key and the texts of an EK certificate into *ek, which is all zeros before. */
TCCP_MUST_USE tccp_status ek_contents_read(const X509 *certificate, tccp_ek_certificate *ek);

/* The RSA key of a certificate that writes it under the identifier of OAEP, which libcrypto does not read; NULL for
 * every other certificate. The caller frees it. */
EVP_PKEY *ek_oaep_key(const X509 *certificate);

/* Seconds since 1970-01-01 UTC; 0 when it is no time. */
int x509_time_s(const ASN1_TIME *time, int64_t *ret_s);

/* Is this the object identifier, written in dotted numbers? */
int x509_is_oid(const ASN1_OBJECT *object, const char *oid);

/* A name as RFC 2253 has it, everything outside printable ASCII escaped; 0 when it does not fit. */
int x509_name_text(const X509_NAME *name, char *ret_text, size_t size);

#endif /* TCCP_CERTIFICATE_H */
