"""The socket file of a listener for programs of this machine: made, and removed, with care.

The file outlives a process that is killed. It is removed at a start only if it is a socket on which nobody
listens, so a second relay with the same path is told so, and a file that is something else is left alone.
"""

import contextlib
import errno
import os
import socket
import stat
from typing import Final

_NOWHERE: Final = "its directory is not there; make it first"
_NO_SOCKET: Final = "a file that is no socket is there; remove it, or write another path"


class SocketFile:
    """A bound socket with a name in the file system.

    Raises:
        OSError: the name cannot be had; its text is for an operator.
    """

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        _clear(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(path)
            try:
                # Before listen(2): until then nobody can connect, so no other mode ever held.
                os.chmod(path, mode)
                found = os.lstat(path)
            except OSError:
                os.unlink(path)
                raise
        except FileNotFoundError:
            self.socket.close()
            raise OSError(errno.ENOENT, _NOWHERE) from None
        except OSError:
            self.socket.close()
            raise
        self._identity = (found.st_dev, found.st_ino)

    def change(self, mode: int) -> None:
        """Change who may open the file. Raises OSError: it is not there, or another one."""
        if not self._ours():
            raise OSError(errno.EEXIST, "another file is in its place")
        os.chmod(self.path, mode)

    def remove(self) -> None:
        """Remove the file, if it is still this one and nobody else's by now."""
        with contextlib.suppress(OSError):
            if self._ours():
                os.unlink(self.path)

    def _ours(self) -> bool:
        found = os.lstat(self.path)
        return (found.st_dev, found.st_ino) == self._identity


def obstacle(path: str) -> str:
    """Return why a socket file cannot be made at a path, empty if nothing is seen that says so.

    Changes nothing, and does not ask whether somebody listens there: that may be the relay in question.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return "" if os.path.isdir(os.path.dirname(path)) else _NOWHERE
    except NotADirectoryError:
        return _NOWHERE
    except OSError:
        return ""
    return "" if stat.S_ISSOCK(found.st_mode) else _NO_SOCKET


def _clear(path: str) -> None:
    """Remove the socket of a process that is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, _NO_SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        # A backlog that is full (EAGAIN) is somebody's too.
        if asking.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody listens there")
    os.unlink(path)
