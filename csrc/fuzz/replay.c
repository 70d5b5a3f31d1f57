/* replay.c: runs a fuzz target over its corpus without a fuzzer, the same way each time.
 *
 *     replay_SUBJECT FOLDER...
 *
 * Each file is fed whole, cut at every length and with a byte changed at every place; of files longer than
 * POSITIONS_MAX, that many lengths and places spread over the file. Each input has an allocation of exactly its
 * own size, so that the address sanitizer sees a read one byte beyond it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 16, POSITIONS_MAX = 1024, PATH_BYTES_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t runs;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "replay: %s: %s\n", path, what);
    exit(2);
}

static void feed(const uint8_t *bytes, size_t len, size_t changed, uint8_t mask)
{
    uint8_t *exact = malloc(len == 0 ? 1 : len);
    if (exact == NULL)
        abort();
    memcpy(exact, bytes, len);
    if (mask != 0)
        exact[changed] ^= mask;
    (void) LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    runs++;
}

static void replay(const char *path)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    static uint8_t bytes[FILE_BYTES_MAX + 1];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("cannot be opened", path);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    if (ferror(file))
        die("cannot be read", path);
    (void) fclose(file);
    if (len > FILE_BYTES_MAX)
        die("longer than a seed may be", path);

    feed(bytes, len, 0, 0);
    size_t positions = len < POSITIONS_MAX ? len : POSITIONS_MAX;
    for (size_t i = 0; i < positions; i++) {
        size_t at = i * len / positions;
        feed(bytes, at, 0, 0);
        feed(bytes, len, at, masks[i % sizeof masks]);
    }
}

int main(int argc, char **argv)
{
    size_t files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL)
            die("no such folder: a fuzz target needs seeds", argv[i]);
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[PATH_BYTES_MAX];
            if (entry->d_name[0] == '.')
                continue;
            if (snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name) >= (int) sizeof path)
                die("path too long", argv[i]);
            replay(path);
            files++;
        }
        (void) closedir(folder);
    }
    printf("%s: %zu seeds, %zu inputs\n", argv[0], files, runs);
    return files == 0;
}
