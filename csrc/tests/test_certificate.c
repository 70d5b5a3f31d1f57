/* test_certificate.c: the handle of authorities and the contract of the verification, with a cloud's certificates.
 *
 * What is accepted and what is not stands in tests/attestation/test_enrolment_{,odd_}certificates.py.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "check.h"
#include "tccp.h"

#define ROOTS "tests/vectors/ek/go-tpm-tools-roots/"
#define LEAVES "tests/vectors/ek/go-tpm-tools-certs/"

enum { NOW_S = 1780272000, THREADS = 4, ROUNDS = 50 }; /* 2026-06-01 */

typedef struct file {
    uint8_t bytes[8192];
    size_t len;
} file;

static file read_file(const char *path)
{
    file out = {.len = 0};
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        fprintf(stderr, "%s cannot be opened: run from the top of the repository\n", path);
        failures++;
        return out;
    }
    out.len = fread(out.bytes, 1, sizeof(out.bytes), in);
    fclose(in);
    return out;
}

static file root, intermediate, ek, ak;

static tccp_authorities *trust_root(void)
{
    tccp_authorities *authorities = tccp_authorities_new();
    size_t count = 0;
    CHECK(authorities != NULL);
    CHECK(tccp_authorities_add(authorities, root.bytes, root.len, &count) == TCCP_OK && count == 1);
    return authorities;
}

static tccp_status verify(const tccp_authorities *authorities, const file *certificate, int64_t now_s,
                          tccp_ek_certificate *ret, char *detail)
{
    const uint8_t *chain[] = {intermediate.bytes};
    const size_t chain_lens[] = {intermediate.len};
    return tccp_ek_certificate_verify(authorities, certificate->bytes, certificate->len, chain, chain_lens, 1, now_s,
                                      ret, detail);
}

static void test_authorities_are_counted_once_and_added_whole_or_not(void)
{
    tccp_authorities *authorities = trust_root();
    size_t count = 7;
    CHECK(tccp_authorities_add(authorities, root.bytes, root.len, &count) == TCCP_OK);
    CHECK(tccp_authorities_count(authorities) == 1);

    file both = intermediate;
    memcpy(both.bytes + both.len, ek.bytes, ek.len);
    both.len += ek.len;
    count = 7;
    CHECK(tccp_authorities_add(authorities, both.bytes, both.len, &count) != TCCP_OK);
    CHECK(tccp_authorities_count(authorities) == 1 && count == 7);

    CHECK(tccp_authorities_add(NULL, root.bytes, root.len, &count) == TCCP_ERR_USAGE);
    CHECK(tccp_authorities_add(authorities, NULL, 0, &count) == TCCP_ERR_USAGE);
    CHECK(tccp_authorities_add(authorities, root.bytes, 0, &count) == TCCP_ERR_MALFORMED);
    CHECK(tccp_authorities_count(NULL) == 0);
    tccp_authorities_free(authorities);
    tccp_authorities_free(NULL);
}

static void test_results_are_written_on_success_alone(void)
{
    tccp_authorities *authorities = trust_root();
    tccp_authorities *nobody = tccp_authorities_new();
    tccp_ek_certificate found, untouched;
    char detail[TCCP_DETAIL_BYTES] = "before";
    memset(&found, 0xaa, sizeof(found));
    untouched = found;

    CHECK(verify(nobody, &ek, NOW_S, &found, detail) == TCCP_ERR_UNTRUSTED);
    CHECK(strstr(detail, "issuer") != NULL);
    CHECK(verify(authorities, &ek, 0, &found, detail) == TCCP_ERR_EXPIRED);
    CHECK(verify(authorities, &ak, NOW_S, &found, NULL) == TCCP_ERR_KEY_ATTRIBUTES);
    CHECK(verify(authorities, &intermediate, NOW_S, &found, NULL) == TCCP_ERR_KEY_ATTRIBUTES);
    CHECK(memcmp(&found, &untouched, sizeof(found)) == 0);

    CHECK(verify(authorities, &ek, NOW_S, &found, detail) == TCCP_OK);
    CHECK(detail[0] == '\0' && found.spki_len == 294 && strcmp(found.manufacturer, "id:474F4F47") == 0);
    CHECK(ERR_peek_error() == 0); /* nothing is left for the thread's next caller of libcrypto */
    tccp_authorities_free(authorities);
    tccp_authorities_free(nobody);
}

static void test_our_own_mistakes_are_named(void)
{
    tccp_authorities *authorities = trust_root();
    tccp_ek_certificate found;
    CHECK(verify(NULL, &ek, NOW_S, &found, NULL) == TCCP_ERR_USAGE);
    CHECK(verify(authorities, &ek, NOW_S, NULL, NULL) == TCCP_ERR_USAGE);
    CHECK(tccp_ek_certificate_verify(authorities, ek.bytes, ek.len, NULL, NULL, 1, NOW_S, &found, NULL) ==
          TCCP_ERR_USAGE);
    tccp_authorities_free(authorities);
}

static void *verify_often(void *authorities)
{
    for (int i = 0; i < ROUNDS; i++) {
        tccp_ek_certificate found;
        if (verify(authorities, &ek, NOW_S, &found, NULL) != TCCP_OK)
            return authorities;
    }
    return NULL;
}

static void test_many_threads_share_one_set_of_authorities(void)
{
    tccp_authorities *authorities = trust_root();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, verify_often, authorities) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        CHECK(pthread_join(threads[i], &failed) == 0 && failed == NULL);
    }
    tccp_authorities_free(authorities);
}

int main(void)
{
    root = read_file(ROOTS "tpm_ek_root_1.cer");
    intermediate = read_file(ROOTS "tpm_ek_intermediate_3.crt");
    ek = read_file(LEAVES "uca_tpm_rsa_enc_cert.pem");
    ak = read_file(LEAVES "uca_tpm_rsa_sign_cert.pem");
    if (failures != 0)
        return 1;
    test_authorities_are_counted_once_and_added_whole_or_not();
    test_results_are_written_on_success_alone();
    test_our_own_mistakes_are_named();
    test_many_threads_share_one_set_of_authorities();
    return failures == 0 ? 0 : 1;
}
