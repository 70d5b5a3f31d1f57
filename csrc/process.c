/* process.c: what each of our processes gives up before it comes to hold a secret. */
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tccp.h"

tccp_status tccp_process_harden(void)
{
    struct rlimit none = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        setrlimit(RLIMIT_CORE, &none) != 0)
        return TCCP_ERR_IO;
    return TCCP_OK;
}
