/* test_nbd.c: one NBD connection without its socket: what a client says, and what it hears. */

#define _GNU_SOURCE
#include "check.h"
#include "disk_memory.h"
#include "nbd.h"
#include "nbd_client.h"

enum { SIZE = 1 << 20, GREETING = 18, OPTION_REPLY = 20, GO_REPLIES = 3 * OPTION_REPLY + 12 + 14 };

static memory_file file;
static tccp_disk *disk;
static uint8_t *out;
static nbd_session session;
static words spoken;

static void connect_anew(void)
{
    nbd_session_start(&session, disk, out);
    spoken.len = 0;
}

/* Everything said so far, cut into single bytes as a socket might; returns how much was taken. */
static size_t hear(void)
{
    size_t used = 0;
    session.out_len = 0;
    for (size_t len = 1; len <= spoken.len; len++)
        used += nbd_session_receive(&session, spoken.bytes + used, len - used);
    spoken.len = 0;
    return used;
}

static void enter(void)
{
    connect_anew();
    say_hello(&spoken);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_REQUESTS);
}

static uint32_t simple_error(size_t at)
{
    CHECK(heard(out + at, 4) == 0x67446698);
    return (uint32_t) heard(out + at + 4, 4);
}

static void a_client_is_greeted_and_let_in(void)
{
    connect_anew();
    CHECK(session.out_len == GREETING);
    CHECK(memcmp(out, "NBDMAGICIHAVEOPT\0\3", GREETING) == 0);
    say_hello(&spoken);
    CHECK(hear() == 4 + 16 + 6);
    CHECK(session.out_len == GO_REPLIES);
    CHECK(heard(out, 8) == 0x0003e889045565a9);
    CHECK(heard(out + OPTION_REPLY + 2, 8) == SIZE);
    CHECK(heard(out + GO_REPLIES - 8, 4) == 1);
}

static void an_old_client_is_let_in_by_the_name_of_the_export(void)
{
    for (int no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        connect_anew();
        say(&spoken, no_zeroes ? 3 : 1, 4);
        say_option(&spoken, 1, NULL, 0);
        (void) hear();
        CHECK(session.phase == NBD_PHASE_REQUESTS);
        CHECK(session.out_len == (no_zeroes ? 10u : 134u));
        CHECK(heard(out, 8) == SIZE);
    }
}

static void what_nobody_knows_is_refused_without_hanging_up(void)
{
    static const struct { uint32_t option, answer; const char *data; uint32_t len; } cases[] = {
        {99, 0x80000001, NULL, 0},                          /* no such option */
        {5, 0x80000001, NULL, 0},                           /* STARTTLS */
        {7, 0x80000006, "\0\0\0\1x\0\0", 7},                /* another export */
        {7, 0x80000003, "\0\0\0\5x", 5},                    /* a name longer than the option */
        {7, 0x80000003, "\xff\xff\xff\xff\0\0", 6},
        {7, 0x80000003, "\0\0\0\0\0\0x", 7},                /* bytes left over */
        {8, 0x80000003, "x", 1},                            /* structured replies take nothing */
        {10, 0x80000003, "\0\0\0\0\0\0\0\0", 8},            /* contexts before structured replies */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        connect_anew();
        say(&spoken, 3, 4);
        say_option(&spoken, cases[i].option, cases[i].data, cases[i].len);
        (void) hear();
        CHECK(session.phase == NBD_PHASE_OPTIONS);
        CHECK(session.out_len == OPTION_REPLY);
        CHECK(heard(out + 12, 4) == cases[i].answer);
    }
}

static void what_is_no_nbd_is_hung_up_on(void)
{
    connect_anew();
    say(&spoken, 0x47455420, 4);  /* "GET " */
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED);

    connect_anew();
    say(&spoken, 3, 4);
    say(&spoken, 0, 8), say(&spoken, 0, 8);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED);

    enter();
    say(&spoken, 0, 8), say(&spoken, 0, 8), say(&spoken, 0, 8), say(&spoken, 0, 4);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED);

    enter();
    say(&spoken, 0x25609513, 4), say(&spoken, CLIENT_WRITE, 4), say(&spoken, 0, 8), say(&spoken, 0, 8);
    say(&spoken, NBD_REQUEST_BYTES_MAX + 1, 4);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED && session.out_len == 0);

    connect_anew();
    say(&spoken, 3, 4);
    for (int i = 0; i <= NBD_OPTIONS_MAX; i++)
        say_option(&spoken, 99, NULL, 0);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED);
}

