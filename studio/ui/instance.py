"""One window per data folder: the first holds a lock and listens; a second one asks it to come forward and goes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, QThread, Signal

WAIT = 5000  # ms for the first window to answer


class Instance(QObject):
    """The right to be the window of a data folder.

    Signals:
        asked: another start wants this window.
    """

    asked = Signal()

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._name = socket_name(home)
        self._lock = QLockFile(str(home / "window.lock"))
        self._lock.setStaleLockTime(0)  # only a process that has ended makes it stale, however long ago it began
        self._server: QObject | None = None

    def take(self) -> bool:
        """Whether this is the first window."""
        return self._lock.tryLock(0)

    def listen(self) -> None:
        """Hear later starts. Called after the first paint: the network library takes a while to load."""
        from PySide6.QtNetwork import QLocalServer

        QLocalServer.removeServer(self._name)  # left by a window that was killed; the lock says that it is gone
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        server.newConnection.connect(self._hear)
        if server.listen(self._name):
            self._server = server

    def _hear(self) -> None:
        server = self._server
        while server is not None and (socket := server.nextPendingConnection()) is not None:  # type: ignore[attr-defined]
            socket.disconnected.connect(socket.deleteLater)
            socket.write(b"here\n")
            socket.disconnectFromServer()
            self.asked.emit()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()  # type: ignore[attr-defined]
        with contextlib.suppress(RuntimeError):
            self._lock.unlock()


def ask_first(home: Path) -> bool:
    """Ask the window that is open already to come forward. Returns whether it answered."""
    from PySide6.QtNetwork import QLocalSocket

    socket = QLocalSocket()
    for _ in range(WAIT // 100):  # the first listens once it has been painted, a moment after it took the lock
        socket.connectToServer(socket_name(home))
        if socket.waitForConnected(WAIT):
            break
        QThread.msleep(100)
    else:
        return False
    answered = socket.waitForReadyRead(WAIT) or socket.bytesAvailable() > 0
    socket.abort()
    return answered


def socket_name(home: Path) -> str:
    """A name of this user and this data folder."""
    who = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    digest = hashlib.sha256(f"{who}:{home.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"studio-{digest[:20]}"
