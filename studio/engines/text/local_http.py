"""Asking llama.cpp's server things that xllamacpp has no call for. Knows HTTP over a local socket; knows no model."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
POLL_SECONDS = 0.05


class LocalRefused(Exception):
    """The server answered with something else than 200, or not in time."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str | tuple[str, int]) -> None:
        super().__init__("localhost", timeout=CONNECT_SECONDS)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, tuple):
            self.sock = socket.create_connection(self._address, CONNECT_SECONDS)
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        self.sock.connect(self._address)


class LocalHttp:
    """One server on this machine.

    Args:
        address: path of a Unix socket, or (host, port) on loopback.
        key: sent as a bearer token, or empty.
    """

    def __init__(self, address: str | tuple[str, int], key: str = "") -> None:
        self.address = address
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def ask(self, path: str, body: dict[str, Any] | None = None, check: Callable[[], None] | None = None) -> Any:
        """GET, or POST when there is a body; returns the JSON of the answer.

        Args:
            check: called while waiting; whatever it raises ends the waiting.

        Raises:
            LocalRefused: any answer but 200, none in time, or the server is gone.
        """
        connection = _Connection(self.address)
        try:
            data = None if body is None else json.dumps(body).encode("ascii")
            connection.request("GET" if data is None else "POST", path, data, self._headers)
            self._wait(connection, check)
            connection.sock.settimeout(ANSWER_SECONDS)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise LocalRefused(f"{path} answered {answer.status}: {content[:500].decode('utf-8', 'replace')}")
            return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LocalRefused(f"{path}: {error}") from error
        finally:
            connection.close()

    @staticmethod
    def _wait(connection: _Connection, check: Callable[[], None] | None) -> None:
        # Reading 256 KiB of prompt into tokens takes seconds on a busy machine: a cancel is heard meanwhile.
        end = time.monotonic() + ANSWER_SECONDS
        while not select.select([connection.sock], [], [], POLL_SECONDS)[0]:
            if check is not None:
                check()
            if time.monotonic() > end:
                raise LocalRefused("no answer in time")
