/* fuzz_signature.c: TPMT_SIGNATURE against a key of each family, through the mathematics where it gets so far: ours and
 * libcrypto's. */
#include <stdlib.h>
#include <string.h>

#include "signature.h"
#include "tpm_public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Public keys with no private key that anybody knows: a hostile signature needs none. */
static tccp_ak *rsa_ak(void)
{
    uint8_t modulus[256], spki[TCCP_SPKI_BYTES_MAX];
    size_t len = 0;
    EVP_PKEY *key = NULL;
    tccp_ak *ak = NULL;
    memset(modulus, 0xb5, sizeof modulus);
    if (tpm_rsa_key(modulus, sizeof modulus, &key) != TCCP_OK || tpm_key_spki(key, spki, &len) != TCCP_OK ||
        tccp_ak_from_spki(spki, len, &ak) != TCCP_OK)
        abort();
    EVP_PKEY_free(key);
    return ak;
}

/* The generator of P-256 (SEC 2, 2.4.2). */
static tccp_ak *ecc_ak(void)
{
    static const uint8_t x[32] = {
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
        0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
    static const uint8_t y[32] = {
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
        0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t len = 0;
    EVP_PKEY *key = NULL;
    tccp_ak *ak = NULL;
    if (tpm_ecc_key(TPM_ECC_NIST_P256, x, y, &key) != TCCP_OK || tpm_key_spki(key, spki, &len) != TCCP_OK ||
        tccp_ak_from_spki(spki, len, &ak) != TCCP_OK)
        abort();
    EVP_PKEY_free(key);
    return ak;
}

static void try_with(const tccp_ak *ak, const uint8_t *signature, size_t size)
{
    static const uint8_t attest[] = "whatever was signed";
    signature_check check;
    tccp_status status = signature_prepare(ak, attest, sizeof attest, signature, size, &check);
    if (status == TCCP_OK && (signature_verify(&check) != TCCP_ERR_SIGNATURE ||
                              signature_verify_libcrypto(&check) != TCCP_ERR_SIGNATURE))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tccp_ak *rsa, *ecc;
    if (rsa == NULL) {
        rsa = rsa_ak();
        ecc = ecc_ak();
    }
    try_with(rsa, data, size);
    try_with(ecc, data, size);
    return 0;
}
