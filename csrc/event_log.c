/* event_log.c: firmware event logs, parsed and replayed in one pass.
 *
 *   header   TCG_PCClientPCREvent   pcr type sha1[20]           size data      (crypto-agile logs: Spec ID in data)
 *   event    TCG_PCR_EVENT2         pcr type n (alg digest)*n   size data      little-endian, all counts 32 bits
 *
 * An event is read whole and judged before a single PCR is extended with it, so damage never half-counts.
 * Source: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10.
 */
#include "event_log.h"
#include "reader.h"

enum {
    SHA1_BYTES = 20,
    ALGORITHMS_MAX = 16,
};

#define PCR_NONE 0xFFFFFFFFu /* Windows ends its logs with an EV_NO_ACTION that belongs to no PCR */

static const char EXIT_BOOT_SERVICES[] = "Exit Boot Services Returned with Success";

typedef struct parser {
    const uint8_t *log;
    size_t log_len;
    reader in;
    uint32_t banks_wanted;
    size_t algorithm_count; /* what the header declares; one SHA-1 in a legacy log */
    struct {
        uint16_t id;
        uint16_t digest_len;
    } algorithms[ALGORITHMS_MAX];
    bool locality_given;
    size_t tail;            /* from here to the end all bytes are 0x00, or all 0xFF */
    hasher hash;
    tccp_event_log_info info;
} parser;

static size_t offset_of(const parser *p, const uint8_t *at)
{
    return (size_t) (at - p->log);
}

static int bank_of(uint16_t algorithm)
{
    for (int bank = 0; bank < BANKS; bank++)
        if (BANK[bank].algorithm == algorithm)
            return bank;
    return -1;
}

/* ---- header ------------------------------------------------------------------------------------------------- */

static bool is_spec_id(span data)
{
    return begins_with(data, "Spec ID Event03", 16);
}

/* TCG_EfiSpecIdEvent, PFP 1.06, 10.4.5.1. Sizes that lie about a known algorithm would shift every later event. */
static tccp_status read_spec_id(parser *p, span data)
{
    reader in = reader_of(data.bytes, data.len);
    (void) read_bytes(&in, 16); /* signature */
    (void) read_bytes(&in, 8);  /* platformClass, version, errata, uintnSize */
    uint64_t count = read_uint_le(&in, 4);
    if (in.failed || count == 0 || count > ALGORITHMS_MAX)
        return TCCP_ERR_MALFORMED;
    for (size_t i = 0; i < count; i++) {
        uint16_t id = (uint16_t) read_uint_le(&in, 2);
        uint16_t digest_len = (uint16_t) read_uint_le(&in, 2);
        int bank = bank_of(id);
        if (digest_len == 0 || digest_len > TCCP_EVENT_LOG_DIGEST_BYTES ||
            (bank >= 0 && digest_len != BANK[bank].digest_len))
            return TCCP_ERR_MALFORMED;
        for (size_t j = 0; j < i; j++)
            if (p->algorithms[j].id == id)
                return TCCP_ERR_MALFORMED;
        p->algorithms[i].id = id;
        p->algorithms[i].digest_len = digest_len;
        if (bank >= 0)
            p->info.banks |= (uint8_t) (p->banks_wanted & 1u << bank);
    }
    p->algorithm_count = (size_t) count;
    uint64_t vendor_len = read_uint_le(&in, 1);
    (void) read_bytes(&in, (size_t) vendor_len);
    return reader_finished(&in) ? TCCP_OK : TCCP_ERR_MALFORMED;
}

/* The first event says which format follows. In a legacy log it is an event like any other. */
static tccp_status read_header(parser *p)
{
    uint64_t pcr = read_uint_le(&p->in, 4);
    uint64_t type = read_uint_le(&p->in, 4);
    (void) read_bytes(&p->in, SHA1_BYTES);
    uint64_t data_len = read_uint_le(&p->in, 4);
    span data = {read_bytes(&p->in, (size_t) data_len), (size_t) data_len};
    if (p->in.failed)
        return TCCP_ERR_TRUNCATED;
    if (type == EV_NO_ACTION && is_spec_id(data)) {
        p->info.crypto_agile = 1;
        p->info.confidential = pcr == 1;
        return read_spec_id(p, data);
    }
    p->algorithm_count = 1;
    p->algorithms[0].id = BANK[0].algorithm;
    p->algorithms[0].digest_len = SHA1_BYTES;
    p->info.banks = (uint8_t) (p->banks_wanted & 1u);
    p->in = reader_of(p->log, p->log_len);
    return TCCP_OK;
}

