/* test_disk_crash.c: after any power failure the disk is what it was at some moment since the last answered flush.
 *
 *     test_disk_crash [FIRST COUNT]    run other trials than those of the suite
 */
#include "disk_crash.h"

enum { TRIALS = 600, CONTROL_TRIALS = 40 };

int main(int argc, char **argv)
{
    uint64_t first = argc == 3 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : TRIALS;
    uint64_t wrong = run_trials(first, count, 0);
    printf("test_disk_crash: %llu trials, %llu violations\n", (unsigned long long) count, (unsigned long long) wrong);
    if (wrong != 0)
        return 1;
    /* The trials can fail: below a disk whose syncs do nothing they find that flushed blocks are gone. */
    if (run_trials(1, CONTROL_TRIALS, 1) == 0) {
        fprintf(stderr, "a file that never syncs went unnoticed\n");
        return 1;
    }
    return 0;
}
