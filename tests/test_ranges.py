"""Ranges of files: single, several, and those that cannot be satisfied."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers import Client, Reply, configure
from test_conditional import AFTER, AT, BEFORE, ETAG, NONE, VALIDATORS, ask, fields, make_files

from httpuv_kernel import start_server
from httpuv_kernel.network.conditional import (
    is_not_modified,
    requested_ranges,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("ranges"))


# -- ranges --------------------------------------------------------------------------------------

# Of 1,000 bytes: (first, last) of each part; None: all of it; []: 416.
RANGES: dict[str, list[tuple[int, int]] | None] = {
    "bytes=0-0": [(0, 0)],
    "bytes=0-499": [(0, 499)],
    "bytes=500-999": [(500, 999)],
    "bytes=500-": [(500, 999)],
    "bytes=0-": [(0, 999)],
    "bytes=999-": [(999, 999)],
    "bytes=999-5000": [(999, 999)],
    "bytes=0-99999999999": [(0, 999)],
    "bytes=-1": [(999, 999)],
    "bytes=-500": [(500, 999)],
    "bytes=-1000": [(0, 999)],
    "bytes=-5000": [(0, 999)],
    "bytes=007-009": [(7, 9)],
    "BYTES=0-1": [(0, 1)],
    "bytes= 0-1": [(0, 1)],
    "bytes=0-1,": None,
    "bytes=0-0,-1": [(0, 0), (999, 999)],
    "bytes=0-9, 20-29": [(0, 9), (20, 29)],
    "bytes=20-29,0-9": [(20, 29), (0, 9)],
    "bytes=0-9,5000-6000": [(0, 9)],
    "bytes=0-9 , 20-29\t,40-": [(0, 9), (20, 29), (40, 999)],
    "bytes=0-9,5-14": [(0, 14)],
    "bytes=0-9,10-19": [(0, 19)],
    "bytes=500-,0-": [(0, 999)],
    "bytes=0-9,0-9": [(0, 9)],
    "bytes=30-39,0-9,5-14": [(0, 14), (30, 39)],
    "bytes=" + ",".join(f"{i * 10}-{i * 10}" for i in range(8)): [
        (i * 10, i * 10) for i in range(8)
    ],
    "bytes=" + ",".join(f"{i * 10}-{i * 10}" for i in range(9)): None,
    "bytes=" + ",".join(["0-"] * 1000): None,
    "bytes=1000-": [],
    "bytes=1000-2000": [],
    "bytes=-0": [],
    "bytes=5000-,6000-": [],
    "bytes=123456789012345678-": [],
    "bytes": None,
    "bytes=": None,
    "bytes=-": None,
    "bytes=--1": None,
    "bytes=5-1": None,
    "bytes=0-1,5-1": None,
    "bytes=a-b": None,
    "bytes=0x0-0x9": None,
    "bytes=0-9;20-29": None,
    "bytes 0-9": None,
    "bytes=1.5-2": None,
    "bytes=+1-2": None,
    "bytes=\xb2-\xb3": None,
    "items=0-9": None,
    "seconds=0-9,bytes=0-9": None,
    "bytes=0-" + "9" * 5000: None,
    "": None,
}


@pytest.mark.parametrize("value", RANGES, ids=lambda value: value[:40])
def test_requested_ranges(value: str) -> None:
    wanted = RANGES[value]
    ends = None if wanted is None else [(first, last + 1) for first, last in wanted]
    assert requested_ranges(fields([("Range", value)]), 1000, VALIDATORS) == ends


def test_no_range_is_requested() -> None:
    assert requested_ranges([], 1000, VALIDATORS) is None


def took(begun: float) -> float:
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "value",
    [
        "bytes=" + " " * 60_000 + "x",
        "bytes=0-" + " " * 60_000 + "x",
        "bytes=0" + " " * 60_000 + "x",
        "bytes=" + "\t" * 10_000 + "-" + " " * 10_000 + "x",
        "bytes=0-,-" + "\t" * 60_000 + "1 1",
        "bytes=" + "0" * 60_000 + "-",
    ],
    ids=range(6),
)
def test_a_long_range_takes_no_time(value: str) -> None:
    """Linear in its length; the bound is far from what quadratic takes."""
    begun = time.monotonic()
    assert requested_ranges(fields([("Range", value)]), 1000, VALIDATORS) is None
    assert took(begun) < 1


@pytest.mark.parametrize("value", ["0-," * 33_000 + "0-", "," * 100_000, "-" * 100_000])
def test_a_range_of_100_kB_is_answered(root: Path, value: str) -> None:
    configure(header_bytes=200_000)
    begun = time.monotonic()
    assert ask(root, "/small.txt", [("Range", f"bytes={value}")]).status == 200
    assert took(begun) < 1


def test_tags_of_100_kB_take_no_time() -> None:
    for value in ('"' * 100_000, '"a' * 50_000, 'W/"a",' * 17_000, "W/" * 50_000, " " * 100_000):
        begun = time.monotonic()
        assert not is_not_modified(fields([(NONE, value)]), VALIDATORS)
        assert took(begun) < 1


IF_RANGE = {
    ETAG: True,
    AT: True,
    f"W/{ETAG}": False,
    '"v0"': False,
    f'{ETAG}, "v0"': False,
    "*": False,
    BEFORE: False,
    AFTER: False,  # an exact match is demanded (section 13.1.5)
    "never": False,
    "v1": False,
}


@pytest.mark.parametrize(("value", "holds"), IF_RANGE.items())
def test_if_range(value: str, holds: bool) -> None:
    asked = fields([("Range", "bytes=0-9"), ("If-Range", value)])
    assert requested_ranges(asked, 1000, VALIDATORS) == ([(0, 10)] if holds else None)


@pytest.mark.parametrize("value", [value for value, holds in IF_RANGE.items() if not holds])
def test_a_false_if_range_also_ignores_what_cannot_be_satisfied(value: str) -> None:
    """A file that has become shorter: whoever resumes needs all of the new one (section 13.1.5)."""
    asked = fields([("Range", "bytes=5000-"), ("If-Range", value)])
    assert requested_ranges(asked, 1000, VALIDATORS) is None


@pytest.mark.parametrize("name", ["small", "large"])
def test_ranges(root: Path, name: str) -> None:
    """Every part byte by byte, on one connection."""
    content = (root / f"{name}.txt").read_bytes()
    scale = len(content) // 1000
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        with Client(server.port) as client:
            for value, parts in RANGES.items():
                reply = client.ask(target=f"/{name}.txt", headers=[("Range", value)])
                if scale == 1:
                    verify(reply, content, parts)
                assert reply.status in (200, 206, 416)
            for value, parts in RANGES.items():
                if parts and "-" in value and len(parts) > 1:
                    scaled = [(first * scale, last * scale) for first, last in parts]
                    value = "bytes=" + ",".join(f"{first}-{last}" for first, last in scaled)
                    reply = client.ask(target=f"/{name}.txt", headers=[("Range", value)])
                    verify(reply, content, scaled)


def verify(reply: Reply, content: bytes, parts: list[tuple[int, int]] | None) -> None:
    size = len(content)
    assert reply["accept-ranges"] == "bytes"
    assert not reply.has("transfer-encoding")
    if parts is None:
        assert (reply.status, reply.body) == (200, content)
        assert not reply.has("content-range")
    elif not parts:
        assert (reply.status, reply["content-range"]) == (416, f"bytes */{size}")
    elif len(parts) == 1:
        ((first, last),) = parts
        assert (reply.status, reply.body) == (206, content[first : last + 1])
        assert reply["content-range"] == f"bytes {first}-{last}/{size}"
        assert reply["content-type"] == "text/plain; charset=utf-8"
    else:
        kind, _, boundary = reply["content-type"].partition("; boundary=")
        assert (reply.status, kind) == (206, "multipart/byteranges")
        assert not reply.has("content-range")
        wanted = b""
        for first, last in parts:
            wanted += (
                f"\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Range: bytes {first}-{last}/{size}\r\n\r\n"
            ).encode() + content[first : last + 1]
        assert reply.body == wanted + f"\r\n--{boundary}--\r\n".encode()


def test_the_boundary_is_not_in_the_file(tmp_path: Path) -> None:
    """A file that holds the boundaries seen so far does not end a part early."""
    (tmp_path / "a.txt").write_bytes(b"x" * 100)
    headers = [("Range", "bytes=0-9,20-29")]
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            seen = {client.ask(target="/a.txt", headers=headers)["content-type"] for _ in range(9)}
    assert len(seen) == 9


@pytest.mark.parametrize(("value", "status"), [("0-", 416), ("0-0", 416), ("-5", 200), ("-0", 416)])
def test_a_range_of_an_empty_file(root: Path, value: str, status: int) -> None:
    """A suffix can always be satisfied (section 14.1.2), but no Content-Range can say so."""
    reply = ask(root, "/empty.txt", [("Range", f"bytes={value}")])
    assert (reply.status, reply.body) == (status, b"")
    assert reply.all("content-range") == (["bytes */0"] if status == 416 else [])


def test_head_and_errors_know_no_ranges(root: Path) -> None:
    headers = [("Range", "bytes=0-9")]
    reply = ask(root, "/small.txt", headers, method="HEAD")
    assert (reply.status, reply["content-length"]) == (200, "1000")
    assert ask(root, "/missing", headers).status == 404
    assert ask(root, "/", headers, listing=True).status == 200


def test_a_416_describes_no_part(root: Path) -> None:
    reply = ask(root, "/small.txt", [("Range", "bytes=1000-")], headers={"X-Own": "y"})
    assert (reply.status, reply.body, reply["content-length"]) == (416, b"", "0")
    assert not reply.has("content-encoding")
    assert reply["etag"]


def test_a_client_reads_a_large_file_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "a.bin").write_bytes(content)
    got = b""
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for first in range(0, len(content), 700_000):
                value = f"bytes={first}-{first + 699_999}"
                got += client.ask(target="/a.bin", headers=[("Range", value)]).body
    assert got == content
