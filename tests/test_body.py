"""The body of a request as its pieces arrive: joined once, in memory or in a file."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from httpuv_kernel.network.body import BodyBuffer

KIB = 1024


@pytest.mark.parametrize(
    "spool_bytes", [KIB, 100 * KIB, 1000 * KIB], ids=["file", "both", "memory"]
)
@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [1],
        [1] * 1000,
        [4095, 4096, 4097],
        [5 * KIB, 1, 1, 5 * KIB, 1, 5 * KIB],
        [200 * KIB],
        [1, 200 * KIB, 1],
        [60 * KIB] * 5,
    ],
    ids=["none", "a byte", "bytes", "edge", "mixed", "large", "between small", "large ones"],
)
def test_the_pieces_become_the_body(
    sizes: list[int], spool_bytes: int, body_directory: Path
) -> None:
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    buffer = BodyBuffer(spool_bytes)
    for piece in pieces:
        buffer.append(piece)
    buffer.end()
    whole, body = b"".join(pieces), buffer.finish()
    assert buffer.size == len(whole)
    assert isinstance(body, tuple) is (len(whole) > spool_bytes)
    assert whole == (Path(body[0]).read_bytes() if isinstance(body, tuple) else body)
    buffer.discard()
    assert list(body_directory.iterdir()) == []


# What a program of its own faults for, which goes on with bodies after some have been freed.
FAULTS = """
import resource, sys
from httpuv_kernel.memory import reuse_freed_blocks

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        [b"x" * size for size in [1_000_000] * 8]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "reuse" in sys.argv:
    reuse_freed_blocks()
faults(3)
print(faults(20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have other ways")
def test_memory_of_bodies_is_used_again() -> None:
    """Of the 40,000 pages that twenty times eight bodies have."""

    def count(*arguments: str) -> int:
        program = [sys.executable, "-c", FAULTS, *arguments]
        return int(subprocess.run(program, capture_output=True, check=True).stdout)

    assert count("reuse") < 1000 < count()
