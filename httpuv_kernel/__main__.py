"""The command line: `python -m httpuv_kernel [DIR]`, or `httpuv-kernel [DIR]`.

Exit codes: 0 after Ctrl-C, 1 when the server cannot be started, 2 for wrong arguments.

Main side.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys

from ._version import __version__
from .addresses import is_wildcard, resolve
from .errors import HttpuvError
from .main.run import service
from .main.serving import FILES, OPEN, WHERE, files_app
from .main.static_server import browse_url, start_at_default_port
from .main.web_server import WebServer, start_server

__all__ = ["main"]

_EXAMPLES = """\
examples:
  httpuv-kernel                     this directory, for this machine only
  httpuv-kernel report.html         one file
  httpuv-kernel site --spa          an app that routes in the browser
  httpuv-kernel data --cors         files for a viewer of another origin, ranges included
  httpuv-kernel --host 0.0.0.0 --token
                                    for the whole network, below a link that nobody can guess
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="httpuv-kernel",
        description="Serve a directory or a file to browsers. Files that change are never stale,\n"
        "and ranges let videos and data viewers seek.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dir", nargs="?", default=".", metavar="DIR", help="directory or file (default: here)")
    for each in (*WHERE, *FILES, OPEN):
        add(*each.flags, **each.settings)
    add(
        "--quiet",
        action="store_true",
        help="print nothing but a URL that cannot be known, and no line for each request",
    )
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        server = _start(options)
    except HttpuvError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    try:
        with server:
            if not options.quiet:
                _banner(server, options.dir)
            elif options.token or options.port != server.port:  # else nobody could know it
                print(server.url, flush=True)
            if options.open:
                browse_url(server.url)
            service(0)
    except KeyboardInterrupt:
        if not options.quiet:
            print("\nstopped", file=sys.stderr)
    return 0


def _start(options: argparse.Namespace) -> WebServer:
    app = files_app(options.dir, options)
    more = {
        "quiet": options.quiet,
        "token": options.token,
        "isolation": options.isolation,
        "access_log": not options.quiet,
    }
    if not options.quiet:
        _log_to_terminal()
    if options.port is None:
        return start_at_default_port(options.host, app, **more)
    return start_server(options.host, options.port, app, **more)


def _log_to_terminal() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("httpuv_kernel")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _banner(server: WebServer, directory: str) -> None:
    print(f"Serving {os.path.abspath(directory)}", file=sys.stderr)
    path = server.url.split("/", 3)[3]
    urls = [server.url]
    if any(is_wildcard(address) for address, _ in resolve(server.host, server.port)):
        urls += [f"http://{host}:{server.port}/{path}" for host in _network_addresses()]
    for url in urls:
        print(f"  {url}", file=sys.stderr)
    print("Press Ctrl-C to stop", file=sys.stderr, flush=True)


def _network_addresses() -> list[str]:
    """This machine's IPv4 addresses that others may reach."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        return []
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [address for address in addresses if not address.startswith("127.")]


if __name__ == "__main__":
    sys.exit(main())
