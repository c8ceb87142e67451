"""encode_uri, decode_uri and their component forms, held against a browser's; raw_to_base64."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

import pytest
from browser import chromium

from httpuv_kernel.uri import (
    decode_uri,
    decode_uri_component,
    encode_uri,
    encode_uri_component,
    raw_to_base64,
)

Function = Callable[[Any], Any]

# ECMA-262, "URI Handling Functions".
UNRESERVED = string.ascii_letters + string.digits + "-_.!~*'()"
RESERVED = ";/?:@&=+$,#"
ASCII = "".join(map(chr, range(128)))

ENCODE: list[Function] = [encode_uri, encode_uri_component]
DECODE: list[Function] = [decode_uri, decode_uri_component]
ALL = ENCODE + DECODE


def name(function: Function) -> str:
    return str(function.__name__)


# -- encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "kept"),
    [(encode_uri, UNRESERVED + RESERVED), (encode_uri_component, UNRESERVED)],
    ids=["encode_uri", "encode_uri_component"],
)
def test_what_is_kept_of_ascii(function: Function, kept: str) -> None:
    assert {character for character in ASCII if function(character) == character} == set(kept)
    for character in set(ASCII) - set(kept):
        assert function(character) == f"%{ord(character):02X}"


TEXTS = [
    ("", ""),
    ("plain", "plain"),
    ("a b%c\0", "a%20b%25c%00"),
    ("größe", "gr%C3%B6%C3%9Fe"),
    ("€", "%E2%82%AC"),
    ("😀\U0010ffff", "%F0%9F%98%80%F4%8F%BF%BF"),
    ("\ufeff\ufffe", "%EF%BB%BF%EF%BF%BE"),
]


@pytest.mark.parametrize(("text", "encoded"), TEXTS, ids=[ascii(text) for text, _ in TEXTS])
def test_utf8(text: str, encoded: str) -> None:
    assert [function(text) for function in ENCODE] == [encoded] * 2
    assert [function(encoded) for function in DECODE] == [text] * 2


@pytest.mark.parametrize("function", ENCODE, ids=name)
@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDFFF], ids=hex)
def test_a_lone_surrogate_has_no_utf8(function: Function, code: int) -> None:
    with pytest.raises(ValueError, match=rf"lone surrogate.*'\\u{code:x}x' at position 3"):
        function(f"a/b{chr(code)}x")


# -- decoding ------------------------------------------------------------------------------------


def test_what_stays_encoded_in_a_whole_uri() -> None:
    encoded = "".join(f"%{ord(character):02X}" for character in ASCII)
    assert decode_uri_component(encoded) == ASCII
    kept = {character: f"%{ord(character):02X}" for character in RESERVED}
    assert decode_uri(encoded) == "".join(kept.get(character, character) for character in ASCII)


@pytest.mark.parametrize(
    ("encoded", "whole", "component"),
    [
        ("%2f%3F%41", "%2f%3FA", "/?A"),
        ("%252F", "%2F", "%2F"),
        ("a+b", "a+b", "a+b"),
        ("%c3%B6%2C%c3%b6", "ö%2Cö", "ö,ö"),
        ("ä%20ö", "ä ö", "ä ö"),
        ("\ud800%20", "\ud800 ", "\ud800 "),
        ("%24%25", "%24%", "$%"),
    ],
    ids=ascii,
)
def test_decoding(encoded: str, whole: str, component: str) -> None:
    assert (decode_uri(encoded), decode_uri_component(encoded)) == (whole, component)


# What is wrong, and where.
MALFORMED = [
    ("%", 0),
    ("ab%", 2),
    ("ab%4", 2),
    ("%zz", 0),
    ("%4g", 0),
    ("%41%", 3),
    ("%%41", 0),
    ("%2F%2", 3),
    ("%+1", 0),
    ("% 1", 0),
    ("%\uff11\uff11", 0),
    ("%\u0661\u0661", 0),
    ("%80", 0),
    ("%41%ff", 3),
    ("%C3", 0),
    ("%C3x", 0),
    ("%C3ö", 0),
    ("%C3%2F", 0),
    ("%2F%C3", 3),
    ("%E2%82", 0),
    ("%C0%AF", 0),
    ("%E0%80%AF", 0),
    ("%ED%A0%80", 0),
    ("%ED%A0%BD%ED%B8%80", 0),
    ("%F4%90%80%80", 0),
    ("%F8%88%80%80%80", 0),
]


@pytest.mark.parametrize("function", DECODE, ids=name)
@pytest.mark.parametrize(("encoded", "at"), MALFORMED, ids=[ascii(text) for text, _ in MALFORMED])
def test_what_is_malformed_is_named(function: Function, encoded: str, at: int) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal digits|not UTF-8") as raised:
        function(encoded)
    assert type(raised.value) is ValueError
    assert str(raised.value).endswith(f"{encoded[at : at + 12]!a} at position {at}")


def test_a_long_text_is_not_shown_whole() -> None:
    with pytest.raises(ValueError, match="position 100000") as raised:
        decode_uri("a" * 100_000 + "%" + "b" * 100_000)
    assert len(str(raised.value)) < 200


# -- several at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ALL, ids=name)
def test_a_sequence_gives_a_list(function: Function) -> None:
    assert function(["a", None, "b"]) == ["a", None, "b"]
    assert function(("a", "b")) == ["a", "b"]
    assert function([]) == []
    assert function(None) is None


@pytest.mark.parametrize("function", ALL, ids=name)
@pytest.mark.parametrize("value", [1, b"a", [1], [["a"]], {"a"}, {}], ids=repr)
def test_anything_else_is_a_type_error(function: Function, value: object) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__} takes str, not "):
        function(value)


# -- a browser -------------------------------------------------------------------------------------

IN_A_BROWSER = """
const [calls, texts] = arguments;
const attempt = (call, text) => { try { return call(text) } catch (e) { return [e.name] } };
return calls.map((name) => texts.map((text) => attempt(window[name], text)));
"""

BLOCKS_IN_A_BROWSER = """
const blocks = [];
for (let first = 0; first < 0x10000; first += 0x100) {
  const codes = Array.from({ length: 0x100 }, (_, i) => first + i);
  const encode = (call) => codes.map((code) => {
    try { return call(String.fromCharCode(code)) } catch (e) { return e.name }
  }).join(" ");
  blocks.push([encode(encodeURI), encode(encodeURIComponent)]);
}
return blocks;
"""


def outcome(function: Function, text: str) -> object:
    try:
        return function(text)
    except ValueError:
        return ["URIError"]


def encoded_block(function: Function, first: int) -> str:
    found = [outcome(function, chr(code)) for code in range(first, first + 256)]
    return " ".join(each if isinstance(each, str) else each[0] for each in found)  # type: ignore[index]


def pieced(count: int) -> list[str]:
    """Texts put together at random of what is right and what is wrong."""
    pieces = ["%41", "%2F", "%23", "%C3%B6", "%E2%82%AC", "%F0%9F%98%80", "%", "%4", "%C3", "%zz"]
    pieces += ["%A0", "%25", "a", "ö", "😀", " ", "#", "%ed", "%a0", "%80"]
    choose = random.Random(1)
    return ["".join(choose.choices(pieces, k=choose.randint(1, 5))) for _ in range(count)]


@pytest.mark.browser
@pytest.mark.slow
def test_as_in_a_browser() -> None:
    encoded = [f"%{byte:02x}" for byte in range(256)] + [text for text, _ in MALFORMED]
    encoded += [
        f"%{byte:02X}%{second:02X}%80" for byte in range(0xC0, 256) for second in (0x80, 0xBF)
    ]
    texts = ["😀", "\U00010000", "\U0010ffff", "é\U0001f600 /", *encoded, *pieced(2000)]
    calls = {
        "encodeURI": encode_uri,
        "encodeURIComponent": encode_uri_component,
        "decodeURI": decode_uri,
        "decodeURIComponent": decode_uri_component,
    }
    with chromium() as browser:
        blocks = browser.run(BLOCKS_IN_A_BROWSER)
        found = browser.run(IN_A_BROWSER, list(calls), texts)
    for first, block in zip(range(0, 0x10000, 0x100), blocks, strict=True):
        assert block == [encoded_block(function, first) for function in ENCODE], hex(first)
    for function, outcomes in zip(calls.values(), found, strict=True):
        mine = {text: outcome(function, text) for text in texts}
        assert mine == dict(zip(texts, outcomes, strict=True)), name(function)


# -- Base64 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (b"", ""),
        (b"f", "Zg=="),
        (b"fo", "Zm8="),
        (b"foobar", "Zm9vYmFy"),
        (b"\xfb\xff", "+/8="),
        (bytes.fromhex("4e418d0e777bcf5e8b2b9fe14766c3ab345b5c"), "TkGNDnd7z16LK5/hR2bDqzRbXA=="),
        (bytes(100), "A" * 134 + "=="),
    ],
    ids=["empty", "one", "two", "six", "marks", "the manual's", "no line breaks"],
)
def test_base64(data: bytes, encoded: str) -> None:
    assert raw_to_base64(data) == encoded
    assert raw_to_base64(bytearray(data)) == raw_to_base64(memoryview(data)) == encoded


@pytest.mark.parametrize("value", ["text", None, 1, [1, 2]], ids=repr)
def test_base64_of_what_is_no_bytes(value: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        raw_to_base64(value)
