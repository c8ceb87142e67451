"""The suite on other versions: each Python with each line of ipykernel, Tornado, and event loop.

`matrix.py [NAME ...]` makes an environment per row in .venv-matrix/, runs the suite there without
the browser, and prints a table; exit code 1 when a row failed. Every pair of two versions is in
some row. Rows whose Python is not installed are named as such.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".venv-matrix"
TORNADO = {"oldest": "tornado==6.5.*", "newest": "tornado"}
IPYKERNEL = {"oldest": "ipykernel==6.29.*", "newest": "ipykernel"}


class Row(NamedTuple):
    """One environment."""

    python: str
    ipykernel: str
    tornado: str
    uvloop: bool

    @property
    def name(self) -> str:
        loop = "uvloop" if self.uvloop else "asyncio"
        return f"{self.python}-ipykernel-{self.ipykernel}-tornado-{self.tornado}-{loop}"


ROWS = [
    Row("3.10", "oldest", "oldest", False),
    Row("3.10", "newest", "newest", True),
    Row("3.11", "oldest", "newest", True),
    Row("3.11", "newest", "oldest", False),
    Row("3.12", "oldest", "oldest", True),
    Row("3.12", "newest", "newest", False),
    Row("3.13", "oldest", "newest", False),
    Row("3.13", "newest", "oldest", True),
]


def find_python(version: str) -> str:
    command = [str(ROOT / "tests" / "find_python.sh"), version]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment(row: Row) -> Path | None:
    """Make it if need be; None without its Python."""
    folder = FOLDER / row.name
    python = folder / "bin" / "python"
    if (folder / ".installed").exists():
        return python
    found = find_python(row.python)
    if not found:
        return None
    subprocess.run([found, "-m", "venv", str(folder)], check=True)
    packages = [IPYKERNEL[row.ipykernel], TORNADO[row.tornado]]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]"]
    subprocess.run([*pip, *packages], check=True)
    if not row.uvloop:
        subprocess.run([str(python), "-m", "pip", "uninstall", "-qy", "uvloop"], check=True)
    (folder / ".installed").touch()
    return python


def run(row: Row) -> tuple[str, str]:
    """`(verdict, last line)` of the suite there."""
    python = environment(row)
    if python is None:
        return "absent", f"python{row.python} is not installed"
    variables = {name: v for name, v in os.environ.items() if name not in ("CI", "PYTHONPATH")}
    command = [str(python), "-m", "pytest", "-q", "-m", "not browser", "-p", "no:cacheprovider"]
    arguments = os.environ.get("MATRIX_ARGS", "").split()
    with (FOLDER / f"{row.name}.log").open("w") as log:
        code = subprocess.run(
            [*command, *arguments], cwd=ROOT, env=variables, stdout=log, stderr=log, check=False
        ).returncode
    lines = (FOLDER / f"{row.name}.log").read_text().splitlines()
    return "ok" if code == 0 else "FAILED", lines[-1] if lines else ""


def main(names: list[str]) -> int:
    FOLDER.mkdir(exist_ok=True)
    failed = False
    for row in ROWS:
        if names and not any(name in row.name for name in names):
            continue
        begun = time.monotonic()
        verdict, line = run(row)
        failed |= verdict == "FAILED"
        print(f"{verdict:7} {row.name:48} {time.monotonic() - begun:4.0f} s  {line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
