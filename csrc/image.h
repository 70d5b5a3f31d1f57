/* image.h: sealed images inside the C core: how they are laid out, and reading one at random.
 *
 *      0            4096                65536              69632                         + 8 MiB
 *      | header     | recipients        | tag page 0       | chunks 0 to 127             | tag page 1 | ...
 *      | descriptor | wrapped keys      | 128 tags of 32 B | 128 slots of 64 KiB         |
 *
 * Every chunk has a slot of 64 KiB at a fixed place, the last one is padded with zeros before it is encrypted. A chunk
 * that is all zeros is stored as a hole: its slot reads as zeros, and its tag is that of an empty message under the
 * chunk's own "zero" nonce, so that nobody without the key can turn data into zeros or zeros into data.
 *
 * docs/IMAGE_FORMAT.md says it byte by byte.
 */
#ifndef TCCP_IMAGE_H
#define TCCP_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aead.h"
#include "tccp.h"

enum {
    IMAGE_CHUNK_BYTES = TCCP_IMAGE_CHUNK_BYTES,
    IMAGE_GROUP_CHUNKS = 128,                                /* as many tags as fill a page */
    IMAGE_PAGE_BYTES = IMAGE_GROUP_CHUNKS * AEAD_TAG_BYTES,  /* 4096 */
    IMAGE_GROUP_BYTES = IMAGE_GROUP_CHUNKS * IMAGE_CHUNK_BYTES,
    IMAGE_DIGEST_BYTES = 32,
    IMAGE_DATA_OFFSET = TCCP_IMAGE_HEADER_BYTES,
    IMAGE_POLL_MS = 200 /* how long a job may wait for a pipe before it looks whether anybody still waits for it */
};

/* How many chunks and groups an image of so many bytes has, where they lie, and how long the sealed file is. */
static inline uint64_t image_chunks(uint64_t size)
{
    return size / IMAGE_CHUNK_BYTES + (size % IMAGE_CHUNK_BYTES != 0);
}

static inline uint64_t image_groups(uint64_t size)
{
    return size / IMAGE_GROUP_BYTES + (size % IMAGE_GROUP_BYTES != 0);
}

static inline uint64_t image_page_offset(uint64_t group)
{
    return IMAGE_DATA_OFFSET + group * (IMAGE_PAGE_BYTES + IMAGE_GROUP_BYTES);
}

static inline uint64_t image_chunk_offset(uint64_t chunk)
{
    return image_page_offset(chunk / IMAGE_GROUP_CHUNKS) + IMAGE_PAGE_BYTES +
           chunk % IMAGE_GROUP_CHUNKS * IMAGE_CHUNK_BYTES;
}

static inline uint64_t image_file_bytes(uint64_t size)
{
    return IMAGE_DATA_OFFSET + image_groups(size) * IMAGE_PAGE_BYTES + image_chunks(size) * IMAGE_CHUNK_BYTES;
}

/* ---- keys and chunks (image_chunk.c) -------------------------------------------------------------------------- */

/* What is derived from the key of an image; lives in locked memory. */
typedef struct image_keys {
    uint8_t data[AEAD_KEY_BYTES];
    uint8_t header[AEAD_KEY_BYTES];
    uint8_t commitment[AEAD_KEY_BYTES]; /* not secret: it stands in the header */
} image_keys;

/* From the 32 bytes of an image key, for the image of this id, file nonce and suite. NULL: no memory.
 * Wiped and freed by image_keys_free, which takes NULL too. */
image_keys *image_keys_derive(const uint8_t key[AEAD_KEY_BYTES], const tccp_image_info *info);
void image_keys_free(image_keys *keys);

/* Encrypts count chunks from number `first` on, in place, and gives their tags, one behind the other. */
void image_chunks_seal(const tccp_image_info *info, const image_keys *keys, uint64_t first, size_t count,
                       uint8_t *chunks, uint8_t *ret_tags);
void image_chunk_seal_zero(const tccp_image_info *info, const image_keys *keys, uint64_t chunk,
                           uint8_t ret_tag[AEAD_TAG_BYTES]);

/* Is this the tag of chunk number `chunk` when it is all zeros? */
bool image_chunk_is_zero(const tccp_image_info *info, const image_keys *keys, uint64_t chunk,
                         const uint8_t tag[AEAD_TAG_BYTES]);

/* Decrypts a chunk that is not a zero one; false when it is not chunk number `chunk` of this image. */
bool image_chunk_open(const tccp_image_info *info, const image_keys *keys, uint64_t chunk, uint8_t *plaintext,
                      const uint8_t *ciphertext, const uint8_t tag[AEAD_TAG_BYTES]);

