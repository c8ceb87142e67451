"""An app from the code of a cell.

Main side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, MutableMapping
from typing import Any

from IPython.core.error import UsageError

from httpuv_kernel.main.app import App

__all__ = ["run_app_cell"]

_PARTS = [field.name for field in dataclasses.fields(App)]
# onHeaders and the like, for which as_app has a hint.
_MANUAL = {name.replace("_", "") for name in _PARTS if "_" in name}


class _Bindings(MutableMapping[str, Any]):
    """The notebook's variables, and which of them the cell has bound."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self._variables = variables
        self.bound: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self._variables[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._variables[name] = value
        self.bound.add(name)

    def __delitem__(self, name: str) -> None:
        del self._variables[name]
        self.bound.discard(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def run_app_cell(shell: Any, source: str) -> dict[str, Any]:
    """Run a cell's code among the notebook's variables; the parts of an app that it has bound.

    As after any cell its names stay in the notebook, so that handlers may call each other and can
    be tried by hand. What an earlier cell has left under such a name is no part of this app.

    Raises:
        UsageError: it defines no part of an app.
        Exception: what the code raises.
    """
    __tracebackhide__ = True
    # The blank line stands for that of the magic, so that the lines of tracebacks are the cell's.
    text = "\n" + shell.transform_cell(source)
    name = shell.compile.cache(text, shell.execution_count, raw_code=source)
    tree = shell.transform_ast(shell.compile.ast_parse(text, filename=name))
    variables = shell.user_ns
    bindings = _Bindings(variables)
    exec(shell.compile(tree, name, "exec"), variables, bindings)
    parts = {
        name: variables[name]
        for name in sorted(bindings.bound)
        if name in _PARTS or name.lower() in _MANUAL
    }
    if not parts:
        raise UsageError(f"the cell defines none of {', '.join(_PARTS)}")
    return parts
