"""The body of a request as its pieces arrive: joined once, in memory or in a file."""

from __future__ import annotations

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
