/* fuzz_image_header.c: any bytes as the header of a sealed image, padded to its length; what is accepted is canonical.
 *
 * The first byte of the input says how: even, and the file is as long as the header claims; odd, and it is as long as the
 * input. The rest lies at the header's beginning.
 */
#include <stdlib.h>
#include <string.h>

#include "image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool promise)
{
    if (!promise)
        abort();
}

static uint64_t claimed_file_bytes(const uint8_t *header)
{
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | header[24 + i];
    return size <= TCCP_IMAGE_SIZE_MAX ? image_file_bytes(size) : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t header[TCCP_IMAGE_HEADER_BYTES], written[TCCP_IMAGE_HEADER_BYTES];
    static tccp_image_key *key;
    uint8_t key_bytes[TCCP_IMAGE_KEY_BYTES] = {7};
    if (key == NULL)
        require(tccp_image_key_take(key_bytes, sizeof key_bytes, &key) == TCCP_OK);
    if (size == 0)
        return 0;
    tccp_image_info info;
    bool whole = data[0] % 2 == 0;
    size_t len = size - 1 < sizeof header ? size - 1 : sizeof header;
    memset(header, 0, sizeof header);
    memcpy(header, data + 1, len);
    tccp_status status = whole ? tccp_image_header_parse(header, sizeof header, claimed_file_bytes(header), &info)
                               : tccp_image_header_parse(data + 1, len, len, &info);
    if (status != TCCP_OK)
        return 0;
    require(aead_suite_known(info.suite) && info.recipient_count <= TCCP_IMAGE_RECIPIENTS_MAX);
    require(info.file_bytes == image_file_bytes(info.size) && info.size <= TCCP_IMAGE_SIZE_MAX);
    /* Written again, everything but the MACs is the same: there is one encoding only. */
    size_t recipients_len = (size_t) info.recipient_count * TCCP_IMAGE_RECIPIENT_BYTES;
    const uint8_t *input = whole ? header : data + 1;
    require(tccp_image_header_write(&info, input + 4096, recipients_len, key, written, sizeof written) == TCCP_OK);
    require(memcmp(written, input, 4032) == 0 && memcmp(written + 4096, input + 4096, sizeof written - 4096) == 0);
    /* Its commitment is to our key only when the fuzzer has broken BLAKE2b. */
    require(tccp_image_header_check(input, sizeof header, &info, key) == TCCP_ERR_WRONG_KEY);
    return 0;
}
