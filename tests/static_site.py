"""Directories for the tests of static paths, and a server of them with an app behind it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers import Reply, Serving

HTML = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]


def site_fixtures() -> tuple[Any, Any]:
    """The fixtures `root` and `other`, two directories."""

    @pytest.fixture
    def root(tmp_path: Path) -> Path:
        root = tmp_path.resolve() / "pub"
        for name in ("index.html", "a.txt", "a.css", "sub/index.html", "sub/b.txt", "no/c.txt"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"this is {name}")
        return root

    @pytest.fixture
    def other(tmp_path: Path) -> Path:
        other = tmp_path.resolve() / "other"
        other.mkdir()
        (other / "a.txt").write_text("the other a")
        return other

    return root, other


def ask(
    paths: object,
    target: str,
    sent: Iterable[tuple[str, object]] = (),
    *,
    method: str = "GET",
    options: object = None,
) -> Reply:
    """One request to a server of static paths, with an app behind them."""
    app = {
        "static_paths": paths if isinstance(paths, dict) else {"/": paths},
        "static_path_options": options,
        "call": lambda req: {"status": 203, "body": f"app: {req['PATH_INFO']}"},
    }
    return Serving(app).ask(method, target, sent)