/* ---- events ------------------------------------------------------------------------------------------------- */

static tccp_event_log_ending read_digests(parser *p, tccp_event *event)
{
    uint64_t count = p->info.crypto_agile ? read_uint_le(&p->in, 4) : 1;
    if (p->in.failed)
        return TCCP_EVENT_LOG_TRUNCATED;
    if (count == 0 || count > p->algorithm_count)
        return TCCP_EVENT_LOG_BAD_DIGESTS;
    uint32_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t id = p->info.crypto_agile ? (uint16_t) read_uint_le(&p->in, 2) : BANK[0].algorithm;
        size_t which = 0;
        while (which < p->algorithm_count && p->algorithms[which].id != id)
            which++;
        if (p->in.failed)
            return TCCP_EVENT_LOG_TRUNCATED;
        if (which == p->algorithm_count || (seen & 1u << which))
            return TCCP_EVENT_LOG_BAD_DIGESTS;
        seen |= 1u << which;
        const uint8_t *digest = read_bytes(&p->in, p->algorithms[which].digest_len);
        int bank = bank_of(id);
        if (digest != NULL && bank >= 0 && (p->info.banks & 1u << bank)) {
            event->digest_banks |= (uint8_t) (1u << bank);
            event->digest_offsets[bank] = (uint32_t) offset_of(p, digest);
        }
    }
    return TCCP_EVENT_LOG_CLEAN;
}

static span data_of(const parser *p, const tccp_event *event)
{
    return (span){p->log + event->data_offset, event->data_len};
}

/* EV_NO_ACTION extends nothing; two kinds of it steer how the rest is read. PFP 1.06, 10.4.5. */
static tccp_event_log_ending heed_no_action(parser *p, const tccp_event *event)
{
    span data = data_of(p, event);
    if (is_spec_id(data))
        return TCCP_EVENT_LOG_SECOND_HEADER;
    if (event->pcr != 0 || p->info.confidential || !begins_with(data, "StartupLocality", 16))
        return TCCP_EVENT_LOG_CLEAN;
    uint8_t locality = data.len == 17 ? data.bytes[16] : 0xFF;
    bool late = false;
    for (int bank = 0; bank < BANKS; bank++)
        late |= p->info.touched[bank] & 1u;
    if (late || p->locality_given || (locality != 0 && locality != 3 && locality != 4))
        return TCCP_EVENT_LOG_BAD_LOCALITY;
    p->locality_given = true;
    p->info.startup_locality = locality;
    for (int bank = 0; bank < BANKS; bank++)
        p->info.pcrs[bank][0][BANK[bank].digest_len - 1] = locality;
    return TCCP_EVENT_LOG_CLEAN;
}

static tccp_event_log_ending read_event(parser *p, tccp_event *event)
{
    *event = (tccp_event){0};
    event->pcr = (uint32_t) read_uint_le(&p->in, 4);
    event->type = (uint32_t) read_uint_le(&p->in, 4);
    event->extends = event->type != EV_NO_ACTION;
    if (p->in.failed)
        return TCCP_EVENT_LOG_TRUNCATED;
    if (event->pcr >= PCRS && (event->extends || event->pcr != PCR_NONE))
        return TCCP_EVENT_LOG_BAD_PCR;
    tccp_event_log_ending ending = read_digests(p, event);
    if (ending != TCCP_EVENT_LOG_CLEAN)
        return ending;
    event->data_len = (uint32_t) read_uint_le(&p->in, 4);
    const uint8_t *data = read_bytes(&p->in, event->data_len);
    if (p->in.failed)
        return TCCP_EVENT_LOG_TRUNCATED;
    event->data_offset = (uint32_t) offset_of(p, data);
    return event->extends ? TCCP_EVENT_LOG_CLEAN : heed_no_action(p, event);
}

/* ---- replay ------------------------------------------------------------------------------------------------- */

/* PCRs 17-22 start at FF.. and go to 0 with a dynamic launch, without which nobody may extend them.
 * Source: PC Client Platform TPM Profile 1.06, table 6 (PCR attributes). */
static void fill_dynamic_pcrs(parser *p, uint8_t value)
{
    for (int bank = 0; bank < BANKS; bank++)
        for (int pcr = 17; pcr <= 22; pcr++)
            memset(p->info.pcrs[bank][pcr], value, BANK[bank].digest_len);
}

