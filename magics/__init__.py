"""The `%httpuv_*` magics: they parse a line, call the public API and display what it returns.

Installed as `httpuv_kernel.magics`. Main side; loaded by `%load_ext httpuv_kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from IPython.core.magic import Magics

from httpuv_kernel.config import HTTPUV
from httpuv_kernel.main.runtime import close_runtime

from .completion import matcher
from .control import ControlMagics
from .records import RecordMagics
from .serve import ServeMagics

__all__ = ["load", "unload"]

_MAGICS = (ServeMagics, ControlMagics, RecordMagics)


def load(shell: Any) -> None:
    """Register the magics and what completes them; the shell's configuration sets `HTTPUV`."""
    config = HTTPUV.instance()
    config.update_config(shell.config)
    shell.configurables.append(config)  # %config HTTPUV
    shell.register_magics(*_MAGICS)
    options = {name: getattr(each, name).options for each, _, name in _names()}
    shell.Completer.custom_matchers.append(matcher(shell, options))


def unload(shell: Any) -> None:
    """Stop every server and take away what `load` registered.

    A reload is an unload and a load, so it stops them too.
    """
    ours = (*_MAGICS, HTTPUV)  # IPython puts instances of Magics there, too
    shell.configurables[:] = [each for each in shell.configurables if not isinstance(each, ours)]
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if each.__module__ != matcher.__module__]
    for each, kind, name in _names():
        shell.magics_manager.magics[kind].pop(name, None)
        shell.magics_manager.registry.pop(each.__name__, None)
    close_runtime()


def _names() -> Iterator[tuple[type[Magics], str, str]]:
    """Class, kind and name of each magic."""
    for each in _MAGICS:
        for kind, names in each.magics.items():
            yield from ((each, kind, name) for name in names)
