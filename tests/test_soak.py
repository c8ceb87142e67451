"""A short `make soak`: all kinds of clients, a kernel that runs cells, and nothing lost or left."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak.run import soak


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_nothing_is_lost_and_nothing_grows(isolation: str, tmp_path: Path) -> None:
    result = soak(6.0, isolation, tmp_path)
    assert result.errors == [], result.report()
    assert min(result.figures[name] for name in ("requests", "messages", "uploads", "left")) > 0
