from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tccp.store import Store, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    async with open_store(database) as store:
        yield store