/* Decrypts count of them from number `first` on, in place. Returns how many, from the first on, are what they should be; less
 * than count, and nothing may be used of those that were to be decrypted. */
size_t image_chunks_open(const tccp_image_info *info, const image_keys *keys, uint64_t first, size_t count,
                         uint8_t *chunks, const uint8_t *tags);

/* ---- the Merkle tree over tag pages (image_tree.c) -------------------------------------------------------------- */

/* RFC 6962, 2.1: leaves are the tag pages, 4096 bytes each; fed in order, needs no more than the tree is high. */
typedef struct image_tree {
    uint64_t count;
    uint8_t nodes[64][IMAGE_DIGEST_BYTES]; /* full subtrees to the left, the largest first */
} image_tree;

void image_tree_start(image_tree *tree);
bool image_leaf_hash(const uint8_t page[IMAGE_PAGE_BYTES], uint8_t ret_hash[IMAGE_DIGEST_BYTES]);
bool image_tree_add(image_tree *tree, const uint8_t leaf_hash[IMAGE_DIGEST_BYTES]);
bool image_tree_root(const image_tree *tree, uint8_t ret_root[IMAGE_DIGEST_BYTES]);

/* ---- random access (image_reader.c) ------------------------------------------------------------------------------ */

/* An open sealed image whose header, tag pages and key have been verified. Never written after it was opened: any
 * number of threads may read chunks of it at once. Holds 32 bytes of memory for each chunk: 0.05 % of the image. */
typedef struct image_reader image_reader;

/* Open the sealed image behind a descriptor, which stays the caller's and must stay open; its offset is not used.
 *   key    the 32 bytes of the image key; copied into locked memory
 *   root   what the ticket names: another image is TCCP_ERR_ROOT; NULL only where no root is known
 * The tenant's signature is not looked at: whoever released the key and named the root has done that. */
TCCP_MUST_USE tccp_status image_reader_open(int fd, const uint8_t key[AEAD_KEY_BYTES],
                                            const uint8_t root[IMAGE_DIGEST_BYTES], image_reader **ret_reader);
void image_reader_close(image_reader *reader);

/* Size, id, root and so on. */
const tccp_image_info *image_reader_info(const image_reader *reader);

/* Chunk number `chunk`, verified, into a buffer of IMAGE_CHUNK_BYTES; past the end of the image it holds zeros.
 * TCCP_ERR_CHUNK_ALTERED: the buffer holds nothing of it. TCCP_ERR_IO: errno says why. */
TCCP_MUST_USE tccp_status image_reader_chunk(const image_reader *reader, uint64_t chunk,
                                             uint8_t ret_plaintext[IMAGE_CHUNK_BYTES]);

/* Whether the chunk is a zero one; reads nothing from the file. */
bool image_reader_chunk_is_zero(const image_reader *reader, uint64_t chunk);

/* ---- shared by the files of this subject -------------------------------------------------------------------------- */

/* All of len bytes at offset, or false with errno; a file that ends before is ENODATA. */
bool image_read_at(int fd, void *buffer, size_t len, uint64_t offset);
bool image_write_at(int fd, const void *buffer, size_t len, uint64_t offset);
bool image_is_zero(const uint8_t *bytes, size_t len);

/* How many of len bytes can be written to a stream at once, without waiting for whoever reads it; 0: none yet. Returns after
 * IMAGE_POLL_MS at the latest. Nobody else writes to it. */
size_t image_stream_room(int fd, size_t len);

/* Lets the disk begin with what was written there, while the processors work on what comes next. */
void image_begin_writeback(int fd, uint64_t offset, uint64_t len);

/* Reads the tag pages, one behind the other, and compares their tree with the one of the header.
 *   ret_leaves  room for image_groups(size) hashes, or NULL
 *   ret_pages   room for image_groups(size) pages, or NULL */
TCCP_MUST_USE tccp_status image_check_pages(int fd, const tccp_image_info *info, uint8_t *ret_leaves,
                                            uint8_t *ret_pages);

/* The root that follows from size, suite, id, nonce, commitment and tree. */
bool image_root(const tccp_image_info *info, uint8_t ret_root[IMAGE_DIGEST_BYTES]);

/* Header and recipients against the key: commitment, then both MACs; see tccp_image_header_check. */
TCCP_MUST_USE tccp_status image_header_check(const uint8_t *header, const tccp_image_info *info,
                                             const uint8_t key[AEAD_KEY_BYTES]);

#endif /* TCCP_IMAGE_H */