static void what_was_written_is_read(void)
{
    enter();
    say_request(&spoken, CLIENT_WRITE, 0, 1, 5000, 9000, 7);
    say_request(&spoken, CLIENT_READ, 0, 2, 4999, 9002, 0);
    (void) hear();
    CHECK(session.out_len == 16 + 16 + 9002);
    CHECK(simple_error(0) == 0 && heard(out + 8, 8) == 1);
    CHECK(simple_error(16) == 0 && heard(out + 24, 8) == 2);
    CHECK(out[32] == 0 && out[33] == 7 && out[32 + 9000] == 7 && out[32 + 9001] == 0);

    say_request(&spoken, CLIENT_TRIM, 0, 3, 5000, 9000, 0);
    say_request(&spoken, CLIENT_ZEROES, CLIENT_FUA, 4, 0, 4096, 0);
    say_request(&spoken, CLIENT_FLUSH, 0, 5, 0, 0, 0);
    say_request(&spoken, CLIENT_READ, 0, 6, 5000, 4, 0);
    (void) hear();
    CHECK(simple_error(0) == 0 && simple_error(16) == 0 && simple_error(32) == 0 && simple_error(48) == 0);
    CHECK(heard(out + 64, 4) == 0);
    say_request(&spoken, CLIENT_DISCONNECT, 0, 7, 0, 0, 0);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_CLOSED && session.out_len == 0);
}

static void a_request_that_cannot_be_has_its_error_and_the_next_is_answered(void)
{
    static const struct { unsigned command, flags; uint64_t offset; uint32_t len, error; } cases[] = {
        {CLIENT_READ, 0, SIZE, 1, 22},                   /* beyond the end */
        {CLIENT_READ, 0, UINT64_MAX, 4096, 22},
        {CLIENT_READ, 0, 0, NBD_REQUEST_BYTES_MAX + 1, 22},
        {CLIENT_READ, 4, 0, 512, 22},                    /* in one piece, without structured replies */
        {CLIENT_WRITE, 0, SIZE - 1, 2, 28},
        {CLIENT_WRITE, 2, 0, 2, 22},                     /* a flag of another command */
        {CLIENT_ZEROES, 0, SIZE - 4096, 8192, 28},
        {CLIENT_TRIM, 0, SIZE - 4096, 8192, 22},
        {CLIENT_FLUSH, 0, 0, 1, 22},
        {CLIENT_STATUS, 0, 0, 4096, 22},                 /* nobody asked for the context */
        {5, 0, 0, 0, 22},                                /* CACHE is not offered */
        {77, 0, 0, 0, 22},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enter();
        say_request(&spoken, cases[i].command, cases[i].flags, 1, cases[i].offset, cases[i].len, 0);
        say_request(&spoken, CLIENT_READ, 0, 2, 0, 512, 0);
        (void) hear();
        CHECK(session.out_len == 16 + 16 + 512);
        CHECK(simple_error(0) == cases[i].error);
        CHECK(simple_error(16) == 0 && heard(out + 24, 8) == 2);
    }
}

static void enter_structured(void)
{
    connect_anew();
    say(&spoken, 3, 4);
    say_option(&spoken, 8, NULL, 0);
    say_option(&spoken, 10, "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation", 27);
    say_option(&spoken, 7, "\0\0\0\0\0\0", 6);
    (void) hear();
    CHECK(session.phase == NBD_PHASE_REQUESTS && session.structured && session.allocation);
}

