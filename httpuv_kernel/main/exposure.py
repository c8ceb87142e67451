"""Warnings of static paths that publish more than was meant.

Main side; any thread.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from importlib import import_module

from ..static_paths import StaticPath

__all__ = ["warn_of_roots"]


def warn_of_roots(paths: Iterable[StaticPath], *, stacklevel: int) -> None:
    """Warn of each path by which a stranger could take over the user's account.

    Args:
        paths: what is to be served.
        stacklevel: as for `warnings.warn`, counted from the caller.
    """
    for path in paths:
        danger = "" if path.exclude else _danger(os.path.realpath(path.path))
        if danger:
            warnings.warn(
                f"serving {path.path!r} publishes {danger}, to everyone who reaches this server; "
                "serve a directory of its own, or use quiet=True if that is meant",
                stacklevel=stacklevel + 1,
            )


def _danger(root: str) -> str:
    if os.path.dirname(root) == root:
        return "every file of this machine that you may read"
    if _holds(root, os.path.realpath(os.path.expanduser("~"))):
        return "your home directory"
    runtime = _runtime_directory()
    if runtime and (_holds(root, runtime) or _holds(runtime, root)):
        return "Jupyter's connection files, with which anyone can run code in your kernels"
    return ""


def _holds(root: str, path: str) -> bool:
    return path == root or path.startswith(root + os.sep)


def _runtime_directory() -> str:
    """Where kernels and Jupyter servers keep their keys; "" without Jupyter."""
    try:
        folder: str = import_module("jupyter_core.paths").jupyter_runtime_dir()
    except ImportError:
        return ""
    return os.path.realpath(folder)
