"""What is fuzzed: by name, the target with its invariant, and what its cases are made of.

A target takes a case and raises when the invariant does not hold. `CORPUS` has what was found, or
is known to be hard; it is tried first, each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuzz.pure import BATCHES, CONDITIONS, RANGES, URIS, link_batches, ranges, uris
from fuzz.wire import (
    FRAMES,
    PATHS,
    REQUESTS,
    SPLITS,
    corpus,
    paths_below_a_root,
    ranges_of_a_file,
    requests_in_any_split,
    requests_nobody_answers,
    socket_frames,
)
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = ["CORPUS", "TARGETS"]

TARGETS: dict[str, tuple[Callable[[Any], None], SearchStrategy[Any]]] = {
    "requests": (requests_in_any_split, st.tuples(REQUESTS, SPLITS, st.booleans())),
    "unanswered": (requests_nobody_answers, st.tuples(REQUESTS, st.booleans())),
    "paths": (
        paths_below_a_root,
        st.tuples(PATHS, st.sampled_from(["GET", "HEAD"]), st.booleans()),
    ),
    "ranges": (ranges, st.tuples(RANGES, st.integers(0, 12), CONDITIONS)),
    "ranges_of_a_file": (ranges_of_a_file, st.tuples(RANGES, CONDITIONS)),
    "uris": (uris, URIS),
    "sockets": (socket_frames, st.tuples(FRAMES, SPLITS, st.booleans())),
    "link": (link_batches, BATCHES),
}

CORPUS: dict[str, list[Any]] = {
    "requests": [
        (data, splits, on_headers)
        for data in corpus("requests")
        for splits in ([], list(range(400)))
        for on_headers in (False, True)
    ],
    "paths": [([path.decode("latin-1")], "GET", False) for path in corpus("paths")],
    "unanswered": [
        (data, on_headers) for data in corpus("requests") for on_headers in (True, False)
    ],
    "ranges": [(value.decode("latin-1"), 10, {}) for value in corpus("ranges")]
    + [("bytes=0-" + "9" * 5000, 10, {})],
    "ranges_of_a_file": [(value.decode("latin-1"), {}) for value in corpus("ranges")],
    "uris": [value.decode("latin-1") for value in corpus("uris")],
    "sockets": [([data], list(range(300)), False) for data in corpus("sockets")],
    "link": [([(0, 1), (98_304, 1), (300_000, 3)], [1, 2])],
}
