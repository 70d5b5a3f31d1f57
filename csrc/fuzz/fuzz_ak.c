/* fuzz_ak.c: SubjectPublicKeyInfo, which libcrypto decodes and we then hold to one encoding. */
#include <stdlib.h>
#include <string.h>

#include "tccp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tccp_ak *ak = NULL;
    tccp_ak_info info;
    tccp_status status = tccp_ak_from_spki(data, size, &ak);
    if ((status == TCCP_OK) != (ak != NULL))
        abort();
    if (ak != NULL && (tccp_ak_describe(ak, &info) != TCCP_OK || info.spki_len != size ||
                       memcmp(info.spki, data, size) != 0))
        abort();
    tccp_ak_free(ak);
    return 0;
}
