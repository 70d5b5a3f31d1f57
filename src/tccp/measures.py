"""How often something happened and how long it took, kept in a bounded number of counts."""

import bisect
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

# Upper bounds in seconds: from a quick commit to a TPM that makes an RSA key.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER = "other"
NAMES_MAX = 64


class Durations:
    """How long things took, by upper bounds. One thread adds, any thread reads.

    Args:
        bounds_s: In ascending order, in seconds.
    """

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self.bounds_s = tuple(bounds_s)
        self.sum_s = 0.0
        self._counts = [0] * (len(self.bounds_s) + 1)

    def add(self, duration_s: float) -> None:
        """Take one down."""
        self._counts[bisect.bisect_left(self.bounds_s, duration_s)] += 1
        self.sum_s += duration_s

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Take down how long this takes, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(time.perf_counter() - began)

    @property
    def cumulative(self) -> list[int]:
        """How many took at most each bound, and at last how many there are."""
        return list(itertools.accumulate(self._counts))


class Tally:
    """How often something happened under each name; names beyond the first 64 count as ``other``.

    Names may come from a peer, who must not be able to fill our memory or that of whoever reads the counts.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Take one down."""
        if name not in self._counts and len(self._counts) >= NAMES_MAX:
            name = OTHER
        self._counts[name] = self._counts.get(name, 0) + 1

    def __len__(self) -> int:
        """How often it happened at all."""
        return sum(self._counts.values())

    @property
    def by_name(self) -> Mapping[str, int]:
        """The counts."""
        return self._counts
