/* event_log.h: what event_log.c and event_cover.c share. Private to the core. */
#ifndef TCCP_EVENT_LOG_H
#define TCCP_EVENT_LOG_H

#include <stdbool.h>
#include <string.h>

#include <openssl/evp.h>

#include "tccp.h"

#define BANKS TCCP_EVENT_LOG_BANKS
#define PCRS TCCP_EVENT_LOG_PCRS

/* PFP 1.06, table 27. */
#define EV_NO_ACTION 0x00000003u
#define EV_IPL 0x0000000Du
#define EV_EFI_VARIABLE_DRIVER_CONFIG 0x80000001u
#define EV_EFI_VARIABLE_BOOT 0x80000002u
#define EV_EFI_BOOT_SERVICES_APPLICATION 0x80000003u
#define EV_EFI_RUNTIME_SERVICES_DRIVER 0x80000005u
#define EV_EFI_ACTION 0x80000007u
#define EV_EFI_VARIABLE_BOOT2 0x8000000Cu
#define EV_EFI_VARIABLE_AUTHORITY 0x800000E0u

static const struct {
    uint16_t algorithm; /* TPM_ALG_ID */
    uint16_t digest_len;
    const char *name;
} BANK[BANKS] = {{0x0004, 20, "SHA1"}, {0x000B, 32, "SHA256"}, {0x000C, 48, "SHA384"}, {0x000D, 64, "SHA512"}};

typedef struct span {
    const uint8_t *bytes;
    size_t len;
} span;

static inline bool begins_with(span text, const void *prefix, size_t prefix_len)
{
    return text.len >= prefix_len && memcmp(text.bytes, prefix, prefix_len) == 0;
}

/* The hashes of the banks, fetched once for a log. */
typedef struct hasher {
    EVP_MD_CTX *context;
    EVP_MD *digests[BANKS];
} hasher;

/* H(first || second) in the given bank; false when libcrypto fails. */
static inline bool hash_two(hasher *h, int bank, span first, span second, uint8_t *ret_digest)
{
    return EVP_DigestInit_ex2(h->context, h->digests[bank], NULL) == 1 &&
           EVP_DigestUpdate(h->context, first.bytes, first.len) == 1 &&
           (second.len == 0 || EVP_DigestUpdate(h->context, second.bytes, second.len) == 1) &&
           EVP_DigestFinal_ex(h->context, ret_digest, NULL) == 1;
}

/* Find the part of the event's data whose hash is its digest; sets the covered_ fields. False when libcrypto fails. */
bool event_cover_find(hasher *h, const uint8_t *log, tccp_event *event);

#endif /* TCCP_EVENT_LOG_H */
