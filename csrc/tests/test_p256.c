/* test_p256.c: our own P-256 against libcrypto's, above all where points coincide, cancel out or are at infinity. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>

#include "check.h"
#include "hash.h"
#include "lanes.h"
#include "p256_order.h"
#include "signature.h"
#include "tpm_public.h"

static EC_GROUP *group;
static const BIGNUM *order;
static BN_CTX *ctx;

/* ---- numbers and keys ---------------------------------------------------------------------------------------- */

static BIGNUM *number(const char *hex)
{
    BIGNUM *made = NULL;
    CHECK(BN_hex2bn(&made, hex) != 0);
    return made;
}

static BIGNUM *random_number(void)
{
    BIGNUM *made = BN_new();
    CHECK(BN_rand_range(made, order) == 1);
    return made;
}

static void bytes_of(const BIGNUM *from, uint8_t *ret_bytes)
{
    CHECK(BN_bn2binpad(from, ret_bytes, P256_BYTES) == P256_BYTES);
}

static tccp_ak *ak_of(const EC_POINT *point)
{
    uint8_t x[P256_BYTES], y[P256_BYTES], spki[TCCP_SPKI_BYTES_MAX];
    BIGNUM *big_x = BN_new(), *big_y = BN_new();
    tccp_ak *ak = NULL;
    CHECK(EC_POINT_get_affine_coordinates(group, point, big_x, big_y, ctx) == 1);
    bytes_of(big_x, x);
    bytes_of(big_y, y);
    CHECK(tccp_ak_from_spki(spki, tpm_ecc_spki(TPM_ECC_NIST_P256, x, y, spki), &ak) == TCCP_OK);
    BN_free(big_y);
    BN_free(big_x);
    return ak;
}

/* ---- both verdicts ------------------------------------------------------------------------------------------- */

static signature_check check_of(const tccp_ak *ak, const BIGNUM *r, const BIGNUM *s, const BIGNUM *digest)
{
    signature_check check = {.ak = ak, .scheme = TPM_ALG_ECDSA, .hash = TPM_ALG_SHA256, .digest_len = P256_BYTES};
    bytes_of(r, check.r);
    bytes_of(s, check.s);
    bytes_of(digest, check.digest);
    return check;
}

/* Good, by a key of its own: what is in the lanes beside the one that is tried. */
static signature_check bystander;

