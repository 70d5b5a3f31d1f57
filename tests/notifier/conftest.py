"""A running coordinator with a policy, and its TPMs."""

from tests.coordinator.conftest import alpha, coordinator, coordinator_tpm, host, host_tpm

__all__ = ["alpha", "coordinator", "coordinator_tpm", "host", "host_tpm"]
