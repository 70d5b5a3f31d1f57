"""Perimeters of real daemons, in folders whose paths are short enough for Unix sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.perimeter import ZERO_PCR, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpmPool


@pytest.fixture
def folder() -> Iterator[Path]:
    """Empty, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tccp-system-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def perimeter(ek_authority: EkAuthority, soft_tpms: SoftTpmPool) -> Iterator[Perimeter]:
    """A coordinator with leases of two seconds, for the tests of one file; each adds nodes of its own."""
    with soft_tpms.lend():  # the authority exists once it has made a TPM
        pass
    with (
        tempfile.TemporaryDirectory(prefix="tccp-system-") as directory,
        Perimeter(Path(directory), lease_s=2, authority=ek_authority) as running,
    ):
        running.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR})
        yield running
