/* test_quote.c: what Python cannot reach: calls that are bugs, lanes against libcrypto, outputs after a failure. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "check.h"
#include "hash.h"
#include "lanes.h"
#include "lanes_rsa.h"
#include "signature.h"
#include "tpm_public.h"

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static tccp_status ak_of(EVP_PKEY *key, tccp_ak **ret_ak)
{
    uint8_t *spki = NULL;
    int len = i2d_PUBKEY(key, &spki);
    tccp_status status = len > 0 ? tccp_ak_from_spki(spki, (size_t) len, ret_ak) : TCCP_ERR_INTERNAL;
    OPENSSL_free(spki);
    return status;
}

static tccp_status status_of_key(EVP_PKEY *key)
{
    tccp_ak *ak = NULL;
    tccp_status status = ak_of(key, &ak);
    CHECK((ak != NULL) == (status == TCCP_OK));
    tccp_ak_free(ak);
    EVP_PKEY_free(key);
    return status;
}

static EVP_PKEY *rsa_key(size_t bits, unsigned int exponent)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *e = BN_new();
    CHECK(BN_set_word(e, exponent) && EVP_PKEY_keygen_init(ctx) == 1 &&
          EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int) bits) == 1 && EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e) == 1 &&
          EVP_PKEY_keygen(ctx, &key) == 1);
    BN_free(e);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void only_keys_of_ours_become_handles(void)
{
    CHECK(status_of_key(EVP_EC_gen("P-256")) == TCCP_OK);
    CHECK(status_of_key(EVP_EC_gen("P-384")) == TCCP_OK);
    CHECK(status_of_key(rsa_key(2048, 65537)) == TCCP_OK);
    CHECK(status_of_key(rsa_key(1024, 65537)) == TCCP_ERR_UNSUPPORTED);
    CHECK(status_of_key(rsa_key(2047, 65537)) == TCCP_ERR_UNSUPPORTED);
    CHECK(status_of_key(rsa_key(2048, 3)) == TCCP_ERR_MALFORMED);
    CHECK(status_of_key(EVP_EC_gen("P-521")) == TCCP_ERR_UNSUPPORTED);
    CHECK(status_of_key(EVP_EC_gen("secp256k1")) == TCCP_ERR_UNSUPPORTED);
    CHECK(status_of_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) == TCCP_ERR_UNSUPPORTED);

    EVP_PKEY *compressed = EVP_EC_gen("P-256");
    CHECK(EVP_PKEY_set_utf8_string_param(compressed, "point-format", "compressed") == 1);
    CHECK(status_of_key(compressed) == TCCP_ERR_MALFORMED);
    EVP_PKEY *explicit_curve = EVP_EC_gen("P-256");
    CHECK(EVP_PKEY_set_utf8_string_param(explicit_curve, "encoding", "explicit") == 1);
    CHECK(status_of_key(explicit_curve) != TCCP_OK);
}

static void a_spki_with_bytes_behind_it_is_refused(void)
{
    uint8_t spki[TCCP_SPKI_BYTES_MAX + 1] = {0};
    uint8_t *end = spki;
    tccp_ak *ak = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    size_t len = (size_t) i2d_PUBKEY(key, &end);
    CHECK(tccp_ak_from_spki(spki, len + 1, &ak) == TCCP_ERR_MALFORMED);
    CHECK(tccp_ak_from_spki(spki, len - 1, &ak) == TCCP_ERR_MALFORMED);
    CHECK(tccp_ak_from_spki(spki, 0, &ak) == TCCP_ERR_MALFORMED);
    CHECK(tccp_ak_from_spki(spki, sizeof spki, &ak) == TCCP_ERR_TOO_LARGE);
    CHECK(ak == NULL);
    EVP_PKEY_free(key);
}

/* ---- lanes against libcrypto --------------------------------------------------------------------------------- */

typedef struct signer {
    EVP_PKEY *key;
    tccp_ak *ak;
} signer;

static signer signer_of(EVP_PKEY *key)
{
    signer made = {.key = key};
    CHECK(ak_of(key, &made.ak) == TCCP_OK);
    return made;
}

