/* tccp_event_log.h: firmware event logs (event_log.c, event_cover.c).
 * A part of tccp.h, which says what holds for every function. */
#ifndef TCCP_TCCP_EVENT_LOG_H
#define TCCP_TCCP_EVENT_LOG_H

#include "tccp_status.h"

/* [cffi */

#define TCCP_EVENT_LOG_BYTES_MAX 4194304
#define TCCP_EVENT_LOG_EVENTS_MAX 65536
#define TCCP_EVENT_LOG_BANKS 4 /* SHA-1, SHA-256, SHA-384, SHA-512, in this order; bit i of a mask is bank i */
#define TCCP_EVENT_LOG_PCRS 24
#define TCCP_EVENT_LOG_DIGEST_BYTES 64

/* Where a log ends, and why. From TCCP_EVENT_LOG_TRUNCATED on it is damaged, and what follows is not known. */
typedef enum tccp_event_log_ending {
    TCCP_EVENT_LOG_CLEAN = 0,            /* with its last event */
    TCCP_EVENT_LOG_PADDED_ZEROS = 1,     /* only 0x00 follows, as in the rest of a table's buffer */
    TCCP_EVENT_LOG_PADDED_ONES = 2,      /* only 0xFF follows */
    TCCP_EVENT_LOG_TRUNCATED = 3,        /* an event runs past the end of the log */
    TCCP_EVENT_LOG_BAD_PCR = 4,          /* an event in a PCR that no TPM has */
    TCCP_EVENT_LOG_BAD_DIGESTS = 5,      /* no digest, one bank twice, or a bank that the header does not declare */
    TCCP_EVENT_LOG_SECOND_HEADER = 6,    /* the format cannot change within a log */
    TCCP_EVENT_LOG_BAD_LOCALITY = 7      /* StartupLocality twice, after PCR 0 was extended, or not 0, 3 or 4 */
} tccp_event_log_ending;

/* One event; offsets count from the start of the log. Neither pcr nor type nor the data is covered by a digest:
 * pcr is proved by the replay, the data only where covered_banks says so, and the type by nothing at all. */
typedef struct tccp_event {
    uint32_t pcr;
    uint32_t type;
    uint32_t data_offset;
    uint32_t data_len;
    uint32_t covered_offset;    /* the part of the data whose hash is the digest, often all of it */
    uint32_t covered_len;
    uint32_t digest_offsets[TCCP_EVENT_LOG_BANKS]; /* for each bank; meaningful where the bit of digest_banks is set */
    uint8_t digest_banks;       /* the banks for which the event carries a digest */
    uint8_t covered_banks;      /* the banks whose digest is the hash of the covered part; 0: no part was found */
    uint8_t extends;            /* 0 for EV_NO_ACTION, which extends nothing and is proved by nothing */
} tccp_event;

typedef struct tccp_event_log_info {
    uint32_t consumed;           /* bytes of header and whole events; where the ending was found */
    uint32_t ending;             /* tccp_event_log_ending */
    uint8_t crypto_agile;        /* 1: TCG_PCR_EVENT2 after a Spec ID header; 0: SHA-1 only, TCG_PCClientPCREvent */
    uint8_t confidential;        /* 1: indices are those of a confidential VM's measurement registers, 1 = RTMR 0 */
    uint8_t startup_locality;    /* of TPM2_Startup; also the last byte with which PCR 0 starts */
    uint8_t dynamic_launch;      /* 1: events in PCRs 17-22, which therefore started at 0 and not at FF.. */
    uint8_t banks;               /* mask of the banks that the log carries and that were wanted */
    uint8_t exit_boot_services;  /* mask of the banks in which "Exit Boot Services Returned with Success" is measured */
    uint32_t touched[TCCP_EVENT_LOG_BANKS]; /* for each bank, bit i: PCR i was extended */
    /* The replay: final values, or reset values where nothing was extended. */
    uint8_t pcrs[TCCP_EVENT_LOG_BANKS][TCCP_EVENT_LOG_PCRS][TCCP_EVENT_LOG_DIGEST_BYTES];
} tccp_event_log_info;

/* Parse a firmware event log and replay it.
 *   banks_wanted  mask of the banks to replay, all of them with 0x0F; the digests of others are skipped
 *   events        room for events_max events; the header of a crypto-agile log is not one of them
 * TCCP_OK also for a damaged log: what stands before the damage is returned, and ret_info->ending says what is wrong.
 * TCCP_ERR_TOO_LARGE: more than TCCP_EVENT_LOG_BYTES_MAX bytes or events_max events.
 * TCCP_ERR_TRUNCATED, TCCP_ERR_MALFORMED: there is no first event, or its header contradicts itself.
 * Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (events), 10.4.5.1 (Spec ID), 10.4.5.3
 * (StartupLocality); Intel TDX Virtual Firmware Design Guide (confidential VMs). */
TCCP_MUST_USE tccp_status tccp_event_log_parse(const uint8_t *log, size_t log_len, uint32_t banks_wanted,
                                               tccp_event *events, size_t events_max, size_t *ret_count,
                                               tccp_event_log_info *ret_info);

/* cffi] */

#endif /* TCCP_TCCP_EVENT_LOG_H */
