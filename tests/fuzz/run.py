"""Fuzzes every target for its share of the time: `run.py [SECONDS] [TARGET ...]`.

Prints the executions of each. A failure is printed as its smallest case, which belongs into the
corpus when it is mended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.targets import CORPUS, TARGETS
from hypothesis import HealthCheck, Phase, given, seed, settings

__all__ = ["fuzz"]

_BATCH = 200
_PHASES = (Phase.generate, Phase.shrink)


class _TimeIsUp(BaseException):
    """Ends a batch."""


def fuzz(name: str, seconds: float = 0.0, examples: int = 0) -> int:
    """Try the corpus, then cases for so long, or so many and always the same; how many there were.

    Raises:
        Exception: what the target raised, with the smallest case as a note.
    """
    target, strategy = TARGETS[name]
    for case in CORPUS[name]:
        target(case)
    count = len(CORPUS[name])
    until = time.monotonic() + seconds

    def execute(case: object) -> None:
        nonlocal count
        if seconds and time.monotonic() > until:
            raise _TimeIsUp
        count += 1
        target(case)

    number = 0 if examples else time.time_ns()
    while True:
        number += 1
        how = settings(
            max_examples=examples or _BATCH,
            deadline=None,
            database=None,
            phases=_PHASES,
            suppress_health_check=list(HealthCheck),
        )
        try:
            seed(number)(how(given(strategy)(execute)))()
        except _TimeIsUp:
            return count
        if examples or time.monotonic() > until:
            return count


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 60.0
    names = arguments[1:] or list(TARGETS)
    failed = False
    for name in names:
        begun = time.monotonic()
        try:
            count = fuzz(name, seconds / len(names))
        except Exception:
            import traceback

            traceback.print_exc()
            failed = True
            continue
        took = time.monotonic() - begun
        print(f"{name:18} {count:8} executions  {took:6.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
