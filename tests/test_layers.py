"""The import directions of DESIGN's layout, and the size of modules and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "httpuv_kernel"

# Modules beside the two sides that only the main side may use: they need traitlets, or show things.
MAIN_GROUND = {"config", "display", "browser_url", "__main__"}
JUPYTER = {"IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core", "traitlets"}
SIDES = {"network", "main", "hosts", "magics"}


def _modules() -> dict[str, Path]:
    """By full name; `magics` and `static_assets` are inside the package once installed."""
    found = {}
    for folder in ("httpuv_kernel", "magics", "static_assets"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == PACKAGE else (PACKAGE, *parts))
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def side_of(module: str) -> str:
    """`network`, `main`, `hosts`, `magics`; beside them the module's name; "" for the package."""
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str) -> Iterator[str]:
    """Full names of the modules and names that a module imports, wherever in it."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) + 1 - node.level] + ([base] if base else []))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(sides: set[str]) -> dict[str, set[str]]:
    """By module of these sides: the sides and other top-level packages that it imports."""
    return {
        module: {
            side_of(name) if name.split(".")[0] == PACKAGE else name.split(".")[0]
            for name in imports_of(module)
        }
        for module in MODULES
        if side_of(module) in sides
    }


def offenders(sides: set[str], forbidden: set[str]) -> dict[str, set[str]]:
    return {m: found & forbidden for m, found in imports(sides).items() if found & forbidden}


SHARED = {side_of(module) for module in MODULES} - SIDES - MAIN_GROUND - {"", "static_assets"}


def test_the_modules_are_found() -> None:
    found = {side_of(module) for module in MODULES}
    assert found >= {*SIDES, *MAIN_GROUND, "bridge", "messages", "errors", "static_assets"}


def test_shared_modules_import_neither_side() -> None:
    assert offenders(SHARED, SIDES | MAIN_GROUND | JUPYTER) == {}


def test_the_network_side_imports_nothing_of_the_main_side() -> None:
    forbidden = {"main", "hosts", "magics", *MAIN_GROUND, *JUPYTER}
    assert offenders({"network"}, forbidden) == {}


def test_the_main_side_meets_the_network_side_in_one_module() -> None:
    assert set(offenders({"main"}, {"network"})) == {"httpuv_kernel.main.networks"}


def test_nothing_else_imports_the_network_side() -> None:
    everything_else = {side_of(module) for module in MODULES} - {"network", "main"}
    assert offenders(everything_else, {"network"}) == {}


def test_hosts_import_neither_side() -> None:
    assert offenders({"hosts"}, {"network", "main", "magics"}) == {}


def test_the_main_side_imports_no_magics_and_no_ipython() -> None:
    assert offenders({"main"}, {"magics", "IPython", "ipykernel"}) == {}


def test_nobody_imports_the_package_itself_inside_it() -> None:
    """`from . import x` of a module is meant; names of the package would be a circle."""
    names = {f"{PACKAGE}.{m.split('.')[1]}" for m in MODULES if "." in m}
    for module in MODULES:
        if side_of(module) not in ("magics", ""):
            top = {
                n for n in imports_of(module) if n.split(".")[0] == PACKAGE and n.count(".") == 1
            }
            assert top <= names, module


# The wall clock may jump. All else is timed by the monotonic one.
WALL_CLOCK = {
    "network.framing": "the Date of a response",
    "network.files": "compared with the times of files",
    "network.journal": "moments for people to read",
    "main.process": "the same moments, of another process",
    "main.events": "ids that grow from one run to the next",
}


def test_who_asks_the_wall_clock() -> None:
    asks = {
        module.removeprefix(f"{PACKAGE}.")
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns"))
        or (
            (isinstance(node, ast.ImportFrom) and node.module == "time")
            and {alias.name for alias in node.names} & {"time", "time_ns"}
        )
    }
    assert asks == set(WALL_CLOCK)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_says_what_it_is(module: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert text, f"{module} has no docstring"
    side = side_of(module)
    if side in ("", "_version", "static_assets"):  # no side: the map, a number, data
        return
    words = {
        "network": ["network side"],
        "main": ["main side"],
        "magics": ["main side"],
        "hosts": ["imports neither side"],
    }.get(side, ["shared ground", "main side"])
    assert any(each in text.lower() for each in words), f"{module} does not name its side"


def test_no_module_is_longer_than_450_lines() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > 450} == {}


def test_no_function_is_longer_than_40_lines() -> None:
    """Its docstring apart."""
    long = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    assert first.end_lineno is not None
                    length -= first.end_lineno - first.lineno + 1
                if length > 40:
                    long[f"{module}.{node.name}"] = length
    assert long == {}
