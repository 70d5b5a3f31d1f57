/* test_event_log.c: logs built event by event, replayed by hand, then made wrong. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "event_log.h"

enum { EV_SEPARATOR = 4, ALL = 0x0F, SHA1 = 0, SHA256 = 1, ROOM = 16 };

typedef struct written {
    uint8_t bytes[4096];
    size_t len;
} written;

static void put(written *out, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        out->bytes[out->len++] = (uint8_t) (value >> (8 * i));
}

static void put_bytes(written *out, const void *bytes, size_t len)
{
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void digest(int bank, const void *data, size_t len, uint8_t *ret_digest)
{
    CHECK(EVP_Q_digest(NULL, BANK[bank].name, NULL, data, len, ret_digest, NULL) == 1);
}

/* A header that declares SHA-1 and SHA-256. */
static void put_header(written *out)
{
    static const uint8_t zeros[20];
    put(out, 0, 4);
    put(out, EV_NO_ACTION, 4);
    put_bytes(out, zeros, sizeof zeros);
    put(out, 16 + 8 + 4 + 2 * 4 + 1, 4);
    put_bytes(out, "Spec ID Event03", 16);
    put(out, 0x0202000000000000, 8);
    put(out, 2, 4);
    for (int bank = SHA1; bank <= SHA256; bank++) {
        put(out, BANK[bank].algorithm, 2);
        put(out, BANK[bank].digest_len, 2);
    }
    put(out, 0, 1);
}

static void put_measured(written *out, uint32_t pcr, uint32_t type, const char *data, const char *measured)
{
    put(out, pcr, 4);
    put(out, type, 4);
    put(out, 2, 4);
    for (int bank = SHA1; bank <= SHA256; bank++) {
        put(out, BANK[bank].algorithm, 2);
        digest(bank, measured, strlen(measured), out->bytes + out->len);
        out->len += BANK[bank].digest_len;
    }
    put(out, strlen(data), 4);
    put_bytes(out, data, strlen(data));
}

static void put_event(written *out, uint32_t pcr, uint32_t type, const char *data)
{
    put_measured(out, pcr, type, data, data);
}

static void extend_by_hand(int bank, uint8_t *pcr, const char *data)
{
    uint8_t both[128];
    memcpy(both, pcr, BANK[bank].digest_len);
    digest(bank, data, strlen(data), both + BANK[bank].digest_len);
    digest(bank, both, 2 * (size_t) BANK[bank].digest_len, pcr);
}

static tccp_event events[ROOM];
static tccp_event_log_info info;
static size_t count;

/* Parses out of an allocation of exactly the log's size, so that the address sanitizer sees a read beyond it. */
static tccp_status parse(const written *log, uint32_t banks, size_t room)
{
    uint8_t *exact = malloc(log->len == 0 ? 1 : log->len);
    if (exact == NULL)
        abort();
    memcpy(exact, log->bytes, log->len);
    tccp_status status = tccp_event_log_parse(exact, log->len, banks, events, room, &count, &info);
    free(exact);
    return status;
}

static void replay_in_every_bank(void)
{
    written log = {.len = 0};
    put_header(&log);
    put_event(&log, 4, EV_SEPARATOR, "one");
    put_event(&log, 4, EV_EFI_ACTION, "two");
    put_event(&log, 5, EV_EFI_ACTION, "Exit Boot Services Returned with Success");
    CHECK(parse(&log, ALL, ROOM) == TCCP_OK);
    CHECK(count == 3 && info.banks == 0x03 && info.ending == TCCP_EVENT_LOG_CLEAN && info.consumed == log.len);
    CHECK(info.crypto_agile && !info.confidential && info.exit_boot_services == 0x03);
    for (int bank = SHA1; bank <= SHA256; bank++) {
        uint8_t expected[TCCP_EVENT_LOG_DIGEST_BYTES] = {0};
        extend_by_hand(bank, expected, "one");
        extend_by_hand(bank, expected, "two");
        CHECK(memcmp(info.pcrs[bank][4], expected, sizeof expected) == 0);
        CHECK(info.touched[bank] == ((1u << 4) | (1u << 5)));
    }
    CHECK(events[0].covered_banks == 0x03 && events[0].covered_len == 3);
    CHECK(info.pcrs[SHA256][17][0] == 0xFF && info.pcrs[SHA256][17][31] == 0xFF && info.pcrs[SHA256][16][0] == 0);

    CHECK(parse(&log, 1u << SHA256, ROOM) == TCCP_OK);
    CHECK(info.banks == 0x02 && info.touched[SHA1] == 0 && events[0].digest_banks == 0x02);
    CHECK(parse(&log, 0, ROOM) == TCCP_OK && info.banks == 0 && count == 3);
}

