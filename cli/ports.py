"""Whether TCP ports are free, asked before anything is started."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from store.errors import StartRefused


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port that a child will listen on; `setting` is what an operator changes to choose another."""

    what: str
    host: str
    number: int
    setting: str


def taken(ports: list[Port]) -> list[Port]:
    """Those on which something listens. Raises StartRefused for one that can never be had."""
    return [port for port in ports if _is_taken(port)]


def refuse_overlap(ports: list[Port]) -> None:
    """Raises StartRefused when two of our own would collide, or one lies past the last port."""
    seen: dict[int, Port] = {}
    for port in ports:
        if port.number > 65535:
            raise StartRefused(f"port {port.number} for {port.what} does not exist: choose a lower {port.setting}")
        if (other := seen.setdefault(port.number, port)) is not port:
            raise StartRefused(
                f"port {port.number} would serve both {other.what} and {port.what}: change {port.setting}"
            )


def refusal(port: Port) -> StartRefused:
    """The error for a taken port."""
    return StartRefused(
        f"port {port.number} for {port.what} is in use: stop what listens there, or choose another with {port.setting}"
    )


def _is_taken(port: Port) -> bool:
    try:
        family, kind, _, _, address = socket.getaddrinfo(port.host, port.number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: connections of an earlier run that linger in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return True
        raise StartRefused(
            f"cannot listen on {port.host}:{port.number} for {port.what} ({exc.strerror or exc}): see {port.setting}"
        ) from exc
    return False
