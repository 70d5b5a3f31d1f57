"""The same TPMs and hosts as the coordinator's tests have."""

from tests.coordinator.conftest import coordinator_tpm, host, host_tpm, other_host, other_tpm

__all__ = ["coordinator_tpm", "host", "host_tpm", "other_host", "other_tpm"]
