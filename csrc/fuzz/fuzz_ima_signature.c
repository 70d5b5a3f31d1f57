/* fuzz_ima_signature.c: any bytes as a signature over a file, as an attribute of it and appended to it; behind the list,
 * which fuzz_ima.c has, so that libcrypto's CMS gets all of the input. No file is signed by keys that nobody has.
 */
#include <stdlib.h>
#include <string.h>

#include "ima.h"
#include "tpm_public.h"

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
    static const uint8_t x[32] = {
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
        0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
    static const uint8_t y[32] = {
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
        0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
    uint8_t modulus[256];
    EVP_PKEY *rsa = NULL, *ecc = NULL;
    memset(modulus, 0xb5, sizeof modulus);
    require(tpm_rsa_key(modulus, sizeof modulus, &rsa) == TCCP_OK);
    require(tpm_ecc_key(TPM_ECC_NIST_P256, x, y, &ecc) == TCCP_OK); /* the generator: SEC 2, 2.4.2 */
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
