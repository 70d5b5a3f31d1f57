/* fuzz_event_log.c: any bytes as a firmware event log; what is returned lies inside them and keeps its promises. */
#include <stdlib.h>

#include "event_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool promise)
{
    if (!promise)
        abort();
}

static void check_event(const tccp_event *event, const tccp_event_log_info *info, size_t log_len)
{
    size_t data_end = (size_t) event->data_offset + event->data_len;
    require(data_end <= log_len && data_end <= info->consumed);
    require(event->pcr < PCRS || !event->extends);
    require((event->digest_banks & ~info->banks) == 0 && (event->covered_banks & ~event->digest_banks) == 0);
    require(event->covered_banks == 0 || event->extends);
    require(event->covered_banks == 0 || (event->covered_offset >= event->data_offset &&
                                          (size_t) event->covered_offset + event->covered_len <= data_end));
    for (int bank = 0; bank < BANKS; bank++) {
        if (!(event->digest_banks & 1u << bank))
            continue;
        require((size_t) event->digest_offsets[bank] + BANK[bank].digest_len <= event->data_offset);
        require(!event->extends || (info->touched[bank] & 1u << event->pcr));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tccp_event events[4096];
    static tccp_event_log_info info;
    size_t count = 0;
    if (tccp_event_log_parse(data, size, 0x0F, events, sizeof events / sizeof *events, &count, &info) != TCCP_OK)
        return 0;
    require(info.consumed <= size && info.ending <= TCCP_EVENT_LOG_BAD_LOCALITY);
    require((info.ending == TCCP_EVENT_LOG_CLEAN) == (info.consumed == size));
    require((info.exit_boot_services & ~info.banks) == 0);
    for (size_t i = 0; i < count; i++)
        check_event(&events[i], &info, size);
    for (int bank = 0; bank < BANKS; bank++)
        require(info.touched[bank] == 0 || (info.banks & 1u << bank));
    return 0;
}