/* A check whose digest is given, not hashed: the extremes cannot be had by hashing. */
static signature_check signed_digest(const signer *by, uint16_t scheme, uint16_t hash, uint8_t fill, uint8_t *signature)
{
    size_t len = TCCP_RSA_BYTES_MAX;
    signature_check check = {.ak = by->ak, .scheme = scheme, .hash = hash, .digest_len = hash_size(hash)};
    memset(check.digest, fill, check.digest_len);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, by->key, NULL);
    CHECK(EVP_PKEY_sign_init(ctx) == 1);
    if (scheme != TPM_ALG_ECDSA) {
        int padding = scheme == TPM_ALG_RSASSA ? RSA_PKCS1_PADDING : RSA_PKCS1_PSS_PADDING;
        CHECK(EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1);
        CHECK(EVP_PKEY_CTX_set_signature_md(ctx, tpm_hash(hash)) == 1);
        if (scheme == TPM_ALG_RSAPSS)
            CHECK(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, fill == 0xff ? RSA_PSS_SALTLEN_MAX : RSA_PSS_SALTLEN_DIGEST));
    }
    CHECK(EVP_PKEY_sign(ctx, signature, &len, check.digest, check.digest_len) == 1);
    EVP_PKEY_CTX_free(ctx);
    check.rsa = signature;
    if (scheme == TPM_ALG_ECDSA) {
        const uint8_t *end = signature;
        ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &end, (long) len);
        CHECK(BN_bn2binpad(ECDSA_SIG_get0_r(numbers), check.r, (int) by->ak->bytes) > 0);
        CHECK(BN_bn2binpad(ECDSA_SIG_get0_s(numbers), check.s, (int) by->ak->bytes) > 0);
        ECDSA_SIG_free(numbers);
    }
    return check;
}

static void lanes_agree_on(const signer *by, uint16_t scheme, uint16_t hash)
{
    static uint8_t signatures[LANES][TCCP_RSA_BYTES_MAX];
    signature_check checks[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        uint8_t fill = lane == 1 ? 0xff : lane == 2 ? 0x00 : (uint8_t) (lane * 37);
        checks[lane] = signed_digest(by, scheme, hash, fill, signatures[lane]);
    }
    /* Each pattern says which of the eight are spoiled. */
    for (unsigned int pattern = 0; pattern < 256; pattern += 5) {
        signature_check mixed[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            mixed[lane] = checks[lane];
            mixed[lane].digest[0] ^= (uint8_t) (pattern >> lane & 1);
        }
        for (size_t n = 1; n <= LANES; n++) {
            tccp_status verdicts[LANES];
            lanes_verify(mixed, n, verdicts);
            for (size_t lane = 0; lane < n; lane++) {
                tccp_status expected = pattern >> lane & 1 ? TCCP_ERR_SIGNATURE : TCCP_OK;
                CHECK(verdicts[lane] == expected);
                CHECK(n < LANES || signature_verify_libcrypto(&mixed[lane]) == expected);
            }
        }
    }
}

