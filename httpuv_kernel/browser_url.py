"""The URL at which a browser reaches a server of this process.

Main side's ground.
"""

from __future__ import annotations

import os

__all__ = ["browser_url"]


def browser_url(port: int, path: str = "/", *, host: str = "127.0.0.1") -> str:
    """The URL of a path on a port of this machine.

    `HTTPUV_KERNEL_URL`, when set, is a template for it:
    "https://hub.example/user/me/proxy/{port}/".

    Args:
        port: the port that a server listens at.
        path: a path on it, percent-encoded.
        host: the host as it stands in a URL.
    """
    template = os.environ.get("HTTPUV_KERNEL_URL")
    base = template.replace("{port}", str(port)) if template else f"http://{host}:{port}/"
    return base.rstrip("/") + "/" + path.lstrip("/")
