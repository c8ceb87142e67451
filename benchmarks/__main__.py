"""`python -m benchmarks`, from the repository's root; `make bench` installs what it needs first."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import traceback
from datetime import date
from pathlib import Path
from time import monotonic

from .chart import draw
from .machine import describe, raise_open_files, take_load_core
from .report import Row, Verdict, bars_table, figures_table, table, verdicts
from .scenarios import SCENARIOS, Bench
from .scenarios.base import SIZES
from .servers import IN_PROCESS, make_site

_RESULTS = Path(__file__).with_name("RESULTS.md")
_CHART = Path(__file__).with_name("results.svg")


# What the figures do not say by themselves.
_NOTES = (
    "wrk sends the same request again and again. A server of ours parses equal small requests, and "
    "equal fields of others, once; the row with another URL and field in each is without that.",
    "A server in a process has two processes on the one core: what it costs to go from one to the "
    "other, a kernel with two cores to itself does not pay.",
)


def main() -> int:
    """Measure and print; 1 when a bar is missed or a scenario failed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the children are ended too
    raise_open_files()
    take_load_core()
    begin = monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        site = make_site(Path(work) / "site", SIZES)
        bench = Bench(site, options.seconds, options.rounds, options.large << 20)
        rows = _measure(bench, options.only or list(SCENARIOS))
    found = verdicts(rows)
    text = _text(rows, found, [*_NOTES, *bench.notes], monotonic() - begin)
    print(text)
    if options.save:
        _RESULTS.write_text(text + "\n")
        draw(rows, _CHART)
    return int(bool(bench.problems) or any(v.passed is False for v in found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=SCENARIOS, help="this scenario; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second, 128 MiB")
    parser.add_argument("--seconds", type=int, help="of each measurement (1)")
    parser.add_argument("--rounds", type=int, help="of which the median is taken (3)")
    parser.add_argument("--large", type=int, help="MiB of the upload and the response (256)")
    parser.add_argument(
        "--save", action="store_true", help=f"write benchmarks/{_RESULTS.name} and {_CHART.name}"
    )
    options = parser.parse_args()
    defaults = (1, 1, 128) if options.quick else (1, 3, 256)
    for name, value in zip(("seconds", "rounds", "large"), defaults, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
        if getattr(options, name) < 1:
            parser.error(f"--{name} is at least 1")
    return options


def _measure(bench: Bench, names: list[str]) -> list[Row]:
    """The rows of all scenarios; one that fails costs only its own remaining rows."""
    rows: list[Row] = []
    for name in names:
        bench.say(f"{name}:")
        try:
            for row in SCENARIOS[name](bench):
                rows.append(row)
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            bench.note(f"{name} failed: {reason}", ours=True)
    return rows


def _text(rows: list[Row], found: list[Verdict], notes: list[str], seconds: float) -> str:
    """Everything, as Markdown that reads well in a terminal."""
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    facts = [*describe(), ("command", f"`{command}`"), ("date", date.today().isoformat())]
    facts.append(("took", f"{seconds:.0f} s"))
    parts = [
        "# Benchmarks",
        table(["", ""], [list(fact) for fact in facts]),
        "Figures are medians of the rounds; a ratio is the median of the rounds' ratios. "
        f"`{IN_PROCESS}` is httpuv_kernel with its network side in a process of its own.",
        *([f"![The main figures as bars]({_CHART.name})"] if "--save" in sys.argv else []),
        figures_table(rows) if rows else "Nothing was measured.",
    ]
    if found:
        parts += ["## Bars", bars_table(found)]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
