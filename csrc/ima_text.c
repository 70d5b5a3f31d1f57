/* ima_text.c: IMA measurement lists in ASCII, turned into the binary form that everything else reads.
 *
 *   10 <template digest> ima-ng sha256:<digest> /path
 *   10 <template digest> ima-sig sha256:<digest> /path <signature>            an empty field is an empty word
 */
#include "ima.h"

typedef struct writer {
    uint8_t *at;
    size_t left;
    bool failed;
} writer;

static void put(writer *out, const void *bytes, size_t len)
{
    if (len > out->left) {
        out->failed = true;
        out->left = 0;
        return;
    }
    if (len > 0)
        memcpy(out->at, bytes, len);
    out->at += len;
    out->left -= len;
}

static void put_u32(writer *out, size_t value)
{
    const uint8_t bytes[4] = {(uint8_t) value, (uint8_t) (value >> 8), (uint8_t) (value >> 16), (uint8_t) (value >> 24)};
    put(out, bytes, sizeof bytes);
}

/* The value of a hexadecimal digit, or -1: half of a list is digits, so they are looked up. */
static int hex_digit(uint8_t c)
{
    static const uint8_t value_and_1[256] = {
        ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
        ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
        ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
    };
    return value_and_1[c] - 1;
}

static bool put_hex(writer *out, span text)
{
    if (text.len / 2 > out->left)
        out->failed = true;
    if (text.len % 2 != 0 || out->failed)
        return false;
    bool valid = true;
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_digit(text.bytes[i]), low = hex_digit(text.bytes[i + 1]);
        valid &= high >= 0 && low >= 0;
        *out->at++ = (uint8_t) (high * 16 + low);
    }
    out->left -= text.len / 2;
    return valid;
}

/* The next word of a line, up to a blank or its end; *line goes behind the blank. */
static span take_word(span *line)
{
    const uint8_t *blank = line->len == 0 ? NULL : memchr(line->bytes, ' ', line->len);
    size_t len = blank == NULL ? line->len : (size_t) (blank - line->bytes);
    span word = {line->bytes, len};
    size_t skip = blank == NULL ? len : len + 1;
    *line = (span){line->bytes + skip, line->len - skip};
    return word;
}

static bool equals(span word, const char *text)
{
    return word.len == strlen(text) && memcmp(word.bytes, text, word.len) == 0;
}

/* "sha256:<hex>" as field "sha256:" NUL digest; an empty word as an empty field. */
static bool put_digest_field(writer *out, span word)
{
    size_t colon = word.len;
    while (colon > 0 && word.bytes[colon - 1] != ':')
        colon--;
    if (word.len == 0) {
        put_u32(out, 0);
        return true;
    }
    if (colon == 0 || colon > IMA_TEMPLATE_NAME_BYTES_MAX)
        return false;
    put_u32(out, colon + 1 + (word.len - colon) / 2);
    put(out, word.bytes, colon);
    put(out, "", 1);
    return put_hex(out, (span){word.bytes + colon, word.len - colon});
}

static bool put_hex_field(writer *out, span word)
{
    put_u32(out, word.len / 2);
    return put_hex(out, word);
}

static void put_path_field(writer *out, span word)
{
    put_u32(out, word.len + 1);
    put(out, word.bytes, word.len);
    put(out, "", 1);
}

static bool put_fields(writer *out, span name, span line)
{
    span digest = take_word(&line);
    if (equals(name, "ima-ng") || equals(name, "ima-ngv2")) {
        if (!put_digest_field(out, digest) || line.len == 0)
            return false;
        put_path_field(out, line); /* the rest of the line: old kernels keep blanks */
        return true;
    }
    span path = take_word(&line);
    if (!put_digest_field(out, digest) || path.len == 0)
        return false;
    put_path_field(out, path);
    if (!put_hex_field(out, take_word(&line)))
        return false;
    if (equals(name, "ima-modsig")) {
        span modsig_digest = take_word(&line);
        if (!put_digest_field(out, modsig_digest) || !put_hex_field(out, take_word(&line)))
            return false;
    }
    return line.len == 0;
}

static bool is_known(span name)
{
    static const char *const known[] = {"ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-buf", "ima-modsig"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (equals(name, known[i]))
            return true;
    return false;
}

static bool put_column(writer *out, span word)
{
    bool valid = true, violation = true;
    for (size_t i = 0; i < word.len; i++) {
        valid &= hex_digit(word.bytes[i]) >= 0;
        violation &= word.bytes[i] == '0';
    }
    if (!valid)
        return false;
    if (word.len != 40 && word.len != 64 && word.len != 96 && word.len != 128)
        return false;
    uint8_t column[20] = {violation ? 0 : 1};
    put(out, column, sizeof column);
    return true;
}

static bool put_entry(writer *out, span line)
{
    span pcr = take_word(&line), column = take_word(&line), name = take_word(&line);
    size_t number = 0;
    for (size_t i = 0; i < pcr.len; i++) {
        if (pcr.len > 2 || pcr.bytes[i] < '0' || pcr.bytes[i] > '9')
            return false;
        number = 10 * number + (size_t) (pcr.bytes[i] - '0');
    }
    if (pcr.len == 0)
        return false;
    put_u32(out, number);
    if (!put_column(out, column))
        return false;
    put_u32(out, name.len);
    put(out, name.bytes, name.len);
    if (equals(name, "ima")) {
        span digest = take_word(&line);
        if (digest.len != 40 || !put_hex(out, digest))
            return false;
        put_u32(out, line.len);
        put(out, line.bytes, line.len);
        return true;
    }
    if (!is_known(name))
        return false;
    uint8_t *length_at = out->at;
    put_u32(out, 0);
    if (out->failed || !put_fields(out, name, line) || out->failed)
        return false;
    writer length = {.at = length_at, .left = 4};
    put_u32(&length, (size_t) (out->at - length_at) - 4);
    return true;
}

tccp_status tccp_ima_from_text(const uint8_t *text, size_t text_len, uint8_t *list, size_t list_max, size_t *ret_len)
{
    if (text == NULL || list == NULL || ret_len == NULL)
        return TCCP_ERR_USAGE;
    if (text_len > TCCP_IMA_LIST_BYTES_MAX)
        return TCCP_ERR_TOO_LARGE;
    writer out = {.at = list, .left = list_max};
    while (text_len > 0) {
        const uint8_t *end = memchr(text, '\n', text_len);
        size_t len = end == NULL ? text_len : (size_t) (end - text);
        if (!put_entry(&out, (span){text, len}))
            return out.failed ? TCCP_ERR_TOO_LARGE : TCCP_ERR_MALFORMED;
        size_t skip = end == NULL ? len : len + 1;
        text += skip;
        text_len -= skip;
    }
    if (out.failed)
        return TCCP_ERR_TOO_LARGE;
    *ret_len = list_max - out.left;
    return TCCP_OK;
}
