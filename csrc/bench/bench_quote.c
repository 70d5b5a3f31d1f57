/* bench_quote.c: quotes a second on one core, and the signatures a second of libcrypto alone, in the same run.
 *
 *     bench_quote ROUNDS ROUND_MS < quotes      prints one JSON object: name -> median of the rounds
 *
 * quotes: numbers of 4 bytes, big-endian, each before the bytes that it counts: SubjectPublicKeyInfo; then for each
 * quote attest, TPMT_SIGNATURE, nonce and PCR values of PCRs 0 and up in the SHA-256 bank.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "../ak.h"
#include "../hash.h"
#include "../reader.h"
#include "../tpm_public.h"

enum { QUOTES_MAX = 1024, INPUT_BYTES_MAX = 1 << 22, ROUNDS_MAX = 99, SIGNATURE_BYTES = 512 };

static struct {
    tccp_ak *ak;
    EVP_PKEY_CTX *verifier;
    size_t count;
    const tccp_ak *aks[QUOTES_MAX];
    tccp_quote_claim claims[QUOTES_MAX];
    tccp_status statuses[QUOTES_MAX];
    tccp_quote quotes[QUOTES_MAX];
    uint8_t digests[QUOTES_MAX][TCCP_DIGEST_BYTES_MAX];
    uint8_t signatures[QUOTES_MAX][SIGNATURE_BYTES]; /* as libcrypto takes them */
    size_t signature_lens[QUOTES_MAX];
    uint16_t hash;
} all;

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench_quote: %s\n", what);
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double) time.tv_sec + (double) time.tv_nsec * 1e-9;
}

/* ---- input --------------------------------------------------------------------------------------------------- */

static const uint8_t *counted(reader *in, size_t *ret_len)
{
    *ret_len = (size_t) read_uint_be(in, 4);
    return read_bytes(in, *ret_len);
}

static uint16_t keep_signature(size_t i, const tccp_quote_claim *claim)
{
    reader in = reader_of(claim->signature, claim->signature_len);
    uint16_t scheme = (uint16_t) read_uint_be(&in, 2);
    size_t len, s_len;
    all.hash = (uint16_t) read_uint_be(&in, 2);
    const uint8_t *first = read_tpm2b(&in, &len);
    if (scheme != TPM_ALG_ECDSA) {
        memcpy(all.signatures[i], first, len);
        all.signature_lens[i] = len;
        return scheme;
    }
    const uint8_t *s = read_tpm2b(&in, &s_len);
    ECDSA_SIG *numbers = ECDSA_SIG_new();
    uint8_t *end = all.signatures[i];
    require(ECDSA_SIG_set0(numbers, BN_bin2bn(first, (int) len, NULL), BN_bin2bn(s, (int) s_len, NULL)), "scalars");
    all.signature_lens[i] = (size_t) i2d_ECDSA_SIG(numbers, &end);
    ECDSA_SIG_free(numbers);
    return scheme;
}

static void load(void)
{
    static uint8_t input[INPUT_BYTES_MAX];
    size_t len = fread(input, 1, sizeof input, stdin), spki_len;
    uint16_t scheme = 0;
    reader in = reader_of(input, len);
    const uint8_t *spki = counted(&in, &spki_len);
    require(tccp_ak_from_spki(spki, spki_len, &all.ak) == TCCP_OK, "the key");
    const uint8_t *end = spki;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &end, (long) spki_len);
    for (; in.left != 0 && all.count < QUOTES_MAX; all.count++) {
        tccp_quote_claim *claim = &all.claims[all.count];
        claim->attest = counted(&in, &claim->attest_len);
        claim->signature = counted(&in, &claim->signature_len);
        claim->nonce = counted(&in, &claim->nonce_len);
        claim->pcrs = counted(&in, &claim->pcrs_len);
        require(!in.failed, "the input is cut short");
        claim->bank = TPM_ALG_SHA256;
        claim->pcr_mask = (1u << claim->pcrs_len / 32) - 1;
        all.aks[all.count] = all.ak;
        scheme = keep_signature(all.count, claim);
        require(hash_bytes(all.hash, claim->attest, claim->attest_len, all.digests[all.count]), "hash");
    }
    all.verifier = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    require(EVP_PKEY_verify_init(all.verifier) == 1, "verifier");
    if (scheme != TPM_ALG_ECDSA) {
        int padding = scheme == TPM_ALG_RSASSA ? RSA_PKCS1_PADDING : RSA_PKCS1_PSS_PADDING;
        require(EVP_PKEY_CTX_set_rsa_padding(all.verifier, padding) == 1 &&
                EVP_PKEY_CTX_set_signature_md(all.verifier, tpm_hash(all.hash)) == 1, "padding");
    }
    EVP_PKEY_free(key);
}

/* ---- the work, over all quotes once -------------------------------------------------------------------------- */

static void libcrypto_verify(void)
{
    for (size_t i = 0; i < all.count; i++)
        require(EVP_PKEY_verify(all.verifier, all.signatures[i], all.signature_lens[i], all.digests[i],
                                hash_size(all.hash)) == 1, "libcrypto refuses");
}

static void tccp_single(void)
{
    for (size_t i = 0; i < all.count; i++)
        require(tccp_quote_verify(all.ak, &all.claims[i], &all.quotes[i]) == TCCP_OK, "tccp refuses");
}

static void tccp_batch(void)
{
    require(tccp_quote_verify_batch(all.aks, all.claims, all.count, all.statuses, all.quotes) == TCCP_OK, "batch");
    for (size_t i = 0; i < all.count; i++)
        require(all.statuses[i] == TCCP_OK, "tccp refuses in a batch");
}

static const struct {
    const char *name;
    void (*work)(void);
} works[] = {{"libcrypto", libcrypto_verify}, {"single", tccp_single}, {"batch", tccp_batch}};

enum { WORKS = sizeof works / sizeof works[0] };

static int ascending(const void *left, const void *right)
{
    double difference = *(const double *) left - *(const double *) right;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    static double rates[WORKS][ROUNDS_MAX];
    require(argc == 3, "usage: bench_quote ROUNDS ROUND_MS < quotes");
    int rounds = atoi(argv[1]);
    double round_s = atof(argv[2]) / 1000;
    require(rounds > 0 && rounds <= ROUNDS_MAX, "rounds");
    load();
    /* By turns, so that what else the machine does falls on all of them. */
    for (int round = 0; round < rounds; round++)
        for (size_t work = 0; work < WORKS; work++) {
            double start = now(), end;
            size_t done = 0;
            do {
                works[work].work();
                done += all.count;
                end = now();
            } while (end - start < round_s);
            rates[work][round] = (double) done / (end - start);
        }
    printf("{\"lanes\": %s", tccp_lanes_available() ? "true" : "false");
    for (size_t work = 0; work < WORKS; work++) {
        qsort(rates[work], (size_t) rounds, sizeof rates[work][0], ascending);
        printf(", \"%s\": %.0f", works[work].name, rates[work][rounds / 2]);
    }
    printf("}\n");
    EVP_PKEY_CTX_free(all.verifier);
    tccp_ak_free(all.ak);
    return 0;
}
