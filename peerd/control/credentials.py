"""Who is at the other end of a Unix socket: the user and process that the kernel vouches for."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

_LINUX = struct.Struct("3i")  # struct ucred: pid, uid, gid
_MACOS = struct.Struct("2I")  # struct xucred begins with version, uid; <sys/ucred.h>
_MACOS_LEVEL, _MACOS_OPTION, _MACOS_SIZE = 0, 0x001, 76  # SOL_LOCAL, LOCAL_PEERCRED, sizeof(struct xucred)
_MACOS_PID = 0x002  # LOCAL_PEERPID; <sys/un.h>


class HasOptions(Protocol):
    """A socket, or what an event loop shows of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """As of socket.socket."""
        ...


def peer_uid(connection: HasOptions) -> int | None:
    """The user id of the peer; None if this system does not tell."""
    if sys.platform == "darwin":
        version, uid = _MACOS.unpack_from(connection.getsockopt(_MACOS_LEVEL, _MACOS_OPTION, _MACOS_SIZE))
        return uid if version == 0 else None
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = _LINUX.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size))
        return int(uid)
    return None


def peer_pid(connection: HasOptions) -> int | None:
    """The process that connected, as it was then; None if this system does not tell."""
    if sys.platform == "darwin":
        return int.from_bytes(connection.getsockopt(_MACOS_LEVEL, _MACOS_PID, 4), sys.byteorder)
    if hasattr(socket, "SO_PEERCRED"):
        pid, _, _ = _LINUX.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size))
        return int(pid)
    return None