static void lanes_agree_with_libcrypto(void)
{
    static const uint16_t hashes[] = {TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512};
    signer curves[] = {signer_of(EVP_EC_gen("P-256")), signer_of(EVP_EC_gen("P-384"))};
    signer rsa[] = {signer_of(EVP_RSA_gen(2048)), signer_of(EVP_RSA_gen(3072)), signer_of(EVP_RSA_gen(4096))};
    for (size_t hash = 0; hash < 3; hash++) {
        for (size_t i = 0; i < 2; i++)
            lanes_agree_on(&curves[i], TPM_ALG_ECDSA, hashes[hash]);
        for (size_t i = 0; i < 3; i++) {
            lanes_agree_on(&rsa[i], TPM_ALG_RSASSA, hashes[hash]);
            lanes_agree_on(&rsa[i], TPM_ALG_RSAPSS, hashes[hash]);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        EVP_PKEY_free(curves[i].key);
        tccp_ak_free(curves[i].ak);
    }
    for (size_t i = 0; i < 3; i++) {
        EVP_PKEY_free(rsa[i].key);
        tccp_ak_free(rsa[i].ak);
    }
}

#ifdef TCCP_HAVE_LANES

/* Each lane another modulus, and among the signatures those for which a power stays next to nothing or to the modulus:
 * there a result that was not reduced to the end would show. */
static void rsa_lanes_compute_what_libcrypto_computes(int bits)
{
    const tccp_ak *aks[RSA_LANES];
    tccp_ak *owned[RSA_LANES];
    uint8_t signatures[RSA_LANES][TCCP_RSA_BYTES_MAX], powers[RSA_LANES][TCCP_RSA_BYTES_MAX];
    const uint8_t *given[RSA_LANES];
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *modulus = BN_new(), *signature = BN_new(), *exponent = BN_new(), *power = BN_new();
    int size = bits / 8;
    CHECK(BN_set_word(exponent, 65537));
    for (int round = 0; round < 8; round++) {
        for (size_t lane = 0; lane < RSA_LANES; lane++) {
            uint8_t bytes[TCCP_RSA_BYTES_MAX], spki[TCCP_SPKI_BYTES_MAX];
            size_t spki_len = 0;
            EVP_PKEY *key = NULL;
            int top = lane % 2 ? BN_RAND_TOP_ONE : BN_RAND_TOP_TWO;
            CHECK(BN_rand(modulus, bits, top, BN_RAND_BOTTOM_ODD) && BN_bn2binpad(modulus, bytes, size) == size);
            if (lane == 6)
                memset(bytes, 0xff, (size_t) size);
            if (lane == 7) {
                memset(bytes, 0x00, (size_t) size);
                bytes[0] = 0x80;
                bytes[size - 1] = 0x01;
            }
            CHECK(BN_bin2bn(bytes, size, modulus) != NULL && BN_rand_range(signature, modulus));
            if (round < 3) /* 0, 1 and -1 */
                CHECK(round < 2 ? BN_set_word(signature, (BN_ULONG) round) : BN_sub(signature, modulus, BN_value_one()));
            CHECK(BN_bn2binpad(signature, signatures[lane], size) == size);
            CHECK(tpm_rsa_key(bytes, (size_t) size, &key) == TCCP_OK);
            CHECK(tpm_key_spki(key, spki, &spki_len) == TCCP_OK);
            CHECK(tccp_ak_from_spki(spki, spki_len, &owned[lane]) == TCCP_OK);
            aks[lane] = owned[lane];
            given[lane] = signatures[lane];
            EVP_PKEY_free(key);
        }
        lanes_rsa_power(aks, given, powers);
        for (size_t lane = 0; lane < RSA_LANES; lane++) {
            uint8_t expected[TCCP_RSA_BYTES_MAX], alone[TCCP_RSA_BYTES_MAX];
            CHECK(BN_bin2bn(given[lane], size, signature) != NULL);
            CHECK(BN_mod_exp(power, signature, exponent, aks[lane]->modulus, ctx));
            CHECK(BN_bn2binpad(power, expected, size) == size && memcmp(powers[lane], expected, (size_t) size) == 0);
            lanes_rsa_power_one(aks[lane], given[lane], alone);
            CHECK(memcmp(alone, expected, (size_t) size) == 0);
            tccp_ak_free(owned[lane]);
        }
    }
    BN_free(power);
    BN_free(exponent);
    BN_free(signature);
    BN_free(modulus);
    BN_CTX_free(ctx);
}

static void rsa_lanes_compute_in_each_size(void)
{
    if (!tccp_lanes_available())
        return;
    for (int bits = 2048; bits <= 4096; bits += 1024)
        rsa_lanes_compute_what_libcrypto_computes(bits);
}

#else

static void rsa_lanes_compute_in_each_size(void)
{
    CHECK(!tccp_lanes_available());
}

#endif

/* ---- the interface ------------------------------------------------------------------------------------------- */

static void a_call_that_cannot_be_meant_is_refused(void)
{
    static const uint8_t bytes[64] = {0};
    signer by = signer_of(EVP_EC_gen("P-256"));
    const tccp_quote_claim good = {.attest = bytes, .attest_len = 64, .signature = bytes, .signature_len = 64,
                                   .nonce = bytes, .nonce_len = 32, .pcrs = bytes, .pcrs_len = 64, .pcr_mask = 3,
                                   .bank = TPM_ALG_SHA256};
    tccp_quote quote, untouched;
    memset(&untouched, 0x5a, sizeof untouched);
    quote = untouched;
    CHECK(tccp_quote_verify(by.ak, &good, &quote) == TCCP_ERR_UNSUPPORTED); /* meant, and no signature */
    CHECK(tccp_quote_verify(NULL, &good, &quote) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_verify(by.ak, NULL, &quote) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_verify(by.ak, &good, NULL) == TCCP_ERR_USAGE);

    tccp_quote_claim wrong[13];
    for (size_t i = 0; i < 13; i++)
        wrong[i] = good;
    wrong[0].attest = NULL;
    wrong[1].signature = NULL;
    wrong[2].nonce = NULL;
    wrong[3].pcrs = NULL;
    wrong[4].nonce_len = TCCP_NONCE_BYTES_MIN - 1;
    wrong[5].nonce_len = TCCP_NONCE_BYTES_MAX + 1;
    wrong[6].pcr_mask = 0;
    wrong[7].pcr_mask = 1 | 1 << 16;
    wrong[8].pcr_mask = 1 | 1 << 23;
    wrong[9].pcr_mask = 1 | 1 << 24;
    wrong[10].bank = 0x0004;
    wrong[11].pcrs_len = 63;
    wrong[12].pcr_mask = 7;
    for (size_t i = 0; i < 13; i++) {
        const tccp_ak *aks[] = {by.ak, NULL};
        tccp_status statuses[2];
        tccp_quote quotes[2];
        const tccp_quote_claim claims[] = {wrong[i], good};
        CHECK(tccp_quote_verify(by.ak, &wrong[i], &quote) == TCCP_ERR_USAGE);
        CHECK(tccp_quote_verify_batch(aks, claims, 2, statuses, quotes) == TCCP_OK);
        CHECK(statuses[0] == TCCP_ERR_USAGE && statuses[1] == TCCP_ERR_USAGE);
    }
    const uint32_t numbers[TCCP_PACKED_NUMBERS] = {16, 16, 16, 16, 1, TPM_ALG_SHA256};
    const tccp_ak *aks[] = {by.ak};
    tccp_status status = TCCP_OK;
    CHECK(tccp_quote_verify_packed(aks, bytes, 64, numbers, 1, &status, &quote) == TCCP_OK);
    CHECK(status == TCCP_ERR_USAGE); /* 16 bytes are no PCR value */
    CHECK(tccp_quote_verify_packed(aks, bytes, 63, numbers, 1, &status, &quote) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_verify_packed(aks, bytes, 65, numbers, 1, &status, &quote) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_verify_packed(aks, bytes, 64, numbers, TCCP_BATCH_MAX + 1, &status, &quote) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_verify_batch(NULL, NULL, 0, NULL, NULL) == TCCP_OK);
    CHECK(tccp_quote_verify_batch(NULL, &good, 1, NULL, NULL) == TCCP_ERR_USAGE);
    CHECK(tccp_quote_inspect(NULL, bytes, 64, bytes, 64, &quote) == TCCP_ERR_USAGE);
    CHECK(memcmp(&quote, &untouched, sizeof quote) == 0);
    EVP_PKEY_free(by.key);
    tccp_ak_free(by.ak);
}

int main(void)
{
    only_keys_of_ours_become_handles();
    a_spki_with_bytes_behind_it_is_refused();
    lanes_agree_with_libcrypto();
    rsa_lanes_compute_in_each_size();
    a_call_that_cannot_be_meant_is_refused();
    tccp_ak_free(NULL);
    return failures != 0;
}
