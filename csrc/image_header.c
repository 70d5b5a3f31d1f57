/* image_header.c: header and recipients of a sealed image: parse, check with the key, write.
 *
 * There is exactly one encoding of everything: unused bytes are zero and must be, so that no byte of the 64 KiB can be
 * changed without being found, with the key by the MACs and without it by the signature or here.
 */
#include <sodium.h>
#include <string.h>

#include "hash.h"
#include "image.h"
#include "reader.h"
#include "tpm_public.h"

static const uint8_t MAGIC[8] = {0x89, 'T', 'C', 'I', '\r', '\n', 0x1a, '\n'};
/* Its terminating zero is hashed too. */
static const char ROOT_DOMAIN[] = "tccp image root v1";

enum {
    VERSION = 1,
    DESCRIPTOR_BYTES = 256,
    TENANT_OFFSET = 256,
    SIGNATURE_OFFSET = 288,
    COUNT_OFFSET = 352,
    RECIPIENTS_MAC_OFFSET = 4032,
    HEADER_MAC_OFFSET = 4064,
    RECIPIENTS_OFFSET = 4096,
    RECIPIENTS_BYTES = TCCP_IMAGE_HEADER_BYTES - RECIPIENTS_OFFSET,
    MAC_BYTES = 32
};

_Static_assert(TCCP_IMAGE_RECIPIENTS_MAX * TCCP_IMAGE_RECIPIENT_BYTES <= RECIPIENTS_BYTES, "room for all recipients");
_Static_assert(TCCP_SUITE_AEGIS256 == AEAD_AEGIS256 && TCCP_SUITE_XCHACHA20_POLY1305 == AEAD_XCHACHA20_POLY1305,
               "suites are numbered once");

static bool root_of(const uint8_t descriptor[DESCRIPTOR_BYTES], uint8_t ret_root[IMAGE_DIGEST_BYTES])
{
    uint8_t input[sizeof ROOT_DOMAIN + DESCRIPTOR_BYTES], digest[TCCP_DIGEST_BYTES_MAX];
    memcpy(input, ROOT_DOMAIN, sizeof ROOT_DOMAIN);
    memcpy(input + sizeof ROOT_DOMAIN, descriptor, DESCRIPTOR_BYTES);
    if (!hash_bytes(TPM_ALG_SHA256, input, sizeof input, digest))
        return false;
    memcpy(ret_root, digest, IMAGE_DIGEST_BYTES);
    return true;
}

static void read_into(reader *in, uint8_t *ret_bytes, size_t len)
{
    const uint8_t *bytes = read_bytes(in, len);
    if (bytes != NULL)
        memcpy(ret_bytes, bytes, len);
}

static tccp_status parse_descriptor(reader *in, tccp_image_info *info)
{
    const uint8_t *magic = read_bytes(in, sizeof MAGIC);
    if (magic == NULL || memcmp(magic, MAGIC, sizeof MAGIC) != 0)
        return TCCP_ERR_MALFORMED;
    uint64_t version = read_uint_le(in, 4);
    info->suite = (uint32_t) read_uint_le(in, 4);
    uint64_t chunk_bytes = read_uint_le(in, 4);
    uint64_t group_chunks = read_uint_le(in, 4);
    info->size = read_uint_le(in, 8);
    read_into(in, info->image_id, sizeof info->image_id);
    read_into(in, info->file_nonce, sizeof info->file_nonce);
    read_into(in, info->commitment, sizeof info->commitment);
    read_into(in, info->tree, sizeof info->tree);
    const uint8_t *unused = read_bytes(in, DESCRIPTOR_BYTES - 128);
    if (in->failed)
        return TCCP_ERR_TRUNCATED;
    if (version != VERSION || !aead_suite_known(info->suite))
        return TCCP_ERR_UNSUPPORTED;
    if (chunk_bytes != IMAGE_CHUNK_BYTES || group_chunks != IMAGE_GROUP_CHUNKS ||
        !image_is_zero(unused, DESCRIPTOR_BYTES - 128))
        return TCCP_ERR_MALFORMED;
    return info->size > TCCP_IMAGE_SIZE_MAX ? TCCP_ERR_TOO_LARGE : TCCP_OK;
}

