/* fuzz_signature.c: TPMT_SIGNATURE against a key of each family, through the mathematics where it gets so far: ours and
 * libcrypto's. */
#include <stdlib.h>
#include <string.h>

#include "signature.h"
#include "tpm_public.h"
#include "../tests/p256_generator.h"

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

static tccp_ak *ecc_ak(void)
{
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t len = 0;
    EVP_PKEY *key = NULL;
    tccp_ak *ak = NULL;
    if (tpm_ecc_key(TPM_ECC_NIST_P256, GENERATOR_X, GENERATOR_Y, &key) != TCCP_OK || tpm_key_spki(key, spki, &len) != TCCP_OK ||
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
