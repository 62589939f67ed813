"""Ports of this machine that are free."""

from __future__ import annotations

import hashlib
import socket

from kennel.emulator.runners.base import RunnerError

_MEETING_PORTS = range(20_000, 29_500)  # below those that Linux gives to outgoing connections


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port: int = any_socket.getsockname()[1]
        return port


def free_meeting_port(network: str, taken: set[int]) -> int:
    """One for a job's hosts; begins at a place of the network's own, so that two servers seldom look at one at once.

    Raises:
        RunnerError: there is none.
    """
    start = int.from_bytes(hashlib.sha256(network.encode()).digest()[:4]) % len(_MEETING_PORTS)
    ports: list[int] = [*_MEETING_PORTS[start:], *_MEETING_PORTS[:start]]
    for port in ports:
        if port not in taken and _is_free(port):
            return port
    raise RunnerError(f"No port from {_MEETING_PORTS[0]} to {_MEETING_PORTS[-1]} is free. End what listens there.")


def _is_free(port: int) -> bool:
    with socket.socket() as any_socket:
        try:
            any_socket.bind(("", port))
        except OSError:
            return False
    return True
