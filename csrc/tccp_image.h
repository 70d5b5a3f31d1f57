/* tccp_image.h: sealed images (image_*.c; docs/IMAGE_FORMAT.md).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_IMAGE_H
#define TCCP_TCCP_IMAGE_H

#include "tccp_status.h"

/* [cffi */

#define TCCP_IMAGE_HEADER_BYTES 65536
#define TCCP_IMAGE_CHUNK_BYTES 65536
#define TCCP_IMAGE_KEY_BYTES 32
#define TCCP_IMAGE_RECIPIENT_BYTES 1216
#define TCCP_IMAGE_RECIPIENTS_MAX 50
#define TCCP_IMAGE_SIZE_MAX 17592186044416
#define TCCP_IMAGE_THREADS_MAX 64

#define TCCP_SUITE_AEGIS256 1
#define TCCP_SUITE_XCHACHA20_POLY1305 2

/* What the header of a sealed image says. */
typedef struct tccp_image_info {
    uint64_t size;              /* of the image, in bytes */
    uint64_t file_bytes;        /* of the sealed file */
    uint32_t suite;             /* TCCP_SUITE_... */
    uint32_t recipient_count;
    int is_signed;              /* 1: tenant and signature are there; nobody has verified them yet */
    uint8_t image_id[16];
    uint8_t file_nonce[16];
    uint8_t commitment[32];     /* to the image key */
    uint8_t tree[32];           /* RFC 6962 hash over the tag pages */
    uint8_t tenant[32];         /* Ed25519 */
    uint8_t signature[64];      /* Ed25519, over a domain separator and the root */
    uint8_t root[32];           /* what a ticket names: SHA-256 over a domain separator and the descriptor */
} tccp_image_info;

/* Shared with the caller while a job runs: it may read these at any time, and set cancel to 1. */
typedef struct tccp_image_progress {
    uint64_t total_bytes;       /* of the image; 0 while it is unknown */
    uint64_t done_bytes;
    int32_t cancel;
    int32_t os_error;           /* with TCCP_ERR_IO: the errno */
    uint64_t chunk;             /* with TCCP_ERR_CHUNK_...: which one */
    uint64_t moved_from;        /* with TCCP_ERR_CHUNK_MOVED: which one stands in its place */
} tccp_image_progress;

/* The key of one image, in locked memory. */
typedef struct tccp_image_key tccp_image_key;

/* A fresh random key, or one copied from 32 bytes, which are wiped. Freed and wiped by tccp_image_key_free, which takes
 * NULL too. */
TCCP_MUST_USE tccp_status tccp_image_key_generate(tccp_image_key **ret_key);
TCCP_MUST_USE tccp_status tccp_image_key_take(uint8_t *bytes, size_t bytes_len, tccp_image_key **ret_key);
void tccp_image_key_free(tccp_image_key *key);

/* The 32 bytes themselves, for wrapping; they live as long as the key. */
const uint8_t *tccp_image_key_bytes(const tccp_image_key *key);

/* The suite for new images on this CPU. */
uint32_t tccp_image_suite_of_cpu(void);

/* Parse header and recipients: the first TCCP_IMAGE_HEADER_BYTES of a sealed image, in a file of file_bytes.
 * Nothing in it has been verified after that; the structure is canonical, the file exactly as long as it must be.
 * TCCP_ERR_MALFORMED, TCCP_ERR_UNSUPPORTED (version or suite), TCCP_ERR_TRUNCATED, TCCP_ERR_EXTENDED. */
TCCP_MUST_USE tccp_status tccp_image_header_parse(const uint8_t *header, size_t header_len, uint64_t file_bytes,
                                                  tccp_image_info *ret_info);

/* Check a parsed header against the image key: the commitment (TCCP_ERR_WRONG_KEY, TCCP_ERR_SUITE_ALTERED), the MAC
 * over the header (TCCP_ERR_HEADER_ALTERED) and the MAC over the recipients (TCCP_ERR_RECIPIENTS_ALTERED). */
TCCP_MUST_USE tccp_status tccp_image_header_check(const uint8_t *header, size_t header_len,
                                                  const tccp_image_info *info, const tccp_image_key *key);

/* Write the header of an image that was sealed with this key.
 *   info        from tccp_image_seal or tccp_image_header_parse; the root is computed here anew
 *   recipients  recipient_count entries of TCCP_IMAGE_RECIPIENT_BYTES */
TCCP_MUST_USE tccp_status tccp_image_header_write(const tccp_image_info *info, const uint8_t *recipients,
                                                  size_t recipients_len, const tccp_image_key *key,
                                                  uint8_t *ret_header, size_t header_len);

/* Encrypt what source_fd gives into target_fd, an empty regular file; the room for the header stays free.
 * A regular file as source is read from its beginning, holes are skipped; anything else is read to its end.
 * ret_info has a fresh id and file nonce, size, commitment, tree and root. */
TCCP_MUST_USE tccp_status tccp_image_seal(int source_fd, int target_fd, const tccp_image_key *key, uint32_t suite,
                                          uint32_t threads, tccp_image_progress *progress, tccp_image_info *ret_info);

/* Verify the tags of image_fd against info, which came from tccp_image_header_parse: no key is needed, and no data is
 * read. TCCP_ERR_TAGS_ALTERED, TCCP_ERR_TAGS_ZEROED. */
TCCP_MUST_USE tccp_status tccp_image_check_tags(int image_fd, const tccp_image_info *info,
                                                tccp_image_progress *progress);

/* Decrypt image_fd into target_fd: an empty regular file, which gets holes; or, with in_order, whatever it is, from where
 * it stands to its end. What is no regular file is always written in order.
 * With target_fd -1 everything is verified and nothing written. Tags are checked first, as tccp_image_check_tags does;
 * nothing of a chunk is written before its own tag was verified. The caller has checked the header with this key.
 * TCCP_ERR_TAGS_..., TCCP_ERR_CHUNK_ALTERED, TCCP_ERR_CHUNK_MOVED. */
TCCP_MUST_USE tccp_status tccp_image_open(int image_fd, int target_fd, int in_order, const tccp_image_info *info,
                                          const tccp_image_key *key, uint32_t threads, tccp_image_progress *progress);

/* cffi] */

#endif /* TCCP_TCCP_IMAGE_H */