static void of_two_contexts_the_usual_one_is_chosen_and_of_changes_only_who_asks_hears(void)
{
    static const char both[] = "\0\0\0\0\0\0\0\2\0\0\0\14tccp:changed\0\0\0\17base:allocation";
    enter_structured();
    CHECK(!session.changed);
    connect_anew();
    say(&spoken, 3, 4);
    say_option(&spoken, 8, NULL, 0);
    say_option(&spoken, 10, both, sizeof both - 1);
    (void) hear();
    CHECK(session.allocation && !session.changed);
    say_option(&spoken, 10, both, 12 + 12);
    (void) hear();
    CHECK(!session.changed);  /* it says two queries, and has one */
    say_option(&spoken, 10, "\0\0\0\0\0\0\0\1\0\0\0\14tccp:changed", 24);
    (void) hear();
    CHECK(session.changed && !session.allocation);
}

static void structured_replies_come_in_chunks_errors_too(void)
{
    enter_structured();
    say_request(&spoken, CLIENT_READ, 4, 9, 0, 4096, 0);
    (void) hear();
    CHECK(session.out_len == 20 + 8 + 4096);
    CHECK(heard(out, 4) == 0x668e33ef && heard(out + 4, 2) == 1 && heard(out + 6, 2) == 1 && heard(out + 8, 8) == 9);

    say_request(&spoken, CLIENT_READ, 0, 10, SIZE, 4096, 0);
    (void) hear();
    CHECK(session.out_len == 20 + 6 && heard(out + 6, 2) == 0x8001 && heard(out + 20, 4) == 22);

    say_request(&spoken, CLIENT_TRIM, 0, 11, 0, SIZE, 0);
    say_request(&spoken, CLIENT_WRITE, 0, 11, 65536, 8192, 3);
    say_request(&spoken, CLIENT_STATUS, 0, 12, 0, SIZE, 0);
    (void) hear();
    const uint8_t *status = out + 16 + 16;
    CHECK(heard(status + 6, 2) == 5 && heard(status + 16, 4) == 4 + 3 * 8);
    CHECK(heard(status + 24, 4) == 65536 && heard(status + 28, 4) == 3);
    CHECK(heard(status + 32, 4) == 8192 && heard(status + 36, 4) == 0);

    say_request(&spoken, CLIENT_STATUS, 8, 13, 65536, 65536, 0);  /* one extent is enough */
    (void) hear();
    CHECK(heard(out + 16, 4) == 4 + 8 && heard(out + 24, 4) == 8192);
}

static int take_flushes(void *context, const nbd_request *request, const uint8_t *payload)
{
    (void) payload;
    unsigned *taken = context;
    *taken += (unsigned) nbd_only_flushes(request);
    return nbd_only_flushes(request);
}

static void what_would_wait_is_deferred_and_what_would_not_is_answered(void)
{
    unsigned taken = 0;
    enter();
    session.defer = take_flushes;
    session.defer_context = &taken;
    say_request(&spoken, CLIENT_FLUSH, 0, 1, 0, 0, 0);
    say_request(&spoken, CLIENT_WRITE, CLIENT_FUA, 2, 0, 4096, 5);
    say_request(&spoken, CLIENT_READ, 0, 3, 0, 1, 0);
    (void) hear();
    CHECK(taken == 2);
    CHECK(session.out_len == 17 && heard(out + 8, 8) == 3 && out[16] == 5);
}

int main(void)
{
    disk = memory_disk(&file, SIZE);
    out = malloc(NBD_OUT_CAPACITY);
    if (out == NULL)
        return 1;
    a_client_is_greeted_and_let_in();
    an_old_client_is_let_in_by_the_name_of_the_export();
    what_nobody_knows_is_refused_without_hanging_up();
    what_is_no_nbd_is_hung_up_on();
    what_was_written_is_read();
    a_request_that_cannot_be_has_its_error_and_the_next_is_answered();
    of_two_contexts_the_usual_one_is_chosen_and_of_changes_only_who_asks_hears();
    structured_replies_come_in_chunks_errors_too();
    what_would_wait_is_deferred_and_what_would_not_is_answered();
    tccp_disk_free(disk);
    memory_free(&file);
    free(out);
    return failures != 0;
}
