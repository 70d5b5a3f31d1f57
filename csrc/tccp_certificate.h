/* tccp_certificate.h: EK certificates and who may certify them (certificate.c, revocation.c, ek_certificate.c).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_CERTIFICATE_H
#define TCCP_TCCP_CERTIFICATE_H

#include "tccp_status.h"
#include "tccp_tpm_public.h"

/* [cffi */

#define TCCP_CERTIFICATE_BYTES_MAX 65536
#define TCCP_CHAIN_MAX 16
#define TCCP_AUTHORITIES_BYTES_MAX 4194304
#define TCCP_AUTHORITIES_MAX 4096
#define TCCP_REVOCATIONS_MAX 1024
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

/* Add the lists of revoked certificates (CRLs) of a DER or PEM file, all or (after an error) none. What any list says of
 * a certificate counts when the certificate's issuer has signed it, whether the time of the next one has come or not.
 *   ret_next_update_s  when the first of them expects to be replaced, seconds since 1970-01-01 UTC; INT64_MAX: never
 * TCCP_ERR_UNSUPPORTED: changes of another list (a delta), a list by another than the issuer, or one with a critical
 * extension that we do not know. Source: RFC 5280, sections 5 and 6.3. */
TCCP_MUST_USE tccp_status tccp_authorities_add_revocations(tccp_authorities *authorities, const uint8_t *lists,
                                                           size_t lists_len, int64_t *ret_next_update_s);

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
 * TCCP_ERR_REVOKED         a certificate below the authority is in a list of its issuer's
 * TCCP_ERR_KEY_ATTRIBUTES  certified, but not as an EK: an authority, another extended key usage, a signing key
 * TCCP_ERR_UNSUPPORTED     SHA-1 or weaker below the authority, a weak or strange key, an unknown critical extension
 *
 * Source: TCG EK Credential Profile for TPM Family 2.0, version 2.5, section 3; RFC 5280, section 6. */
TCCP_MUST_USE tccp_status tccp_ek_certificate_verify(const tccp_authorities *authorities, const uint8_t *certificate,
                                                     size_t certificate_len, const uint8_t *const *chain,
                                                     const size_t *chain_lens, size_t chain_count, int64_t now_s,
                                                     tccp_ek_certificate *ret_certificate,
                                                     char ret_detail[TCCP_DETAIL_BYTES]);

/* cffi] */

#endif /* TCCP_TCCP_CERTIFICATE_H */
