"""What the C library does with memory that was freed.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

__all__ = ["reuse_freed_blocks"]

_BLOCK = 16 * 1024 * 1024


def reuse_freed_blocks() -> None:
    """Have this process use the memory of one body for the next.

    glibc gives large blocks back to the system as they are freed, and for a body of a megabyte the
    page faults then cost three times what copying does. It stops for blocks that are no larger than
    the largest it has seen freed, as it does in any program that has let go of a large array; after
    this the process keeps up to twice as much. Elsewhere this does nothing. Any thread.
    """
    bytes(_BLOCK)  # no page of it is touched
