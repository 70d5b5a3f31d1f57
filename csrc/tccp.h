/* tccp.h: the whole interface of the C core, in parts.
 *
 * Contract of every function:
 *   - bytes in, a status and ret_ values out; ret_ values are written on TCCP_OK and left untouched otherwise;
 *   - nothing is logged, opened or kept between calls, except inside opaque handles;
 *   - every function may be called from any thread; a handle may be read by many threads at once;
 *   - a status says whose fault it is: below 16 ours, from 16 on the peer's bytes.
 *
 * Python sees exactly what stands between the two markers of each part, in this order (csrc/build.py hands it to cffi).
 */
#ifndef TCCP_H
#define TCCP_H

#include "tccp_status.h"

/* Evidence of other machines. */
#include "tccp_tpm_public.h"
#include "tccp_certificate.h"
#include "tccp_credential.h"
#include "tccp_event_log.h"
#include "tccp_ima.h"
#include "tccp_quote.h"

/* Images and disks. */
#include "tccp_image.h"
#include "tccp_disk.h"

/* Processes. */
#include "tccp_process.h"

#endif /* TCCP_H */
