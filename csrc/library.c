/* library.c: which libraries the core really runs with, for `tccp doctor` and for bug reports. */
#include "tccp.h"

#include <openssl/crypto.h>
#include <sodium.h>

void tccp_library_versions(tccp_library_info *ret_info)
{
#ifdef TCCP_HAVE_CRYPTO_MB
    int crypto_mb_built = 1;
#else
    int crypto_mb_built = 0;
#endif
    *ret_info = (tccp_library_info){
        .openssl = OpenSSL_version(OPENSSL_VERSION_STRING),
        .sodium = sodium_version_string(),
        .crypto_mb_built = crypto_mb_built,
    };
}
