"""A few seconds of `make fuzz`, the same each time: its corpus, and some hundred cases more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.run import fuzz
from fuzz.targets import TARGETS

EXAMPLES = {"link": 30}


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_hold_holds(name: str) -> None:
    assert fuzz(name, examples=EXAMPLES.get(name, 200)) > 0


def test_every_difference_to_other_servers_is_known() -> None:
    """In a process of its own: the other servers leave sockets open when they end."""
    pytest.importorskip("uvicorn")
    program = Path(__file__).parent / "fuzz" / "differential.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
