/* test_disk_crash_threads.c: power failures while a keeper makes room ready and commits, and somebody compacts all the time.
 *
 * Neither changes what the disk holds, so the one thread that writes still knows which states are right.
 */
#define _GNU_SOURCE
#include "disk_crash.h"

enum { TRIALS = 40 };

int main(int argc, char **argv)
{
    uint64_t first = argc == 3 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : TRIALS;
    with_company = 1;
    uint64_t wrong = run_trials(first, count, 0);
    printf("test_disk_crash_threads: %llu trials, %llu violations\n", (unsigned long long) count,
           (unsigned long long) wrong);
    return wrong != 0;
}
