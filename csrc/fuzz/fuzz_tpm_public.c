/* fuzz_tpm_public.c: any bytes as a TPMT_PUBLIC or TPM2B_PUBLIC; what is accepted keeps its promises. */
#include <stdlib.h>

#include "tpm_public.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tccp_tpm_public public;
    if (tccp_tpm_public_parse(data, size, &public) != TCCP_OK)
        return 0;
    size_t digest_len = (size_t) EVP_MD_get_size(tpm_hash(public.name_alg));
    if (public.name_len != 2 + digest_len || public.spki_len == 0 || public.area_offset > size)
        abort();
    /* No key has both roles. */
    if (tccp_tpm_public_check_ak(&public) == TCCP_OK && tccp_tpm_public_check_ek(&public) == TCCP_OK)
        abort();
    return 0;
}
