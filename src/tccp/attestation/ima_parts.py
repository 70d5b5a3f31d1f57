"""A measurement list that arrives in parts, because it is longer than a message: judged part by part, accepted whole.

Nothing of it counts before one part leads to the quoted PCR 10, and what stands behind that is not looked at. One part
is all that is held of it.
"""

from tccp.attestation.ima import (
    AcceptedMeasurements,
    ImaPolicy,
    ImaProgress,
    OpenMeasurements,
    list_mismatch,
    prove_part,
)
from tccp.errors import ImaError
from tccp.model import IMA_PCR, PcrValues

LIST_BYTES_MAX = 256 << 20
_AGGREGATED = frozenset(range(10))


class ListInParts:
    """What a host has measured since *progress*.

    Args:
        progress: Where the last accepted entry of this boot left PCR 10.
        pcrs: Values of a verified quote, PCR 10 among them. If PCR 0 to 9 are too, the boot aggregate must be theirs.
    """

    def __init__(self, policy: ImaPolicy, progress: ImaProgress, pcrs: PcrValues) -> None:
        self._policy, self._pcrs = policy, pcrs
        self._boot = pcrs if set(pcrs.values) >= _AGGREGATED else None
        self._progress = progress
        self._end = progress.consumed_bytes + LIST_BYTES_MAX

    @property
    def offset(self) -> int:
        """Where in the host's list the next part begins."""
        return self._progress.consumed_bytes

    @property
    def is_all(self) -> bool:
        """Whether nothing was measured since *progress*: then no part is needed to take."""
        return self._progress.count > 0 and self._progress.pcr == self._pcrs.values[IMA_PCR]

    def take(self, part: bytes) -> AcceptedMeasurements | None:
        """Judge the next part: the measurements if they are all there now, else None.

        Raises:
            ImaError: ``ima_list_mismatch``: the list ends, and has not led to the quoted value. ``malformed``.
                ``too_large``: it does not end.
            PolicyError: ``ima_entry_refused``.
        """
        measured = prove_part(part, self._progress, self._pcrs)
        if not isinstance(measured, OpenMeasurements):
            return self._policy.judge(measured, self._boot)
        self._policy.check(measured, self._boot)
        if not len(measured):
            raise list_mismatch(measured)
        if measured.progress.consumed_bytes > self._end:
            raise ImaError("too_large", f"more than {LIST_BYTES_MAX} bytes, and no end")
        self._progress = measured.progress
        return None
