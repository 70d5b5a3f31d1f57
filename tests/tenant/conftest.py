"""The fixtures of the coordinator's tests: a running coordinator and the TPMs."""

from tests.coordinator.conftest import coordinator_tpm, host_tpm, other_coordinator_tpm, other_tpm

__all__ = ["coordinator_tpm", "host_tpm", "other_coordinator_tpm", "other_tpm"]