static void parts_that_are_measured(void)
{
    static const struct {
        uint32_t type;
        const char *data, *measured;
        bool covered;
    } cases[] = {
        {EV_IPL, "grub_cmd: linux /vmlinuz", "linux /vmlinuz", true},
        {EV_IPL, "kernel_cmdline: ro", "ro", true},
        {EV_IPL, "grub_cmd linux", "linux", true},
        {EV_IPL, "grub_cmd: ", "", true},
        {EV_IPL, "/vmlinuz", "its contents", false},
        {EV_IPL, "grub_cmd: linux", "another", false},
        {EV_SEPARATOR, "grub_cmd: linux", "linux", false}, /* only a boot loader's event is cut */
        {EV_EFI_BOOT_SERVICES_APPLICATION, "path", "path", false}, /* the digest is an image's */
        {EV_EFI_VARIABLE_BOOT, "too short to be a variable", "variable", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        written log = {.len = 0};
        put_header(&log);
        put_measured(&log, 8, cases[i].type, cases[i].data, cases[i].measured);
        CHECK(parse(&log, ALL, ROOM) == TCCP_OK && count == 1);
        CHECK((events[0].covered_banks == 0x03) == cases[i].covered);
        CHECK(!cases[i].covered || memcmp(log.bytes + events[0].covered_offset, cases[i].measured,
                                          events[0].covered_len) == 0);
        CHECK(!cases[i].covered || events[0].covered_len == strlen(cases[i].measured));
    }
}

static void every_cut_is_found(void)
{
    written log = {.len = 0};
    put_header(&log);
    size_t header_len = log.len;
    put_event(&log, 4, EV_SEPARATOR, "one");
    size_t whole_len = log.len;
    for (log.len = 0; log.len < whole_len; log.len++) {
        tccp_status status = parse(&log, ALL, ROOM);
        if (log.len < header_len)
            CHECK(status == TCCP_ERR_TRUNCATED);
        else
            CHECK(status == TCCP_OK && count == 0 && info.consumed == header_len &&
                  (info.ending == TCCP_EVENT_LOG_CLEAN) == (log.len == header_len));
    }
}

static void nothing_is_written_on_failure(void)
{
    written log = {.len = 0};
    put_header(&log);
    put_event(&log, 4, EV_SEPARATOR, "one");
    put_event(&log, 4, EV_SEPARATOR, "two");
    count = 77;
    memset(&info, 0x5A, sizeof info);
    tccp_event_log_info before = info;
    CHECK(parse(&log, ALL, 1) == TCCP_ERR_TOO_LARGE);
    log.len = 10;
    CHECK(parse(&log, ALL, ROOM) == TCCP_ERR_TRUNCATED);
    log.len = 0;
    CHECK(parse(&log, ALL, ROOM) == TCCP_ERR_TRUNCATED);
    CHECK(tccp_event_log_parse(NULL, 1, ALL, events, ROOM, &count, &info) == TCCP_ERR_USAGE);
    CHECK(tccp_event_log_parse(log.bytes, TCCP_EVENT_LOG_BYTES_MAX + 1, ALL, events, ROOM, &count, &info) ==
          TCCP_ERR_TOO_LARGE);
    CHECK(count == 77 && memcmp(&info, &before, sizeof info) == 0);
}

int main(void)
{
    replay_in_every_bank();
    parts_that_are_measured();
    every_cut_is_found();
    nothing_is_written_on_failure();
    return failures == 0 ? 0 : 1;
}
