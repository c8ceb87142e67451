"""Paths that change between the look at them and the opening: what was opened counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from httpuv_kernel.network import files
from httpuv_kernel.network.files import FileCache

real_path_allowed = files.real_path_allowed


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path.resolve()
    for name in ("pub/sub", "secret/sub"):
        (top / name).mkdir(parents=True)
        (top / name / "a.txt").write_text(name)
    return top


def bend_file(top: Path) -> None:
    (top / "pub/sub/a.txt").unlink()
    (top / "pub/sub/a.txt").symlink_to(top / "secret/sub/a.txt")


def bend_folder(top: Path) -> None:
    (top / "pub/sub").rename(top / "pub/old")
    (top / "pub/sub").symlink_to(top / "secret/sub")


def bend_root(top: Path) -> None:
    (top / "pub").rename(top / "old")
    (top / "pub").symlink_to(top / "secret")


def make_fifo(top: Path) -> None:
    (top / "pub/sub/a.txt").unlink()
    os.mkfifo(top / "pub/sub/a.txt")


def rename(top: Path) -> None:
    os.replace(top / "pub/sub/a.txt", top / "pub/sub/b.txt")
    (top / "pub/sub/a.txt").symlink_to("b.txt")


@pytest.mark.parametrize("follow", ["inside", False])
@pytest.mark.parametrize("change", [bend_file, bend_folder, bend_root, make_fifo, rename])
def test_what_is_exchanged_after_the_look_is_not_served(
    top: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], follow: object
) -> None:
    def allowed(root: str, segments: list[str], follow_symlinks: object) -> str | None:
        found = real_path_allowed(root, segments, follow_symlinks)
        change(top)
        return found

    monkeypatch.setattr(files, "real_path_allowed", allowed)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert FileCache().open(str(top / "pub"), ["sub", "a.txt"], follow) is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("change", [bend_file, bend_folder, make_fifo])
def test_what_is_exchanged_after_an_answer_is_not_served(
    top: Path, change: Callable[[Path], None]
) -> None:
    cache = FileCache()
    first = cache.open(str(top / "pub"), ["sub", "a.txt"], "inside")
    assert first is not None
    assert first.file.body == b"pub/sub"
    change(top)
    assert cache.reopen(str(top / "pub/sub/a.txt"), "inside") is None
    assert cache.open(str(top / "pub"), ["sub", "a.txt"], "inside") is None


def test_a_fifo_is_not_even_opened(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a device may act on it."""
    make_fifo(top)
    opened: list[object] = []
    monkeypatch.setattr(files, "_open_regular", opened.append)
    assert FileCache().open(str(top / "pub"), ["sub", "a.txt"], True) is None
    assert opened == []


def test_a_fifo_that_was_opened_is_closed(top: Path) -> None:
    """It took the place of a file between the look and the opening."""
    make_fifo(top)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        files._open_regular(str(top / "pub/sub/a.txt"))
    assert len(os.listdir("/proc/self/fd")) == descriptors
