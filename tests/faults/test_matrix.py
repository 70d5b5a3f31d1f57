"""Every daemon killed, stopped and cut off, and every process of a VM killed and stopped, at every step."""

import pytest

from tests.faults.bench import Bench
from tests.faults.breaking import FAULTS, Fault
from tests.faults.document import unforeseen
from tests.faults.scene import struck


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_at_most_one_runs_none_is_lost_and_all_come_to_rest(bench: Bench, fault: Fault) -> None:
    async with struck(bench, fault) as scene:
        assert not bench.have_two_run()
        assert not (wrong := scene.what_is_wrong()), scene.logged(wrong)
        assert not (lost := scene.what_is_lost()), scene.logged(lost)
        assert not (others := unforeseen(fault, scene.outcomes())), scene.logged(others)
