/* fuzz_ima_signature.c: any bytes as a signature over a file, as an attribute of it and appended to it; behind the list,
 * which fuzz_ima.c has, so that libcrypto's CMS gets all of the input. No file is signed by keys that nobody has.
 */
#include <stdlib.h>
#include <string.h>

#include "ima.h"
#include "tpm_public.h"
#include "../tests/p256_generator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ima_key *keys[2];

static void require(bool promise)
{
    if (!promise)
        abort();
}

static void take_key(EVP_PKEY *key, ima_key **ret_key)
{
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t len = 0;
    require(tpm_key_spki(key, spki, &len) == TCCP_OK);
    require(ima_key_from_spki((span){spki, len}, ret_key) == TCCP_OK);
    EVP_PKEY_free(key);
}

static void make_keys(void)
{
    uint8_t modulus[256];
    EVP_PKEY *rsa = NULL, *ecc = NULL;
    memset(modulus, 0xb5, sizeof modulus);
    require(tpm_rsa_key(modulus, sizeof modulus, &rsa) == TCCP_OK);
    require(tpm_ecc_key(TPM_ECC_NIST_P256, GENERATOR_X, GENERATOR_Y, &ecc) == TCCP_OK);
    take_key(rsa, &keys[0]);
    take_key(ecc, &keys[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t digest[64] = {1};
    static const size_t digest_len[] = {0, 20, 32, 48, 64};
    if (keys[0] == NULL)
        make_keys();
    for (uint8_t bank = IMA_SHA256 - 1; bank <= IMA_SHA512; bank++) {
        const span signed_digest = {digest, digest_len[bank]}, signature = {data, size};
        require(!ima_signature_holds(keys, 2, bank, signed_digest, signature));
        require(!ima_modsig_holds(keys, 2, bank, signed_digest, signature));
    }
    return 0;
}
