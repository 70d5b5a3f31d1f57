/* event_cover.c: which bytes of an event were measured?
 *
 * A digest covers neither the event's type nor, by itself, its data. Only where the hash of the data, or of a part
 * of it that firmware and boot loaders are known to hash, equals the digest can a verifier believe those bytes.
 */
#include "event_log.h"
#include "reader.h"

static span data_of(const uint8_t *log, const tccp_event *event)
{
    return (span){log + event->data_offset, event->data_len};
}

/* Does any bank's digest equal the hash of this part of the data? Then it is the part that was measured. */
static bool try_part(hasher *h, const uint8_t *log, tccp_event *event, span part)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint8_t covered = 0;
    for (int bank = 0; bank < BANKS; bank++) {
        if (!(event->digest_banks & 1u << bank))
            continue;
        if (!hash_two(h, bank, part, (span){0}, digest))
            return false;
        if (memcmp(digest, log + event->digest_offsets[bank], BANK[bank].digest_len) == 0)
            covered |= (uint8_t) (1u << bank);
        else if (covered == 0)
            break; /* banks disagree only in forged logs: the first one decides which part is meant */
    }
    if (covered != 0) {
        event->covered_banks = covered;
        event->covered_offset = (uint32_t) (part.bytes - log);
        event->covered_len = (uint32_t) part.len;
    }
    return true;
}

/* UEFI_VARIABLE_DATA: older shims log some padding and hashes all but its last byte; EV_EFI_VARIABLE_BOOT hashes
 * only the value. */
static bool try_variable(hasher *h, const uint8_t *log, tccp_event *event)
{
    span data = data_of(log, event);
    reader in = reader_of(data.bytes, data.len);
    (void) read_bytes(&in, 16); /* VariableName, a GUID */
    uint64_t name_len = read_uint_le(&in, 8);
    uint64_t value_len = read_uint_le(&in, 8);
    if (in.failed || name_len > in.left / 2)
        return true;
    (void) read_bytes(&in, (size_t) name_len * 2);
    span value = {read_bytes(&in, (size_t) value_len), (size_t) value_len};
    if (value.bytes == NULL)
        return true;
    span all_but_one = {data.bytes, data.len - 1};
    if (in.left > 0 && !try_part(h, log, event, all_but_one))
        return false;
    return event->covered_banks != 0 || value.len == 0 || try_part(h, log, event, value);
}

/* GRUB logs "grub_cmd: set x=1\0" and hashes "set x=1"; before 2.04 with the NUL, and with junk after it. */
static bool try_command(hasher *h, const uint8_t *log, tccp_event *event)
{
    static const char *const PREFIXES[] = {"grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ",
                                           "grub_cmd ", "grub_kernel_cmdline "};
    span data = data_of(log, event);
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        size_t prefix_len = strlen(PREFIXES[i]);
        if (!begins_with(data, PREFIXES[i], prefix_len))
            continue;
        span command = {data.bytes + prefix_len, data.len - prefix_len};
        const uint8_t *end = memchr(command.bytes, 0, command.len);
        if (end == NULL)
            return try_part(h, log, event, command);
        command.len = (size_t) (end - command.bytes);
        if (!try_part(h, log, event, command))
            return false;
        command.len++;
        return event->covered_banks != 0 || try_part(h, log, event, command);
    }
    return true;
}

/* The type only chooses what to try, and a hash that fits is right whatever the type says. */
bool event_cover_find(hasher *h, const uint8_t *log, tccp_event *event)
{
    if (event->type >= EV_EFI_BOOT_SERVICES_APPLICATION && event->type <= EV_EFI_RUNTIME_SERVICES_DRIVER)
        return true; /* the digest is the image's; the data only says from where it was loaded */
    if (event->data_len == 0)
        return true;
    if (event->type == EV_IPL) {
        if (!try_command(h, log, event))
            return false;
        if (event->covered_banks != 0)
            return true;
    }
    if (!try_part(h, log, event, data_of(log, event)))
        return false;
    if (event->covered_banks != 0)
        return true;
    switch (event->type) {
    case EV_EFI_VARIABLE_DRIVER_CONFIG:
    case EV_EFI_VARIABLE_BOOT:
    case EV_EFI_VARIABLE_BOOT2:
    case EV_EFI_VARIABLE_AUTHORITY: return try_variable(h, log, event);
    default: return true;
    }
}