/* The verdict that all give: libcrypto, the lanes together on one signature, and one lane, each time another. */
static tccp_status verdict_on(const signature_check *check)
{
    static size_t tried;
    tccp_status verdict = signature_verify_libcrypto(check), ours[LANES];
    if (!lanes_take(check->ak))
        return verdict;
    lanes_verify(check, 1, ours);
    CHECK(ours[0] == verdict);

    signature_check eight[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        eight[lane] = bystander;
    const size_t at = tried++ % LANES;
    eight[at] = *check;
    lanes_verify(eight, LANES, ours);
    for (size_t lane = 0; lane < LANES; lane++)
        CHECK(ours[lane] == (lane == at ? verdict : TCCP_OK));
    return verdict;
}

/* The same signature with another number: nearly always a bad one, and for both the same. */
static void alter(const signature_check *good, const BIGNUM *r, const BIGNUM *s, const BIGNUM *digest)
{
    BIGNUM *other = BN_new();
    const BIGNUM *numbers[] = {r, s, digest};
    for (size_t i = 0; i < 3; i++) {
        signature_check altered = *good;
        uint8_t *const at[] = {altered.r, altered.s, altered.digest};
        CHECK(BN_mod_add(other, numbers[i], BN_value_one(), order, ctx) == 1);
        if (i < 2 && BN_is_zero(other))
            continue;
        bytes_of(other, at[i]);
        (void) verdict_on(&altered);
    }
    /* The one other s that is good: it gives the opposite point, which has the same x. */
    signature_check opposite = *good;
    CHECK(BN_sub(other, order, s) == 1);
    bytes_of(other, opposite.s);
    CHECK(verdict_on(&opposite) == verdict_on(good));
    BN_free(other);
}

/* A signature for which u1 and u2 come out of verifying, by the key whose point is given; it is good unless what they
 * make of it is the point at infinity, for which no r is right. */
static void try_quotients(const tccp_ak *ak, const EC_POINT *key, const BIGNUM *u1, const BIGNUM *u2)
{
    EC_POINT *sum = EC_POINT_new(group);
    BIGNUM *r = BN_new(), *s = BN_new(), *digest = BN_new();
    CHECK(EC_POINT_mul(group, sum, u1, key, u2, ctx) == 1);
    const bool infinite = EC_POINT_is_at_infinity(group, sum) == 1;
    if (infinite)
        CHECK(BN_one(r));
    else
        CHECK(EC_POINT_get_affine_coordinates(group, sum, r, NULL, ctx) == 1 && BN_nnmod(r, r, order, ctx) == 1);
    CHECK(BN_mod_inverse(s, u2, order, ctx) != NULL && BN_mod_mul(s, s, r, order, ctx) == 1);
    CHECK(BN_mod_mul(digest, u1, s, order, ctx) == 1);
    if (!BN_is_zero(r)) {
        const signature_check check = check_of(ak, r, s, digest);
        CHECK(verdict_on(&check) == (infinite ? TCCP_ERR_SIGNATURE : TCCP_OK));
        alter(&check, r, s, digest);
    }
    BN_free(digest);
    BN_free(s);
    BN_free(r);
    EC_POINT_free(sum);
}

/* u1 = u2 = 1: the x of G + Q is r and s and the digest. */
static tccp_ak *make_bystander(void)
{
    BIGNUM *secret = random_number(), *r = BN_new();
    EC_POINT *key = EC_POINT_new(group), *sum = EC_POINT_new(group);
    CHECK(EC_POINT_mul(group, key, secret, NULL, NULL, ctx) == 1);
    CHECK(EC_POINT_mul(group, sum, BN_value_one(), key, BN_value_one(), ctx) == 1);
    CHECK(EC_POINT_get_affine_coordinates(group, sum, r, NULL, ctx) == 1 && BN_nnmod(r, r, order, ctx) == 1);
    tccp_ak *ak = ak_of(key);
    bystander = check_of(ak, r, r, r);
    EC_POINT_free(sum);
    EC_POINT_free(key);
    BN_free(r);
    BN_free(secret);
    return ak;
}

/* ---- the tests ----------------------------------------------------------------------------------------------- */

/* Ends of the lanes' pieces, small numbers, their opposites, and numbers whose digits are all alike. */
static const char *const special[] = {
    "1", "2", "3", "5", "100000000", "FFFFFFFF", "100000001", "10000000000000000", "80000000",
    "8000000000000000000000000000000000000000000000000000000000000000",
    "7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A8", /* half of the order */
    "7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A9",
    "00000000FFFFFFFF00000000000000004319055258E8617B0C46353D039CDAAE", /* 2^256 - 1 modulo the order: all digits +1 */
    "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632550", /* -1 */
    "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC63254F",
};

enum { SPECIAL = sizeof special / sizeof special[0] };

static void quotients_of_every_kind_come_out_right(void)
{
    for (size_t i = 0; i < SPECIAL + 2; i++) {
        BIGNUM *secret = i < SPECIAL ? number(special[i]) : random_number();
        EC_POINT *key = EC_POINT_new(group);
        CHECK(EC_POINT_mul(group, key, secret, NULL, NULL, ctx) == 1);
        tccp_ak *ak = ak_of(key);
        BIGNUM *u1 = BN_new();
        for (size_t j = i % 3; j < SPECIAL + 1; j += 3) {
            BIGNUM *u2 = j < SPECIAL ? number(special[j]) : random_number();
            for (size_t k = (i + j) % 5; k < SPECIAL; k += 5) {
                BIGNUM *other = number(special[k]);
                try_quotients(ak, key, other, u2);
                BN_free(other);
            }
            /* u1 G is at infinity; is u2 Q itself; is its opposite, so that the sum is at infinity. */
            BN_zero(u1);
            try_quotients(ak, key, u1, u2);
            CHECK(BN_mod_mul(u1, u2, secret, order, ctx) == 1);
            try_quotients(ak, key, u1, u2);
            CHECK(BN_sub(u1, order, u1) == 1);
            try_quotients(ak, key, u1, u2);
            BN_free(u2);
        }
        BN_free(u1);
        tccp_ak_free(ak);
        EC_POINT_free(key);
        BN_free(secret);
    }
}

/* x may be the order or more, and is then r and the order: one in 2^128, but for a key that is made for it. */
static void an_x_above_the_order_is_found(void)
{
    int tried = 0;
    for (unsigned int small = 1; tried < 5; small++) {
        EC_POINT *sum = EC_POINT_new(group), *key = EC_POINT_new(group);
        BIGNUM *r = BN_new(), *x = BN_dup(order), *u1 = random_number(), *u2 = random_number(), *s = BN_new();
        BIGNUM *digest = BN_new();
        CHECK(BN_set_word(r, small) && BN_add(x, x, r));
        if (EC_POINT_set_compressed_coordinates(group, sum, x, 0, ctx) == 1) {
            tried++;
            /* key = (sum - u1 G) / u2 */
            CHECK(BN_mod_inverse(s, u2, order, ctx) != NULL && BN_mod_mul(digest, s, u1, order, ctx) == 1 &&
                  BN_sub(digest, order, digest) && EC_POINT_mul(group, key, digest, sum, s, ctx) == 1);
            tccp_ak *ak = ak_of(key);
            CHECK(BN_mod_mul(s, s, r, order, ctx) == 1 && BN_mod_mul(digest, u1, s, order, ctx) == 1);
            const signature_check check = check_of(ak, r, s, digest);
            CHECK(verdict_on(&check) == TCCP_OK);
            alter(&check, r, s, digest);
            tccp_ak_free(ak);
        }
        BN_free(digest);
        BN_free(s);
        BN_free(u2);
        BN_free(u1);
        BN_free(x);
        BN_free(r);
        EC_POINT_free(key);
        EC_POINT_free(sum);
    }
}

/* r is the signature's, the x of the sum is r and the order, and r + order is not below the prime: it may not wrap. */
static void an_r_that_wraps_around_the_prime_is_refused(void)
{
    EC_POINT *sum = EC_POINT_new(group), *key = EC_POINT_new(group);
    BIGNUM *x = BN_new(), *r = BN_new(), *prime = BN_new(), *u2 = random_number(), *s = BN_new(), *zero = BN_new();
    CHECK(EC_GROUP_get_curve(group, prime, NULL, NULL, ctx) == 1);
    do /* r = x + prime - order, where x is small */
        CHECK(BN_add_word(x, 1) && BN_sub(r, prime, order) && BN_add(r, r, x));
    while (EC_POINT_set_compressed_coordinates(group, sum, x, 1, ctx) != 1);
    BN_zero(zero);
    CHECK(BN_mod_inverse(s, u2, order, ctx) != NULL && EC_POINT_mul(group, key, NULL, sum, s, ctx) == 1);
    CHECK(BN_mod_mul(s, s, r, order, ctx) == 1);
    tccp_ak *ak = ak_of(key);
    const signature_check check = check_of(ak, r, s, zero);
    CHECK(verdict_on(&check) == TCCP_ERR_SIGNATURE);
    tccp_ak_free(ak);
    BN_free(zero);
    BN_free(s);
    BN_free(u2);
    BN_free(prime);
    BN_free(r);
    BN_free(x);
    EC_POINT_free(key);
    EC_POINT_free(sum);
}

static void random_signatures_get_the_same_verdict(size_t keys)
{
    for (size_t i = 0; i < keys; i++) {
        BIGNUM *secret = random_number();
        EC_POINT *key = EC_POINT_new(group);
        CHECK(EC_POINT_mul(group, key, secret, NULL, NULL, ctx) == 1);
        tccp_ak *ak = ak_of(key);
        for (int j = 0; j < 50; j++) {
            BIGNUM *u1 = random_number(), *u2 = random_number(), *digest = BN_new();
            try_quotients(ak, key, u1, u2);
            CHECK(BN_rand(digest, 256, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1);
            const signature_check bad = check_of(ak, u1, u2, digest);
            CHECK(verdict_on(&bad) == TCCP_ERR_SIGNATURE);
            BN_free(digest);
            BN_free(u2);
            BN_free(u1);
        }
        tccp_ak_free(ak);
        EC_POINT_free(key);
        BN_free(secret);
    }
}

/* A digest of 256 bits need not be below the order. */
static void a_digest_above_the_order_counts_modulo_the_order(void)
{
    BIGNUM *secret = random_number(), *r = BN_new(), *s = BN_new(), *digest = BN_new();
    EC_POINT *key = EC_POINT_new(group);
    CHECK(EC_POINT_mul(group, key, secret, NULL, NULL, ctx) == 1);
    tccp_ak *ak = ak_of(key);
    /* u2 = 1: r = s, and x(u1 G + Q) = r with u1 = digest / s. */
    for (unsigned int above = 0; above < 4; above++) {
        BIGNUM *u1 = BN_new(), *k = random_number();
        EC_POINT *sum = EC_POINT_new(group);
        CHECK(BN_set_word(digest, above) && EC_POINT_mul(group, sum, k, NULL, NULL, ctx) == 1);
        CHECK(EC_POINT_get_affine_coordinates(group, sum, r, NULL, ctx) == 1 && BN_nnmod(r, r, order, ctx) == 1);
        /* s = (digest + r secret) / k */
        CHECK(BN_mod_mul(s, r, secret, order, ctx) == 1 && BN_mod_add(s, s, digest, order, ctx) == 1);
        CHECK(BN_mod_inverse(u1, k, order, ctx) != NULL && BN_mod_mul(s, s, u1, order, ctx) == 1);
        CHECK(BN_add(digest, digest, order) == 1);
        const signature_check check = check_of(ak, r, s, digest);
        CHECK(verdict_on(&check) == TCCP_OK);
        EC_POINT_free(sum);
        BN_free(k);
        BN_free(u1);
    }
    tccp_ak_free(ak);
    EC_POINT_free(key);
    BN_free(digest);
    BN_free(s);
    BN_free(r);
    BN_free(secret);
}

#ifdef TCCP_HAVE_LANES

static bool same(const scalar *ours, const BIGNUM *expected)
{
    uint8_t bytes[P256_BYTES];
    bytes_of(expected, bytes);
    const scalar wanted = scalar_of(bytes);
    return memcmp(ours, &wanted, sizeof wanted) == 0;
}

static void numbers_modulo_the_order_are_computed_right(void)
{
    BIGNUM *expected = BN_new();
    for (size_t i = 0; i < 400; i++) {
        BIGNUM *a = i < SPECIAL ? number(special[i]) : random_number();
        BIGNUM *b = i % 4 != 0 ? random_number() : number(special[i / 4 % SPECIAL]);
        uint8_t bytes[2][P256_BYTES];
        bytes_of(a, bytes[0]);
        bytes_of(b, bytes[1]);
        const scalar x = scalar_of(bytes[0]), y = scalar_of(bytes[1]);
        const scalar sum = scalar_sum(&x, &y), product = scalar_product(&x, &y), inverse = scalar_inverse(&x);
        CHECK(BN_mod_add(expected, a, b, order, ctx) == 1 && same(&sum, expected));
        CHECK(BN_mod_mul(expected, a, b, order, ctx) == 1 && same(&product, expected));
        CHECK(BN_mod_inverse(expected, a, order, ctx) != NULL && same(&inverse, expected));
        BN_free(b);
        BN_free(a);
    }
    const scalar zero = {{0}}, above = {{~0ull, ~0ull, ~0ull, ~0ull}}, one = {{1}};
    const scalar of_zero = scalar_inverse(&zero), of_above = scalar_product(&above, &one);
    BN_zero(expected);
    CHECK(same(&of_zero, expected));
    CHECK(BN_set_bit(expected, 256) && BN_sub_word(expected, 1) && BN_sub(expected, expected, order) &&
          same(&of_above, expected));
    BN_free(expected);
}

#else

static void numbers_modulo_the_order_are_computed_right(void)
{
}

#endif

/* test_p256 [KEYS]: so many random keys, 50 signatures by each; for long runs by hand. */
int main(int argc, char **argv)
{
    group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    order = EC_GROUP_get0_order(group);
    ctx = BN_CTX_new();
    tccp_ak *ak = make_bystander();
    numbers_modulo_the_order_are_computed_right();
    quotients_of_every_kind_come_out_right();
    an_x_above_the_order_is_found();
    an_r_that_wraps_around_the_prime_is_refused();
    a_digest_above_the_order_counts_modulo_the_order();
    random_signatures_get_the_same_verdict(argc > 1 ? (size_t) atoi(argv[1]) : 4);
    tccp_ak_free(ak);
    BN_CTX_free(ctx);
    EC_GROUP_free(group);
    return failures != 0;
}
