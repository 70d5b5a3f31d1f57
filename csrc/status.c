/* status.c: names of the statuses; Python uses them as the reasons of its exceptions. */
#include "tccp.h"

const char *tccp_status_name(int status)
{
    switch (status) {
    case TCCP_OK: return "ok";
    case TCCP_ERR_USAGE: return "usage";
    case TCCP_ERR_INTERNAL: return "internal";
    case TCCP_ERR_NO_MEMORY: return "no_memory";
    case TCCP_ERR_IO: return "os_error";
    case TCCP_ERR_CANCELLED: return "cancelled";
    case TCCP_ERR_NO_SPACE: return "no_space";
    case TCCP_ERR_MALFORMED: return "malformed";
    case TCCP_ERR_TOO_LARGE: return "too_large";
    case TCCP_ERR_UNSUPPORTED: return "unsupported";
    case TCCP_ERR_SIGNATURE: return "bad_signature";
    case TCCP_ERR_NOT_A_QUOTE: return "not_a_quote";
    case TCCP_ERR_NONCE_MISMATCH: return "nonce_mismatch";
    case TCCP_ERR_SELECTION: return "wrong_pcr_selection";
    case TCCP_ERR_PCR_DIGEST: return "pcr_digest_mismatch";
    case TCCP_ERR_KEY_ATTRIBUTES: return "key_attributes";
    case TCCP_ERR_UNTRUSTED: return "untrusted";
    case TCCP_ERR_KEY_MISMATCH: return "key_mismatch";
    case TCCP_ERR_EXPIRED: return "expired";
    case TCCP_ERR_TRUNCATED: return "truncated";
    case TCCP_ERR_REVOKED: return "certificate_revoked";
    case TCCP_ERR_EXTENDED: return "extended";
    case TCCP_ERR_WRONG_KEY: return "wrong_key";
    case TCCP_ERR_SUITE_ALTERED: return "suite_altered";
    case TCCP_ERR_HEADER_ALTERED: return "header_altered";
    case TCCP_ERR_RECIPIENTS_ALTERED: return "recipients_altered";
    case TCCP_ERR_TAGS_ALTERED: return "tags_altered";
    case TCCP_ERR_TAGS_ZEROED: return "tags_zeroed";
    case TCCP_ERR_CHUNK_ALTERED: return "chunk_altered";
    case TCCP_ERR_CHUNK_MOVED: return "chunk_moved";
    case TCCP_ERR_ROOT: return "wrong_root";
    case TCCP_ERR_DISK_KEY: return "wrong_disk_key";
    case TCCP_ERR_DISK_CORRUPT: return "disk_corrupt";
    case TCCP_ERR_DISK_ROOT: return "wrong_disk_root";
    case TCCP_ERR_DISK_BASE: return "wrong_base_image";
    case TCCP_ERR_DISK_MARK: return "wrong_disk_mark";
    default: return "unknown";
    }
}
