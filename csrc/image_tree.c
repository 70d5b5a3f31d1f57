/* image_tree.c: the Merkle tree over tag pages, as RFC 6962, 2.1 builds it. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "image.h"
#include "tpm_public.h"

static bool sha256(const uint8_t *bytes, size_t len, uint8_t ret_hash[IMAGE_DIGEST_BYTES])
{
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    if (!hash_bytes(TPM_ALG_SHA256, bytes, len, digest))
        return false;
    memcpy(ret_hash, digest, IMAGE_DIGEST_BYTES);
    return true;
}

static bool hash_pair(uint8_t left_and_result[IMAGE_DIGEST_BYTES], const uint8_t right[IMAGE_DIGEST_BYTES])
{
    uint8_t input[1 + 2 * IMAGE_DIGEST_BYTES] = {1};
    memcpy(input + 1, left_and_result, IMAGE_DIGEST_BYTES);
    memcpy(input + 1 + IMAGE_DIGEST_BYTES, right, IMAGE_DIGEST_BYTES);
    return sha256(input, sizeof input, left_and_result);
}

void image_tree_start(image_tree *tree)
{
    tree->count = 0;
}

bool image_leaf_hash(const uint8_t page[IMAGE_PAGE_BYTES], uint8_t ret_hash[IMAGE_DIGEST_BYTES])
{
    uint8_t input[1 + IMAGE_PAGE_BYTES];
    input[0] = 0;
    memcpy(input + 1, page, IMAGE_PAGE_BYTES);
    return sha256(input, sizeof input, ret_hash);
}

/* The ones of count are the full subtrees so far: adding a leaf merges them as adding 1 carries. */
bool image_tree_add(image_tree *tree, const uint8_t leaf_hash[IMAGE_DIGEST_BYTES])
{
    int depth = __builtin_popcountll(tree->count);
    memcpy(tree->nodes[depth], leaf_hash, IMAGE_DIGEST_BYTES);
    for (uint64_t carried = tree->count; carried & 1; carried >>= 1, depth--) {
        if (!hash_pair(tree->nodes[depth - 1], tree->nodes[depth]))
            return false;
    }
    tree->count++;
    return true;
}

bool image_tree_root(const image_tree *tree, uint8_t ret_root[IMAGE_DIGEST_BYTES])
{
    int depth = __builtin_popcountll(tree->count);
    if (depth == 0)
        return sha256((const uint8_t *) "", 0, ret_root);
    uint8_t right[IMAGE_DIGEST_BYTES];
    memcpy(right, tree->nodes[--depth], IMAGE_DIGEST_BYTES);
    while (depth > 0) {
        uint8_t left[IMAGE_DIGEST_BYTES];
        memcpy(left, tree->nodes[--depth], IMAGE_DIGEST_BYTES);
        if (!hash_pair(left, right))
            return false;
        memcpy(right, left, IMAGE_DIGEST_BYTES);
    }
    memcpy(ret_root, right, IMAGE_DIGEST_BYTES);
    return true;
}

/* Reading a page failed: the file ends there although its length was checked, or the disk is broken. */
static tccp_status read_failed(void)
{
    return errno == ENODATA ? TCCP_ERR_TRUNCATED : TCCP_ERR_IO;
}

tccp_status image_check_pages(int fd, const tccp_image_info *info, uint8_t *ret_leaves, uint8_t *ret_pages)
{
    image_tree tree;
    bool some_zeroed = false;
    image_tree_start(&tree);
    for (uint64_t group = 0; group < image_groups(info->size); group++) {
        uint8_t own_page[IMAGE_PAGE_BYTES], leaf[IMAGE_DIGEST_BYTES];
        uint8_t *page = ret_pages != NULL ? ret_pages + group * IMAGE_PAGE_BYTES : own_page;
        if (!image_read_at(fd, page, IMAGE_PAGE_BYTES, image_page_offset(group)))
            return read_failed();
        if (!image_leaf_hash(page, leaf) || !image_tree_add(&tree, leaf))
            return TCCP_ERR_INTERNAL;
        if (ret_leaves != NULL)
            memcpy(ret_leaves + group * IMAGE_DIGEST_BYTES, leaf, IMAGE_DIGEST_BYTES);
        some_zeroed |= image_is_zero(page, IMAGE_PAGE_BYTES);
    }
    uint8_t root[IMAGE_DIGEST_BYTES];
    if (!image_tree_root(&tree, root))
        return TCCP_ERR_INTERNAL;
    if (memcmp(root, info->tree, sizeof root) != 0)
        return some_zeroed ? TCCP_ERR_TAGS_ZEROED : TCCP_ERR_TAGS_ALTERED;
    return TCCP_OK;
}
