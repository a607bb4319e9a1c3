"""What several of these tests ask for: `pytestmark = pytest.mark.usefixtures("small_stamps")`."""

import pytest

from backstamp.queue import fold, local, reader, segment, store

SMALL = 2048


@pytest.fixture
def small_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sectors of stamps instead of 128: the same order of writes, and all their subsets."""
    for module in (segment, reader, fold, store, local):
        monkeypatch.setattr(module, "CAPACITY", SMALL - 16)
