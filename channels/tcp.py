"""What every long-lived TCP connection wants: to learn of a peer that went away, and to send small messages at once."""

from __future__ import annotations

import socket
from typing import Any

_PROBES = 4
"""Keep-alive probes without an answer after which the connection is broken."""


def tune(bound: Any, keepalive: float) -> None:
    """Probe a silent peer after ``keepalive`` seconds (RFC 9293, 3.8.4), and never hold small segments back."""
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = max(1, round(keepalive))
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // _PROBES))
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
