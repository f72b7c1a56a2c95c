"""Listening on a TCP address."""

from __future__ import annotations

import errno
import socket

from bridge.errors import BridgeError
from bridge.ports import HostPort

_BACKLOG = 512


def listen_on(address: HostPort) -> socket.socket:
    """A bound, listening TCP socket. Raises BridgeError telling whether the port is taken or the address not ours."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(target)
            bound.listen(_BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise BridgeError(
            f"cannot listen: {error.strerror}", at=str(address), fix=_fix(error.errno), kind="settings"
        ) from None
    bound.setblocking(False)
    return bound


def _fix(number: int | None) -> str:
    if number == errno.EADDRINUSE:
        return "another program listens there: stop it, or choose another port"
    if number == errno.EACCES:
        return "choose a port from 1024 up"
    return "write an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
