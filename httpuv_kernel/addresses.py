"""Hosts and ports: what may be listened at, and what a browser can be sent to.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import errno
import operator
import random
import socket
import sys
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from .errors import InvalidAddressError, PortInUseError

__all__ = [
    "check_port",
    "ip_family",
    "is_loopback",
    "is_wildcard",
    "random_port",
    "resolve",
    "url_host",
]

# Ports to which browsers do not connect (Fetch standard, "bad port").
UNSAFE_PORTS = frozenset(
    [0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95]
    + [101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179]
    + [389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601]
    + [636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566]
    + [6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080]
)


def ip_family(ip: object) -> int:
    """4 or 6 for an address of that family, -1 for anything else (manual: ipFamily).

    An IPv6 address may have a zone id ("fe80::1%eth0", RFC 4007).
    """
    if not isinstance(ip, str):
        return -1
    for number, kind in ((4, IPv4Address), (6, IPv6Address)):
        try:
            kind(ip)
            return number
        except AddressValueError:
            continue
    return -1


def check_port(port: object) -> int:
    """A port as an int from 0 to 65535; 0 lets the system choose.

    Raises:
        InvalidAddressError: it is none.
    """
    if isinstance(port, float) and port.is_integer():  # the manual's "number or integer"
        port = int(port)
    try:
        if isinstance(port, bool):
            raise TypeError
        number = operator.index(port)  # type: ignore[arg-type]  # raises for what is no integer
    except TypeError:
        raise InvalidAddressError(
            f"port is an integer from 0 to 65535, 0 for any free one, not {port!r}"
        ) from None
    if not 0 <= number <= 65535:
        raise InvalidAddressError(f"port {number} is out of range; ports go from 0 to 65535")
    return number


def random_port(min: int = 1024, max: int = 49151, host: str = "127.0.0.1", n: int = 20) -> int:
    """A free TCP port that browsers connect to (manual: randomPort).

    Another program may take it before it is used; port 0 has no such gap.

    Args:
        min: the lowest port.
        max: the highest port.
        host: the address to listen at.
        n: how many ports to try.

    Raises:
        InvalidAddressError: a range or host that cannot be one.
        PortInUseError: none of n ports was free.
    """
    lowest, highest = check_port(min), check_port(max)
    candidates = [port for port in range(lowest, highest + 1) if port not in UNSAFE_PORTS]
    if not candidates or n < 1:
        raise InvalidAddressError(f"there is no port to try from {min} to {max} with n={n}")
    for port in random.sample(candidates, k=n if n < len(candidates) else len(candidates)):
        address = resolve(host, port)[0]
        family = socket.AF_INET6 if ip_family(address[0]) == 6 else socket.AF_INET
        with socket.socket(family) as sock:
            if sys.platform != "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(address)
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
                    raise InvalidAddressError(f"{host} is no address of this machine") from None
                continue
            return port
    raise PortInUseError(errno.EADDRINUSE, f"none of {n} ports from {min} to {max} is free")


def resolve(host: object, port: int) -> list[tuple[str, int]]:
    """The numeric addresses of a host, each with the port. May ask the system's resolver.

    Raises:
        InvalidAddressError: it is no address and no name that the system knows.
    """
    if not isinstance(host, str) or not host:
        raise InvalidAddressError(f"host is an IP address such as '127.0.0.1', not {host!r}")
    if ip_family(host) != -1:
        return [(host, port)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidAddressError(
            f"host {host!r} is no IP address and no name known here ({error}); "
            "use '127.0.0.1' for this machine only, '0.0.0.0' for all of its IPv4 addresses"
        ) from None
    addresses = dict.fromkeys((str(entry[4][0]), port) for entry in found)
    return list(addresses)


def is_loopback(host: str) -> bool:
    """Whether this numeric address can be reached from this machine only."""
    return ip_address(host.partition("%")[0]).is_loopback


def is_wildcard(host: str) -> bool:
    """Whether this numeric address stands for all addresses of the machine."""
    return ip_address(host.partition("%")[0]).is_unspecified


def url_host(host: str) -> str:
    """A host as it stands in a URL that this machine can open; a wildcard has no URL of its own."""
    if ip_family(host) == 6:
        return "[::1]" if is_wildcard(host) else f"[{host.replace('%', '%25')}]"
    return "127.0.0.1" if host == "0.0.0.0" else host
