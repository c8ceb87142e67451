"""The form that suits a client best, by its Accept."""

from __future__ import annotations

import pytest

from httpuv_kernel.main.negotiation import negotiate

BROWSER = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,"
    "image/avif,image/webp,image/apng,*/*;q=0.8"
)
IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FORMS = ["image/png", "application/json", "text/html", "text/plain"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("*", "image/png"),
        ("nonsense", "image/png"),
        (BROWSER, "text/html"),
        (IMG, "image/png"),
        ("application/json", "application/json"),
        ("Application/JSON", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/*", "text/html"),
        ("text/*, text/html;q=0.5", "text/plain"),
        ("text/html;q=0.5, application/json;q=0.9", "application/json"),
        (" text/html ; q=0.5 , application/json ; Q=0.4 ", "text/html"),
        ("*/*, image/png;q=0", "application/json"),
        ("image/*;q=0, */*;q=0.1", "application/json"),
        ("text/html;charset=utf-8", "text/html"),
        ("text/html;level=1, text/html;q=0.1, text/plain;q=0.2", "text/plain"),
        ("text/plain;q=.5, text/html;q=0.500", "text/html"),
        ("text/html;q=nan, text/plain;q=0.1", "text/plain"),
        ("text/html;q=2, text/plain;q=0.1", "text/plain"),
        ("text/html;q=0.2, text/html;q=0.9, text/plain;q=0.5", "text/html"),
        ("image/webp", None),
        ("text/csv, image/webp;q=0.5", None),
        ("*/*;q=0", None),
        ("text/html;q=0", None),
    ],
)
def test_the_form_for_an_accept(accept: str | None, chosen: str | None) -> None:
    assert negotiate(accept, FORMS) == chosen


@pytest.mark.parametrize(
    ("kind", "weight"),
    [("text/plain", 0.7), ("text/html", 0.3), ("image/jpeg", 0.5)],
)
def test_the_weights_of_the_standards_example(kind: str, weight: float) -> None:
    """RFC 9110, section 12.5.1: a rival of nearly the same weight wins on one side only."""
    example = (
        "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, "
        "text/plain;format=fixed;q=0.4, */*;q=0.5"
    )
    for difference, winner in ((-0.05, kind), (0.05, "a/b")):
        accept = f"{example}, a/b;q={weight + difference:.2f}"
        assert negotiate(accept, [kind, "a/b"]) == winner


def test_there_is_no_form() -> None:
    assert negotiate("*/*", []) is None
    assert negotiate(None, []) is None


def test_a_long_accept_is_read_once() -> None:
    assert negotiate(",".join(["a/b;q=0.1"] * 5000), FORMS) is None
