"""The media type of a file by its name, and whether gzip helps it.

Pure. Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import mimetypes
import os
import re

__all__ = ["is_compressible", "media_type"]

# What mimetypes lacks or a system may have wrong: browsers refuse modules and wasm of another type.
_WEB_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".svg": "image/svg+xml",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".md": "text/markdown",
    ".webmanifest": "application/manifest+json",
    ".geojson": "application/geo+json",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".feather": "application/vnd.apache.arrow.file",
    ".pmtiles": "application/vnd.pmtiles",
    ".ipynb": "application/x-ipynb+json",
    ".zarray": "application/json",
    ".zattrs": "application/json",
    ".zgroup": "application/json",
    ".zmetadata": "application/json",
}
# A compressed file is sent as the file it is, not as an encoding of what is inside.
_ARCHIVES = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

_COMPRESSIBLE = re.compile(
    rb"\s*(text/(?!event-stream)[^;]+|application/(json|javascript|xml|wasm|x-ndjson|[^;]+\+(json|xml))"
    rb"|image/svg\+xml|font/(ttf|otf))\s*(;|$)",
    re.IGNORECASE,
)


def media_type(name: str) -> str:
    """The media type of a file; application/octet-stream when its name says nothing."""
    base = os.path.basename(name)
    extension = os.path.splitext(base)[1].lower() or base.lower()
    known = _WEB_TYPES.get(extension)
    if known is not None:
        return known
    guessed, encoding = mimetypes.guess_type(base, strict=False)
    if encoding is not None:
        return _ARCHIVES.get(encoding, "application/octet-stream")
    return guessed or "application/octet-stream"


def is_compressible(content_type: bytes) -> bool:
    """Whether gzip makes bodies of this media type smaller. An event stream must not be delayed."""
    return _COMPRESSIBLE.match(content_type) is not None
