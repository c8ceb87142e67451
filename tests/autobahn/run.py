"""The Autobahn test suite's fuzzing client against a WebSocket server of ours that echoes.

`run.py WSTEST [REPORTS]` runs the cases and prints a table with the ids of what failed; exit code 1
when something did. The environment variable CASES chooses some: `CASES="7.* 9.1.1"`. REPORTS has a
page for each case, with the bytes that went over the wire.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from httpuv_kernel import HTTPUV, WebSocket, service, start_server

_SECTIONS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing",
    9: "limits and speed",
    10: "auto-fragmentation",
    12: "compression, payloads",
    13: "compression, parameters",
}
_STRICT = {9, 12, 13}  # an informational case of these would be one that did not run
_PASSES = {"OK", "NON-STRICT", "INFORMATIONAL"}
_AGENT = "httpuv_kernel"
_LARGEST = 32 * 1024 * 1024  # section 9 sends messages of 16 MiB


class Outcome(NamedTuple):
    """What became of one case."""

    id: str
    behavior: str
    """OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED, FAILED or WRONG CODE."""
    closing: str
    """The same of the closing handshake."""

    @property
    def section(self) -> int:
        return int(self.id.partition(".")[0])

    @property
    def passes(self) -> bool:
        allowed = {"OK"} if self.section in _STRICT else _PASSES
        return self.behavior in allowed and self.closing in _PASSES


def _echo(ws: WebSocket) -> None:
    ws.on_message(lambda binary, message: ws.send(message))


def run_cases(wstest: str, reports: Path, cases: list[str]) -> list[Outcome]:
    """Run the fuzzing client until it ends, and callbacks meanwhile.

    Raises:
        CalledProcessError: it failed.
    """
    shutil.rmtree(reports, ignore_errors=True)
    HTTPUV.instance().message_bytes = _LARGEST
    with start_server("127.0.0.1", 0, {"on_ws_open": _echo}) as server:
        spec = {
            "outdir": str(reports),
            "servers": [{"agent": _AGENT, "url": f"ws://127.0.0.1:{server.port}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(spec, file)
            file.flush()
            _serve_while([wstest, "--mode", "fuzzingclient", "--spec", file.name])
    found = json.loads((reports / "index.json").read_text())[_AGENT]
    outcomes = [Outcome(i, case["behavior"], case["behaviorClose"]) for i, case in found.items()]
    return sorted(outcomes, key=lambda outcome: [int(part) for part in outcome.id.split(".")])


def _serve_while(command: list[str]) -> None:
    client = subprocess.Popen(command)
    try:
        while client.poll() is None:
            service(100)
    finally:
        if client.poll() is None:
            client.terminate()
        status = client.wait()
    if status:
        raise subprocess.CalledProcessError(status, command)


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each section, and what failed below it."""
    lines = [f"{'section':<28}{'OK':>6}{'NON-STRICT':>12}{'INFORMATIONAL':>15}{'FAILED':>8}"]
    by_section: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        by_section.setdefault(outcome.section, []).append(outcome)
    for section, members in by_section.items():
        counts = Counter(each.behavior if each.passes else "FAILED" for each in members)
        title = f"{section:>2} {_SECTIONS.get(section, '')}"
        lines.append(
            f"{title:<28}{counts['OK']:>6}{counts['NON-STRICT']:>12}"
            f"{counts['INFORMATIONAL']:>15}{counts['FAILED']:>8}"
        )
        lines += [
            f"   {each.id}: {each.behavior}, closing {each.closing}"
            for each in members
            if not each.passes
        ]
    return lines


def main(wstest: str, reports: str = "") -> int:
    """0 when all cases that ran have passed."""
    directory = Path(reports or Path(__file__).with_name("reports")).resolve()
    chosen = os.environ.get("CASES", "").replace(",", " ").split()
    strange = [case for case in chosen if case.partition(".")[0] not in map(str, _SECTIONS)]
    if strange:  # with no case to run, the client waits for ever
        sys.exit(f"no such section: {' '.join(strange)}; there are {[*_SECTIONS]}")
    outcomes = run_cases(wstest, directory, chosen or [f"{section}.*" for section in _SECTIONS])
    print("\n".join(table(outcomes)))
    print(f"{len(outcomes)} cases; {directory / 'index.html'}")
    return 0 if outcomes and all(outcome.passes for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