static bool extend(parser *p, const tccp_event *event)
{
    if (event->pcr >= 17 && event->pcr <= 22 && !p->info.dynamic_launch) {
        p->info.dynamic_launch = 1;
        fill_dynamic_pcrs(p, 0x00);
    }
    for (int bank = 0; bank < BANKS; bank++) {
        if (!(event->digest_banks & 1u << bank))
            continue;
        uint8_t *pcr = p->info.pcrs[bank][event->pcr];
        span old = {pcr, BANK[bank].digest_len};
        span digest = {p->log + event->digest_offsets[bank], BANK[bank].digest_len};
        if (!hash_two(&p->hash, bank, old, digest, pcr))
            return false;
        p->info.touched[bank] |= 1u << event->pcr;
    }
    return true;
}

/* ---- the whole log ------------------------------------------------------------------------------------------- */

static void note_exit_boot_services(parser *p, const tccp_event *event)
{
    uint32_t pcr = p->info.confidential ? 2 : 5;
    span data = data_of(p, event);
    if (event->type == EV_EFI_ACTION && event->pcr == pcr && data.len == sizeof EXIT_BOOT_SERVICES - 1 &&
        begins_with(data, EXIT_BOOT_SERVICES, data.len))
        p->info.exit_boot_services |= event->covered_banks;
}

static size_t uniform_tail(const uint8_t *log, size_t len)
{
    uint8_t last = log[len - 1];
    while ((last == 0x00 || last == 0xFF) && len > 0 && log[len - 1] == last)
        len--;
    return len;
}

static bool open_hashes(parser *p)
{
    p->hash.context = EVP_MD_CTX_new();
    bool opened = p->hash.context != NULL;
    for (int bank = 0; opened && bank < BANKS; bank++)
        if (p->info.banks & 1u << bank)
            opened = (p->hash.digests[bank] = EVP_MD_fetch(NULL, BANK[bank].name, NULL)) != NULL;
    return opened;
}

static void close_hashes(parser *p)
{
    for (int bank = 0; bank < BANKS; bank++)
        EVP_MD_free(p->hash.digests[bank]);
    EVP_MD_CTX_free(p->hash.context);
}

static tccp_status read_events(parser *p, tccp_event *events, size_t events_max, size_t *ret_count)
{
    size_t count = 0;
    for (;;) {
        p->info.consumed = (uint32_t) offset_of(p, p->in.at);
        if (p->in.left == 0)
            break;
        if (p->info.consumed >= p->tail) {
            p->info.ending = *p->in.at == 0x00 ? TCCP_EVENT_LOG_PADDED_ZEROS : TCCP_EVENT_LOG_PADDED_ONES;
            break;
        }
        if (count == events_max)
            return TCCP_ERR_TOO_LARGE;
        tccp_event *event = &events[count];
        p->info.ending = read_event(p, event);
        if (p->info.ending != TCCP_EVENT_LOG_CLEAN)
            break;
        if (event->extends) {
            if (!extend(p, event) || !event_cover_find(&p->hash, p->log, event))
                return TCCP_ERR_INTERNAL;
            note_exit_boot_services(p, event);
        }
        count++;
    }
    *ret_count = count;
    return TCCP_OK;
}

tccp_status tccp_event_log_parse(const uint8_t *log, size_t log_len, uint32_t banks_wanted, tccp_event *events,
                                 size_t events_max, size_t *ret_count, tccp_event_log_info *ret_info)
{
    if (log == NULL || events == NULL || ret_count == NULL || ret_info == NULL)
        return TCCP_ERR_USAGE;
    if (log_len > TCCP_EVENT_LOG_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    if (log_len == 0)
        return TCCP_ERR_TRUNCATED;
    parser p = {.log = log, .log_len = log_len, .in = reader_of(log, log_len), .banks_wanted = banks_wanted};
    p.tail = uniform_tail(log, log_len);
    tccp_status status = read_header(&p);
    if (status != TCCP_OK)
        return status;
    fill_dynamic_pcrs(&p, 0xFF);
    status = open_hashes(&p) ? read_events(&p, events, events_max, ret_count) : TCCP_ERR_INTERNAL;
    close_hashes(&p);
    if (status == TCCP_OK)
        *ret_info = p.info;
    return status;
}
