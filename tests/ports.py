"""Ports for processes that are about to listen."""

from __future__ import annotations

import contextlib
import secrets
import socket


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive ports that were free on loopback a moment ago.

    They lie below those that the kernel gives to connections (from 32768): one of these could have them by the time that
    somebody listens.
    """
    while True:
        first = 10_000 + secrets.randbelow(22_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
