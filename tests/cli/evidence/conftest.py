"""A TPM with an attestation key and quotes, all made by tpm2-tools: the files that ``tccp evidence quote`` is for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Ended, tccp_in_process
from tests.support.soft_tpm import SoftTpm
from tests.support.tpm2_tools import Tpm2Tools

Run = Callable[..., Ended]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run ``tccp evidence`` with these arguments, in this process."""

    def run_evidence(*arguments: str | Path) -> Ended:
        return tccp_in_process(capfdbinary, "evidence", *arguments)

    return run_evidence


@pytest.fixture
def tools(soft_tpm: SoftTpm, tmp_path: Path) -> Tpm2Tools:
    return Tpm2Tools(soft_tpm, tmp_path)
