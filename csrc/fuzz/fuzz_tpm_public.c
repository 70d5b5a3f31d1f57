/* fuzz_tpm_public.c: any bytes as a TPMT_PUBLIC or TPM2B_PUBLIC; what is accepted keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "tpm_public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tccp_tpm_public public;
    if (tccp_tpm_public_parse(data, size, &public) != TCCP_OK)
        return 0;
    size_t digest_len = (size_t) EVP_MD_get_size(tpm_hash(public.name_alg));
    if (public.name_len != 2 + digest_len || public.area_offset > size)
        abort();
    /* The SPKI that is written by hand is libcrypto's. */
    EVP_PKEY *key = NULL;
    uint8_t spki[TCCP_SPKI_BYTES_MAX];
    size_t spki_len;
    if (tpm_public_key(&public, &key) != TCCP_OK || tpm_key_spki(key, spki, &spki_len) != TCCP_OK ||
        spki_len != public.spki_len || memcmp(spki, public.spki, spki_len) != 0)
        abort();
    EVP_PKEY_free(key);
    /* No key has both roles. */
    if (tccp_tpm_public_check_ak(&public) == TCCP_OK && tccp_tpm_public_check_ek(&public) == TCCP_OK)
        abort();
    return 0;
}