tccp_status tccp_image_header_parse(const uint8_t *header, size_t header_len, uint64_t file_bytes,
                                    tccp_image_info *ret_info)
{
    if (header == NULL || ret_info == NULL)
        return TCCP_ERR_USAGE;
    tccp_image_info info = {0};
    reader in = reader_of(header, header_len);
    tccp_status status = parse_descriptor(&in, &info);
    if (status != TCCP_OK)
        return status;
    read_into(&in, info.tenant, sizeof info.tenant);
    read_into(&in, info.signature, sizeof info.signature);
    info.recipient_count = (uint32_t) read_uint_le(&in, 4);
    const uint8_t *unused = read_bytes(&in, RECIPIENTS_MAC_OFFSET - COUNT_OFFSET - 4);
    (void) read_bytes(&in, 2 * MAC_BYTES);
    const uint8_t *recipients = read_bytes(&in, RECIPIENTS_BYTES);
    if (in.failed)
        return TCCP_ERR_TRUNCATED;
    size_t used = (size_t) info.recipient_count * TCCP_IMAGE_RECIPIENT_BYTES;
    if (!image_is_zero(unused, RECIPIENTS_MAC_OFFSET - COUNT_OFFSET - 4) ||
        info.recipient_count > TCCP_IMAGE_RECIPIENTS_MAX || !image_is_zero(recipients + used, RECIPIENTS_BYTES - used))
        return TCCP_ERR_MALFORMED;
    info.is_signed = !image_is_zero(info.tenant, sizeof info.tenant);
    if (!info.is_signed && !image_is_zero(info.signature, sizeof info.signature))
        return TCCP_ERR_MALFORMED;
    info.file_bytes = image_file_bytes(info.size);
    if (file_bytes != info.file_bytes)
        return file_bytes < info.file_bytes ? TCCP_ERR_TRUNCATED : TCCP_ERR_EXTENDED;
    if (!root_of(header, info.root))
        return TCCP_ERR_INTERNAL;
    *ret_info = info;
    return TCCP_OK;
}

static void mac(const image_keys *keys, const uint8_t *bytes, size_t len, uint8_t ret_mac[MAC_BYTES])
{
    crypto_generichash_blake2b(ret_mac, MAC_BYTES, bytes, len, keys->header, sizeof keys->header);
}

/* The keys of the image in this suite; TCCP_ERR_WRONG_KEY when it does not commit to them. */
static tccp_status committed_keys(const tccp_image_info *info, uint32_t suite, const uint8_t key[AEAD_KEY_BYTES],
                                  image_keys **ret_keys)
{
    tccp_image_info in_suite = *info;
    in_suite.suite = suite;
    image_keys *keys = image_keys_derive(key, &in_suite);
    if (keys == NULL)
        return TCCP_ERR_NO_MEMORY;
    if (sodium_memcmp(keys->commitment, info->commitment, sizeof info->commitment) != 0) {
        image_keys_free(keys);
        return TCCP_ERR_WRONG_KEY;
    }
    *ret_keys = keys;
    return TCCP_OK;
}

