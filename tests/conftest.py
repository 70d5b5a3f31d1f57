"""What every test may ask for: software TPMs, each with an EK of its own that one authority has certified."""

import signal
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import tccp.bugs
from tests.support.soft_tpm import EkAuthority, SoftTpm, SoftTpmPool

# No test fails because the machine was busy.
hypothesis.settings.register_profile("tccp", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tccp")

# A shell starts what runs in the background with SIGINT ignored, and what is ignored our children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def bugs() -> Iterator[list[str]]:
    """Traces of the bugs that were contained in this process: a test that brings one out takes it out of the list."""
    found: list[str] = []

    class Told:
        def exception(self, what: str, **_whom: str) -> None:
            found.append(f"{what}\n{traceback.format_exc()}")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tccp.bugs, "log", Told())
        yield found
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def tpm_directory() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="tccp-tpm-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def ek_authority(tpm_directory: Path) -> EkAuthority:
    """Who certifies the EKs of `soft_tpms`."""
    return EkAuthority(tpm_directory / "ca")


@pytest.fixture(scope="session")
def soft_tpms(ek_authority: EkAuthority, tpm_directory: Path) -> SoftTpmPool:
    """Lends running TPMs that are as new: ``with soft_tpms.lend() as soft_tpm``."""
    return SoftTpmPool(ek_authority, tpm_directory)


@pytest.fixture
def soft_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """One running TPM that is as new."""
    with soft_tpms.lend() as lent:
        yield lent
