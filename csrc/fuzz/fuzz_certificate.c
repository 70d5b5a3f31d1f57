/* fuzz_certificate.c: any bytes as certificates; behind the chain too, where only an authority's certificates come. */
#include <stdlib.h>
#include <string.h>

#include "../ek_certificate.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CERTIFICATES_MAX = 8 };

/* What is read from a certificate after its chain was verified. */
static void read_contents(X509 *certificate)
{
    char detail[TCCP_DETAIL_BYTES] = "";
    explain(detail, "fuzzed", 0, certificate);
    if (strlen(detail) >= sizeof(detail))
        abort();
    (void) only_harmless_criticals(certificate);
    (void) is_strong_signature(certificate);
    (void) is_strong_authority(certificate);
    (void) check_role(certificate, detail);

    tccp_ek_certificate ek = {0};
    if (ek_contents_read(certificate, &ek) == TCCP_OK && ek.spki_len == 0)
        abort();
    X509 *twin = NULL;
    if (make_twin(certificate, &twin) == TCCP_OK)
        X509_free(twin);
}

/* The whole way, with the input as certificate and, where it is one, authority. */
static void verify_by_itself(const uint8_t *data, size_t size)
{
    tccp_authorities *authorities = tccp_authorities_new();
    size_t count;
    tccp_ek_certificate ek;
    if (authorities == NULL)
        abort();
    if (tccp_authorities_add(authorities, data, size, &count) == TCCP_OK && tccp_authorities_count(authorities) == 0)
        abort();
    int64_t next_update_s;
    if (tccp_authorities_add_revocations(authorities, data, size, &next_update_s) == TCCP_OK)
        abort(); /* a file of certificates is none of revocations */
    if (tccp_ek_certificate_verify(authorities, data, size, NULL, NULL, 0, 1780272000, &ek, NULL) == TCCP_OK)
        abort(); /* an authority is no EK, and what is no authority was not added */
    tccp_authorities_free(authorities);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    STACK_OF(X509) *certificates = sk_X509_new_null();
    if (certificates == NULL)
        abort();
    if (certificates_load(data, size, CERTIFICATES_MAX, certificates) == TCCP_OK) {
        for (int i = 0; i < sk_X509_num(certificates); i++)
            read_contents(sk_X509_value(certificates, i));
        verify_by_itself(data, size);
    }
    sk_X509_pop_free(certificates, X509_free);
    ERR_clear_error(); /* of the functions above that are called without the marks of their callers */
    return 0;
}
