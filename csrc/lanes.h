/* lanes.h: eight signatures at once on CPUs with AVX-512 IFMA, when built with Intel crypto_mb. */
#ifndef TCCP_LANES_H
#define TCCP_LANES_H

#include "signature.h"

enum {
    LANES = 8,
    LANES_NEVER = LANES + 1,
    LANE_KINDS = 5
};

/* Keys whose signatures can share lanes have the same number: below LANE_KINDS. */
size_t lanes_kind(const tccp_ak *ak);

/* From how many signatures by keys of this kind on lanes are faster than libcrypto; LANES_NEVER without lanes. */
size_t lanes_from(const tccp_ak *ak);

/* The verdicts that signature_verify_libcrypto would give on 1 to LANES checks by keys of one kind for which
 * lanes_from is not LANES_NEVER. */
void lanes_verify(const signature_check *checks, size_t n, tccp_status *ret_verdicts);

#endif /* TCCP_LANES_H */
