/* ima.c: IMA measurement lists, parsed and replayed in one pass.
 *
 *   entry    pcr(4)  template digest(20)  name_len(4) name  data_len(4) data       little-endian, data_len not in "ima"
 *   data     field_len(4) field ...       hashed whole for each bank; "ima": digest(20), name padded to 256 bytes
 *
 * The list comes from the host that is judged. What its replay proves is the fields; never the template's name.
 */
#include "ima.h"
#include "reader.h"

typedef struct parser {
    const uint8_t *list;
    reader in;
    size_t column_len;
    int bank;
    uint32_t pcr;
    hasher hash;
    uint8_t value[TCCP_IMA_PCR_BYTES];
} parser;

static uint32_t offset_of(const parser *p, const uint8_t *at)
{
    return (uint32_t) (at - p->list);
}

/* ---- fields ------------------------------------------------------------------------------------------------- */

uint8_t ima_bank_of(span name)
{
    static const struct {
        const char *name;
        uint8_t bank;
    } known[] = {{"sha256", IMA_SHA256}, {"sha1", IMA_SHA1}, {"sha384", IMA_SHA384}, {"sha512", IMA_SHA512}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (name.len == strlen(known[i].name) && memcmp(name.bytes, known[i].name, name.len) == 0)
            return known[i].bank;
    return 0;
}

static span read_field(reader *in)
{
    size_t len = (size_t) read_uint_le(in, 4);
    const uint8_t *bytes = read_bytes(in, len);
    return (span){bytes, bytes == NULL ? 0 : len};
}

/* "sha256:" NUL digest; in the second version "ima:sha256:" NUL digest, or "verity:..." of which we make nothing. */
static bool read_digest(const parser *p, reader *in, uint8_t *ret_bank, uint32_t *ret_offset)
{
    span field = read_field(in);
    const uint8_t *nul = field.len == 0 ? NULL : memchr(field.bytes, 0, field.len);
    if (nul == NULL || nul == field.bytes || nul[-1] != ':')
        return field.bytes != NULL && field.len == 0;
    span name = {field.bytes, (size_t) (nul - 1 - field.bytes)};
    if (begins_with(name, "ima:", 4))
        name = (span){name.bytes + 4, name.len - 4};
    size_t digest_len = field.len - (size_t) (nul + 1 - field.bytes);
    *ret_bank = ima_bank_of(name);
    *ret_offset = offset_of(p, nul + 1);
    return *ret_bank == 0 || digest_len == BANK[*ret_bank - 1].digest_len;
}

static bool read_path(const parser *p, reader *in, tccp_ima_entry *entry)
{
    span field = read_field(in);
    if (field.len == 0 || memchr(field.bytes, 0, field.len) != field.bytes + field.len - 1)
        return false;
    entry->path_offset = offset_of(p, field.bytes);
    entry->path_len = (uint32_t) field.len - 1;
    return true;
}

static bool read_plain_bytes(const parser *p, reader *in, uint32_t *ret_offset, uint32_t *ret_len)
{
    span field = read_field(in);
    if (field.bytes == NULL)
        return false;
    *ret_offset = offset_of(p, field.bytes);
    *ret_len = (uint32_t) field.len;
    return true;
}

static uint8_t template_of(span name)
{
    static const struct {
        const char *name;
        uint8_t kind;
    } known[] = {{"ima-ng", TCCP_IMA_NG},     {"ima-sig", TCCP_IMA_SIG},     {"ima-buf", TCCP_IMA_BUF},
                 {"ima-ngv2", TCCP_IMA_NG},   {"ima-sigv2", TCCP_IMA_SIG},   {"ima-modsig", TCCP_IMA_MODSIG},
                 {"ima", TCCP_IMA_PLAIN}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (name.len == strlen(known[i].name) && memcmp(name.bytes, known[i].name, name.len) == 0)
            return known[i].kind;
    return TCCP_IMA_OTHER;
}

static bool read_fields(const parser *p, span data, tccp_ima_entry *entry)
{
    reader in = reader_of(data.bytes, data.len);
    if (!read_digest(p, &in, &entry->digest_bank, &entry->digest_offset) || !read_path(p, &in, entry))
        return false;
    if (entry->template_kind != TCCP_IMA_NG && !read_plain_bytes(p, &in, &entry->extra_offset, &entry->extra_len))
        return false;
    if (entry->template_kind == TCCP_IMA_MODSIG &&
        (!read_digest(p, &in, &entry->modsig_digest_bank, &entry->modsig_digest_offset) ||
         !read_plain_bytes(p, &in, &entry->modsig_offset, &entry->modsig_len)))
        return false;
    return reader_finished(&in);
}

/* ---- entries ------------------------------------------------------------------------------------------------ */

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* The old template gives no length of its data, and is hashed with its name padded. */
static tccp_status read_plain(parser *p, tccp_ima_entry *entry, uint8_t padded[IMA_PLAIN_NAME_BYTES], span *ret_digest)
{
    ret_digest->bytes = read_bytes(&p->in, 20);
    ret_digest->len = 20;
    span name = read_field(&p->in);
    if (p->in.failed)
        return TCCP_ERR_TRUNCATED;
    if (name.len >= IMA_PLAIN_NAME_BYTES)
        return TCCP_ERR_MALFORMED;
    memset(padded, 0, IMA_PLAIN_NAME_BYTES);
    memcpy(padded, name.bytes, name.len);
    entry->digest_bank = IMA_SHA1;
    entry->digest_offset = offset_of(p, ret_digest->bytes);
    entry->path_offset = offset_of(p, name.bytes);
    entry->path_len = (uint32_t) name.len;
    if (memchr(name.bytes, 0, name.len) != NULL)
        entry->template_kind = TCCP_IMA_OTHER;
    return TCCP_OK;
}

static void forget_fields(tccp_ima_entry *entry)
{
    *entry = (tccp_ima_entry){.offset = entry->offset, .pcr = entry->pcr, .violation = entry->violation};
}

/* Reads one entry and hashes its fields for the bank. */
static tccp_status read_entry(parser *p, tccp_ima_entry *entry, uint8_t *ret_hash)
{
    uint8_t padded[IMA_PLAIN_NAME_BYTES];
    *entry = (tccp_ima_entry){.offset = offset_of(p, p->in.at)};
    entry->pcr = (uint32_t) read_uint_le(&p->in, 4);
    const uint8_t *column = read_bytes(&p->in, p->column_len);
    size_t name_len = (size_t) read_uint_le(&p->in, 4);
    if (!p->in.failed && (entry->pcr >= PCRS || name_len == 0 || name_len > IMA_TEMPLATE_NAME_BYTES_MAX))
        return TCCP_ERR_MALFORMED;
    span name = {read_bytes(&p->in, name_len), name_len};
    if (p->in.failed)
        return TCCP_ERR_TRUNCATED;
    entry->violation = all_zero(column, p->column_len);
    entry->template_kind = template_of(name);
    span first, second = {.len = 0};
    if (entry->template_kind == TCCP_IMA_PLAIN) {
        tccp_status status = read_plain(p, entry, padded, &first);
        if (status != TCCP_OK)
            return status;
        second = (span){padded, sizeof padded};
    } else {
        size_t data_len = (size_t) read_uint_le(&p->in, 4);
        if (!p->in.failed && data_len > TCCP_IMA_FIELD_BYTES_MAX)
            return TCCP_ERR_MALFORMED;
        first = (span){read_bytes(&p->in, data_len), data_len};
        if (p->in.failed)
            return TCCP_ERR_TRUNCATED;
        /* Fields that make no sense are hashed all the same, and judged as unknown. */
        if (entry->template_kind != TCCP_IMA_OTHER && !read_fields(p, first, entry))
            forget_fields(entry);
    }
    entry->len = offset_of(p, p->in.at) - entry->offset;
    return ima_hash(&p->hash, p->bank + 1, first, second, ret_hash) ? TCCP_OK : TCCP_ERR_INTERNAL;
}

static tccp_status replay_entry(parser *p, tccp_ima_entry *entry)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    tccp_status status = read_entry(p, entry, hash);
    if (status != TCCP_OK || entry->pcr != p->pcr)
        return status;
    size_t digest_len = BANK[p->bank].digest_len;
    if (entry->violation)
        memset(hash, 0xFF, digest_len);
    span old = {p->value, digest_len}, new = {hash, digest_len};
    return ima_hash(&p->hash, p->bank + 1, old, new, p->value) ? TCCP_OK : TCCP_ERR_INTERNAL;
}

/* ---- the whole list ------------------------------------------------------------------------------------------ */

bool ima_open_hashes(hasher *h)
{
    *h = (hasher){.context = EVP_MD_CTX_new()};
    bool opened = h->context != NULL;
    for (int bank = 0; opened && bank < BANKS; bank++)
        opened = (h->digests[bank] = EVP_MD_fetch(NULL, BANK[bank].name, NULL)) != NULL;
    return opened;
}

void ima_close_hashes(hasher *h)
{
    for (int bank = 0; bank < BANKS; bank++)
        EVP_MD_free(h->digests[bank]);
    EVP_MD_CTX_free(h->context);
}

static tccp_status replay(parser *p, const uint8_t *target, tccp_ima_entry *entries, size_t entries_max,
                          size_t *ret_count, tccp_ima_replayed *ret_replayed)
{
    size_t count = 0, digest_len = BANK[p->bank].digest_len;
    tccp_ima_replayed found = {.matched = target != NULL && memcmp(p->value, target, digest_len) == 0};
    while (!found.matched && p->in.left > 0) {
        if (count == entries_max)
            return TCCP_ERR_TOO_LARGE;
        tccp_status status = replay_entry(p, &entries[count]);
        if (status == TCCP_ERR_TRUNCATED) {
            found.truncated = 1;
            break;
        }
        if (status != TCCP_OK)
            return status;
        count++;
        found.consumed = offset_of(p, p->in.at);
        found.matched = target != NULL && memcmp(p->value, target, digest_len) == 0;
    }
    memcpy(found.pcr, p->value, digest_len);
    *ret_count = count;
    *ret_replayed = found;
    return TCCP_OK;
}

tccp_status tccp_ima_replay(const uint8_t *list, size_t list_len, size_t column_len, uint16_t bank, uint32_t pcr,
                            const uint8_t *start, const uint8_t *target, tccp_ima_entry *entries, size_t entries_max,
                            size_t *ret_count, tccp_ima_replayed *ret_replayed)
{
    int number = bank == BANK[0].algorithm ? 0 : 1;
    if (list == NULL || start == NULL || entries == NULL || ret_count == NULL || ret_replayed == NULL ||
        bank != BANK[number].algorithm || (column_len != 20 && column_len != 32))
        return TCCP_ERR_USAGE;
    if (list_len > TCCP_IMA_LIST_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    parser p = {.list = list, .in = reader_of(list, list_len), .column_len = column_len, .bank = number, .pcr = pcr};
    memcpy(p.value, start, BANK[number].digest_len);
    tccp_status status = ima_open_hashes(&p.hash)
                             ? replay(&p, target, entries, entries_max, ret_count, ret_replayed)
                             : TCCP_ERR_INTERNAL;
    ima_close_hashes(&p.hash);
    return status;
}
