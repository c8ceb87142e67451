"""The `%httpuv_*` magics: they parse a line, call the public API and display what it returns.

Installed as `httpuv_kernel.magics`. Main side; loaded by `%load_ext httpuv_kernel`.
"""

from __future__ import annotations

from typing import Any

from httpuv_kernel.main.runtime import close_runtime

from .serve import HttpuvMagics

__all__ = ["HttpuvMagics", "load", "unload"]


def load(shell: Any) -> None:
    """Register the magics, and let the shell's configuration set `HTTPUV`."""
    from httpuv_kernel.config import HTTPUV

    HTTPUV.instance().update_config(shell.config)
    shell.register_magics(HttpuvMagics)


def unload(shell: Any) -> None:
    """Stop every server and take the magics away."""
    close_runtime()
    for kind, names in HttpuvMagics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(HttpuvMagics.__name__, None)
