/* lanes.h: signatures in the eight lanes of CPUs with AVX-512 IFMA. */
#ifndef TCCP_LANES_H
#define TCCP_LANES_H

#include "signature.h"

enum {
    LANES = 8,
    LANE_KINDS = 5
};

/* Keys whose signatures can share lanes have the same number: below LANE_KINDS. */
size_t lanes_kind(const tccp_ak *ak);

/* Whether lanes verify signatures by this key, faster than libcrypto even when there is but one. */
bool lanes_take(const tccp_ak *ak);

/* The verdicts that signature_verify_libcrypto would give on 1 to LANES checks by keys of one kind that
 * lanes_take. */
void lanes_verify(const signature_check *checks, size_t n, tccp_status *ret_verdicts);

#endif /* TCCP_LANES_H */
