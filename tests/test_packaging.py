"""A wheel holds the package and nothing else, and works where it is installed."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def run(*arguments: object, cwd: Path) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools writes beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("httpuv_kernel", "magics", "static_assets", "tests", "notebooks"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    target = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source, cwd=target)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} == {"httpuv_kernel"}
    assert len(tops) == 2  # the package and its .dist-info
    sources = set()
    for folder in ("httpuv_kernel", "magics", "static_assets"):
        inside = "" if folder == "httpuv_kernel" else "httpuv_kernel/"
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                sources.add(inside + path.relative_to(ROOT).as_posix())
    assert {name for name in names if name.startswith("httpuv_kernel/")} == sources
    assert "httpuv_kernel/py.typed" in names
    assert not [name for name in names if "tests" in name or name.endswith(".pyc")]


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert metadata["Name"] == "httpuv-kernel"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert licences
    needed = {text.split(">")[0].split(";")[0] for text in metadata.get_all("Requires-Dist", [])}
    assert needed >= {"tornado", "ipykernel", "traitlets", "httptools", "websockets", "uvloop"}


def test_it_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, wheel, cwd=tmp_path)
    installed = {path.name for path in tmp_path.iterdir()} - {"bin"}
    assert {name.split("-")[0] for name in installed} == {"httpuv_kernel"}
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import httpuv_kernel, httpuv_kernel.magics, httpuv_kernel.static_assets
for module in (httpuv_kernel, httpuv_kernel.magics, httpuv_kernel.static_assets):
    print(module.__file__)
from urllib.request import urlopen
app = {{"static_paths": {{"/": {str(tmp_path)!r}}}}}
with httpuv_kernel.start_server("127.0.0.1", 0, app) as server:
    print(urlopen(server.url + "httpuv_kernel/__init__.py").status)
"""
    printed = run("-c", code, cwd=tmp_path).split()
    assert all(Path(path).is_relative_to(tmp_path) for path in printed[:3])
    assert printed[3] == "200"