tccp_status image_header_check(const uint8_t *header, const tccp_image_info *info, const uint8_t key[AEAD_KEY_BYTES])
{
    image_keys *keys = NULL;
    tccp_status status = committed_keys(info, info->suite, key, &keys);
    if (status == TCCP_ERR_WRONG_KEY) {
        uint32_t other = info->suite == AEAD_AEGIS256 ? AEAD_XCHACHA20_POLY1305 : AEAD_AEGIS256;
        status = committed_keys(info, other, key, &keys);
        image_keys_free(keys);
        return status == TCCP_OK ? TCCP_ERR_SUITE_ALTERED : status;
    }
    if (status != TCCP_OK)
        return status;
    uint8_t header_mac[MAC_BYTES], recipients_mac[MAC_BYTES];
    mac(keys, header, HEADER_MAC_OFFSET, header_mac);
    mac(keys, header + RECIPIENTS_OFFSET, RECIPIENTS_BYTES, recipients_mac);
    image_keys_free(keys);
    if (sodium_memcmp(header_mac, header + HEADER_MAC_OFFSET, MAC_BYTES) != 0)
        return TCCP_ERR_HEADER_ALTERED;
    if (sodium_memcmp(recipients_mac, header + RECIPIENTS_MAC_OFFSET, MAC_BYTES) != 0)
        return TCCP_ERR_RECIPIENTS_ALTERED;
    return TCCP_OK;
}

tccp_status tccp_image_header_check(const uint8_t *header, size_t header_len, const tccp_image_info *info,
                                    const tccp_image_key *key)
{
    if (header == NULL || header_len != TCCP_IMAGE_HEADER_BYTES || info == NULL || key == NULL)
        return TCCP_ERR_USAGE;
    return image_header_check(header, info, tccp_image_key_bytes(key));
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *put_uint_le(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        *at++ = (uint8_t) (value >> 8 * i);
    return at;
}

static void write_descriptor(const tccp_image_info *info, uint8_t descriptor[DESCRIPTOR_BYTES])
{
    memset(descriptor, 0, DESCRIPTOR_BYTES);
    uint8_t *at = put(descriptor, MAGIC, sizeof MAGIC);
    at = put_uint_le(at, VERSION, 4);
    at = put_uint_le(at, info->suite, 4);
    at = put_uint_le(at, IMAGE_CHUNK_BYTES, 4);
    at = put_uint_le(at, IMAGE_GROUP_CHUNKS, 4);
    at = put_uint_le(at, info->size, 8);
    at = put(at, info->image_id, sizeof info->image_id);
    at = put(at, info->file_nonce, sizeof info->file_nonce);
    at = put(at, info->commitment, sizeof info->commitment);
    (void) put(at, info->tree, sizeof info->tree);
}

bool image_root(const tccp_image_info *info, uint8_t ret_root[IMAGE_DIGEST_BYTES])
{
    uint8_t descriptor[DESCRIPTOR_BYTES];
    write_descriptor(info, descriptor);
    return root_of(descriptor, ret_root);
}

tccp_status tccp_image_header_write(const tccp_image_info *info, const uint8_t *recipients, size_t recipients_len,
                                    const tccp_image_key *key, uint8_t *ret_header, size_t header_len)
{
    if (info == NULL || recipients == NULL || key == NULL || ret_header == NULL ||
        header_len != TCCP_IMAGE_HEADER_BYTES || info->recipient_count > TCCP_IMAGE_RECIPIENTS_MAX ||
        recipients_len != (size_t) info->recipient_count * TCCP_IMAGE_RECIPIENT_BYTES)
        return TCCP_ERR_USAGE;
    image_keys *keys = image_keys_derive(tccp_image_key_bytes(key), info);
    if (keys == NULL)
        return TCCP_ERR_NO_MEMORY;
    memset(ret_header, 0, header_len);
    write_descriptor(info, ret_header);
    if (info->is_signed) {
        memcpy(ret_header + TENANT_OFFSET, info->tenant, sizeof info->tenant);
        memcpy(ret_header + SIGNATURE_OFFSET, info->signature, sizeof info->signature);
    }
    (void) put_uint_le(ret_header + COUNT_OFFSET, info->recipient_count, 4);
    memcpy(ret_header + RECIPIENTS_OFFSET, recipients, recipients_len);
    mac(keys, ret_header + RECIPIENTS_OFFSET, RECIPIENTS_BYTES, ret_header + RECIPIENTS_MAC_OFFSET);
    mac(keys, ret_header, HEADER_MAC_OFFSET, ret_header + HEADER_MAC_OFFSET);
    image_keys_free(keys);
    return TCCP_OK;
}
