"""One bench for all faults."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench
from tests.support.soft_tpm import EkAuthority, SoftTpmPool


@pytest.fixture(scope="session")
def bench(ek_authority: EkAuthority, soft_tpms: SoftTpmPool) -> Iterator[Bench]:
    """A coordinator and two nodes that survive every test, or are started again."""
    with soft_tpms.lend():  # the authority exists once it has made a TPM
        pass
    with (
        tempfile.TemporaryDirectory(prefix="tccp-faults-") as folder,
        Bench(Path(folder), authority=ek_authority) as running,
    ):
        yield running
