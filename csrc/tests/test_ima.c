/* test_ima.c: lists built entry by entry, replayed by hand, judged by a policy that is built here, then made wrong. */
#include <stdlib.h>

#include "check.h"
#include "hash.h"
#include "ima.h"
#include "tpm_public.h"

enum { ROOM = 8, COLUMN = 20 };

typedef struct written {
    uint8_t bytes[4096];
    size_t len;
} written;

static void put(written *out, const void *bytes, size_t len)
{
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_u32(written *out, size_t value)
{
    const uint8_t bytes[4] = {(uint8_t) value, (uint8_t) (value >> 8), (uint8_t) (value >> 16), 0};
    put(out, bytes, sizeof bytes);
}

static void put_digest_of(written *out, const char *content)
{
    uint8_t digest[32];
    CHECK(EVP_Q_digest(NULL, "SHA256", NULL, content, strlen(content), digest, NULL) == 1);
    put(out, digest, sizeof digest);
}

/* An ima-ng entry; returns where its data begins. */
static size_t put_entry(written *out, uint32_t pcr, bool violation, const char *content, const char *path)
{
    uint8_t column[COLUMN];
    memset(column, violation ? 0 : 1, sizeof column);
    put_u32(out, pcr);
    put(out, column, sizeof column);
    put_u32(out, 6);
    put(out, "ima-ng", 6);
    put_u32(out, 4 + 8 + 32 + 4 + strlen(path) + 1);
    size_t data = out->len;
    put_u32(out, 8 + 32);
    put(out, "sha256:", 8);
    put_digest_of(out, content);
    put_u32(out, strlen(path) + 1);
    put(out, path, strlen(path) + 1);
    return data;
}

static void extend_by_hand(uint8_t *pcr, const uint8_t *data, size_t len)
{
    uint8_t both[64];
    memcpy(both, pcr, 32);
    if (data == NULL)
        memset(both + 32, 0xFF, 32);
    else
        CHECK(EVP_Q_digest(NULL, "SHA256", NULL, data, len, both + 32, NULL) == 1);
    CHECK(EVP_Q_digest(NULL, "SHA256", NULL, both, sizeof both, pcr, NULL) == 1);
}

static tccp_ima_entry entries[ROOM];
static tccp_ima_replayed replayed;
static size_t count;
static const uint8_t zeros[32];

/* Replays out of an allocation of exactly the list's size, so that the address sanitizer sees a read beyond it. */
static tccp_status replay(const written *list, const uint8_t *target, size_t room)
{
    uint8_t *exact = malloc(list->len == 0 ? 1 : list->len);
    if (exact == NULL)
        abort();
    memcpy(exact, list->bytes, list->len);
    tccp_status status =
        tccp_ima_replay(exact, list->len, COLUMN, TPM_ALG_SHA256, 10, zeros, target, entries, room, &count, &replayed);
    free(exact);
    return status;
}

static tccp_status replay_bytes(const uint8_t *list, size_t len, size_t column_len, uint16_t bank)
{
    return tccp_ima_replay(list, len, column_len, bank, 10, zeros, NULL, entries, ROOM, &count, &replayed);
}

static void a_prefix_is_replayed(void)
{
    written list = {.len = 0};
    uint8_t pcr[32] = {0}, first[32];
    size_t data = put_entry(&list, 10, false, "one", "/one");
    extend_by_hand(pcr, list.bytes + data, list.len - data);
    memcpy(first, pcr, sizeof first);
    size_t one_len = list.len;
    put_entry(&list, 10, true, "two", "/two");
    extend_by_hand(pcr, NULL, 0);
    put_entry(&list, 11, false, "elsewhere", "/elsewhere");

    CHECK(replay(&list, NULL, ROOM) == TCCP_OK && count == 3 && !replayed.matched && !replayed.truncated);
    CHECK(memcmp(replayed.pcr, pcr, 32) == 0 && replayed.consumed == list.len);
    CHECK(replay(&list, first, ROOM) == TCCP_OK && count == 1 && replayed.matched && replayed.consumed == one_len);
    CHECK(replay(&list, pcr, ROOM) == TCCP_OK && count == 2 && replayed.matched && entries[1].violation);
    CHECK(replay(&list, zeros, ROOM) == TCCP_OK && count == 0 && replayed.matched && replayed.consumed == 0);
    CHECK(entries[0].path_len == 4 && memcmp(list.bytes + entries[0].path_offset, "/one", 4) == 0);
}

static void every_cut_is_found(void)
{
    written list = {.len = 0};
    put_entry(&list, 10, false, "one", "/one");
    size_t one_len = list.len;
    put_entry(&list, 10, false, "two", "/two");
    for (size_t whole = list.len; list.len > 0; list.len--) {
        CHECK(replay(&list, NULL, ROOM) == TCCP_OK);
        CHECK(count == (list.len == whole ? 2u : list.len >= one_len ? 1u : 0u));
        CHECK(replayed.truncated == (list.len != whole && list.len != one_len));
    }
}

static void nothing_is_written_on_failure(void)
{
    written list = {.len = 0};
    put_entry(&list, 10, false, "one", "/one");
    put_entry(&list, 10, false, "two", "/two");
    count = 77;
    memset(&replayed, 0x5A, sizeof replayed);
    tccp_ima_replayed before = replayed;
    CHECK(replay(&list, NULL, 1) == TCCP_ERR_TOO_LARGE);
    list.bytes[0] = 24; /* no such PCR */
    CHECK(replay(&list, NULL, ROOM) == TCCP_ERR_MALFORMED);
    list.bytes[0] = 10;
    list.bytes[4 + COLUMN + 3] = 1; /* an endless name */
    CHECK(replay(&list, NULL, ROOM) == TCCP_ERR_MALFORMED);
    CHECK(replay_bytes(list.bytes, list.len, 21, TPM_ALG_SHA256) == TCCP_ERR_USAGE);
    CHECK(replay_bytes(list.bytes, list.len, COLUMN, TPM_ALG_SHA384) == TCCP_ERR_USAGE);
    CHECK(replay_bytes(NULL, 0, COLUMN, TPM_ALG_SHA256) == TCCP_ERR_USAGE);
    CHECK(count == 77 && memcmp(&replayed, &before, sizeof replayed) == 0);
}

/* One digest for every path, and one pattern. */
static tccp_ima_policy *open_policy(const char *content, const char *excluded)
{
    static written file;
    uint8_t digest[TCCP_DIGEST_BYTES_MAX];
    tccp_ima_policy *policy = NULL;
    file.len = 0;
    put(&file, "tccpima1", 8);
    put_u32(&file, 0);
    put_u32(&file, 8 + strlen(excluded));
    put_u32(&file, 1);
    put_u32(&file, 0);
    put_u32(&file, 1);
    put_u32(&file, strlen(excluded));
    put(&file, excluded, strlen(excluded));
    put(&file, zeros, (8 - strlen(excluded) % 8) % 8);
    put_u32(&file, 0);
    put_u32(&file, 1);
    put_digest_of(&file, content);
    put_u32(&file, IMA_SHA256);
    put(&file, zeros, 8);
    CHECK(hash_bytes(TPM_ALG_SHA256, file.bytes, file.len, digest));
    CHECK(tccp_ima_policy_open(file.bytes, file.len, digest, &policy) == TCCP_OK);
    digest[0] ^= 1;
    tccp_ima_policy *none = NULL;
    CHECK(tccp_ima_policy_open(file.bytes, file.len, digest, &none) == TCCP_ERR_ROOT && none == NULL);
    return policy;
}

static void entries_are_judged(void)
{
    written list = {.len = 0};
    uint8_t verdicts[ROOM];
    size_t refused = 0;
    put_entry(&list, 10, false, "boot", "boot_aggregate");
    put_entry(&list, 10, false, "good", "/good");
    put_entry(&list, 10, false, "evil", "/evil");
    put_entry(&list, 10, false, "evil", "/tmp/evil");
    put_entry(&list, 10, true, "good", "/good");
    put_entry(&list, 11, false, "good", "/good");
    put_entry(&list, 10, false, "boot", "boot_aggregate");
    tccp_ima_policy *policy = open_policy("good", "/tmp/*");
    CHECK(replay(&list, NULL, ROOM) == TCCP_OK && count == 7);
    CHECK(tccp_ima_judge(policy, list.bytes, list.len, entries, count, 0, 10, NULL, 0, verdicts, &refused) == TCCP_OK);
    static const uint8_t expected[] = {TCCP_IMA_BOOT_AGGREGATE, TCCP_IMA_LISTED,    TCCP_IMA_NOT_LISTED,
                                       TCCP_IMA_EXCLUDED,       TCCP_IMA_VIOLATION, TCCP_IMA_OTHER_PCR,
                                       TCCP_IMA_WRONG_AGGREGATE};
    CHECK(memcmp(verdicts, expected, sizeof expected) == 0 && refused == 4);
    CHECK(tccp_ima_policy_records(policy) == 1);
    CHECK(tccp_ima_judge(policy, list.bytes, 10, entries, count, 0, 10, NULL, 0, verdicts, &refused) == TCCP_ERR_USAGE);
    tccp_ima_policy_free(policy);
    tccp_ima_policy_free(NULL);
}

static void text_becomes_binary(void)
{
    static const char text[] = "10 0101010101010101010101010101010101010101 ima-ng sha256:"
                               "0000000000000000000000000000000000000000000000000000000000000000 /x y\n";
    uint8_t list[2 * sizeof text + 64];
    size_t len = 0;
    CHECK(tccp_ima_from_text((const uint8_t *) text, sizeof text - 1, list, sizeof list, &len) == TCCP_OK);
    CHECK(replay_bytes(list, len, COLUMN, TPM_ALG_SHA256) == TCCP_OK);
    CHECK(count == 1 && entries[0].path_len == 4 && memcmp(list + entries[0].path_offset, "/x y", 4) == 0);
    for (size_t room = 0; room < len; room++)
        CHECK(tccp_ima_from_text((const uint8_t *) text, sizeof text - 1, list, room, &len) != TCCP_OK);
}

int main(void)
{
    a_prefix_is_replayed();
    every_cut_is_found();
    nothing_is_written_on_failure();
    entries_are_judged();
    text_becomes_binary();
    return failures == 0 ? 0 : 1;
}
