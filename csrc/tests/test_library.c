/* test_library.c: the versions are those of the libraries that this program runs with. */
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "../tccp.h"

int main(void)
{
    tccp_library_info info;
    memset(&info, 0xff, sizeof info);
    tccp_library_versions(&info);
    if (strcmp(info.openssl, OpenSSL_version(OPENSSL_VERSION_STRING)) != 0 || info.openssl[0] < '3') {
        fprintf(stderr, "OpenSSL is said to be %s\n", info.openssl);
        return 1;
    }
    if (strcmp(info.sodium, SODIUM_VERSION_STRING) != 0) {
        fprintf(stderr, "libsodium is said to be %s, its header says %s\n", info.sodium, SODIUM_VERSION_STRING);
        return 1;
    }
    if (info.crypto_mb_built != 0 && info.crypto_mb_built != 1) {
        fprintf(stderr, "crypto_mb_built is %d\n", info.crypto_mb_built);
        return 1;
    }
    return 0;
}
