"""Perimeters of real daemons, in folders whose paths are short enough for Unix sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.perimeter import ZERO_PCR, Node, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpmPool
from tests.system.cloud import Cloud


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


@pytest.fixture(scope="session")
def cloud(ek_authority: EkAuthority, soft_tpms: SoftTpmPool) -> Iterator[Cloud]:
    """With two nodes, alpha and beta, whose leases outlast every test."""
    with soft_tpms.lend():  # the authority exists once it has made a TPM
        pass
    with (
        tempfile.TemporaryDirectory(prefix="tccp-system-") as directory,
        Perimeter(Path(directory), authority=ek_authority) as perimeter,
    ):
        perimeter.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR})
        for name in ("alpha", "beta"):
            perimeter.make_node(name, vms=True).daemon.start()
        for node in perimeter.nodes.values():
            node.wait_for_state("admitted")
        folder = perimeter.directory / "tenant"
        folder.mkdir(mode=0o711)
        cloud = Cloud(perimeter, folder)
        cloud.prepare()
        yield cloud


@pytest.fixture
def alpha(cloud: Cloud) -> Node:
    """Admitted."""
    node = cloud.perimeter.nodes["alpha"]
    node.wait_for_state("admitted")
    return node
