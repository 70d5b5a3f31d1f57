/* A process in the place of QEMU, of a disk or of a vTPM: it does what it is told, a byte at a time, and answers with it.

   'r'  run: the lock of its VM is taken, which nobody else may hold; if somebody does, two run, and that is written down
   'p'  stand still: the lock is let go
   else nothing

   Descriptors: 3 whoever tells it, 4 the file to lock, 5 where it is written down that two run. A lock goes with its
   process, however that ends, and stays while the process is stopped: a guest that may go on counts as one that runs. */

#include <sys/file.h>
#include <unistd.h>

int main(void)
{
    char word;

    while (read(3, &word, 1) == 1) {
        if (word == 'r' && flock(4, LOCK_EX | LOCK_NB) != 0) {
            word = '!';
            if (write(5, "two\n", 4) != 4)
                return 1;
        }
        if (word == 'p')
            (void)flock(4, LOCK_UN);
        if (write(3, &word, 1) != 1)
            return 1;
    }
    return 0;
}
