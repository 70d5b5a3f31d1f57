/* check.h: a test program counts what does not hold, says where, and goes on. */
#ifndef TCCP_TESTS_CHECK_H
#define TCCP_TESTS_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            failures++;                                                       \
        }                                                                     \
    } while (0)

#endif /* TCCP_TESTS_CHECK_H */
