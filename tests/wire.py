"""A TCP proxy in front of PostgreSQL that counts round trips, and can break the link on cue.

::

    with WireCounter(server.host, server.port) as wire:
        connect(f"host=127.0.0.1 port={wire.port} ...")
        with wire.trips() as trips:
            ...
        assert trips.count == 1

The server's *host* may be a socket directory ("/run/postgresql"). A round trip is what the client has to
wait for: it begins with the first message sent while nothing is outstanding (every Sync and Query so
far has had its ReadyForQuery), or sent after the answer to a Flush. Logging in is not counted.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

__all__ = ["Trips", "WireCounter"]

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


@dataclass
class Trips:
    """What was counted in a `WireCounter.trips` block."""

    count: int = 0


class _Messages:
    """Cuts a stream into messages: a type byte, a length, a body."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes, *, typed: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """Yield the complete messages in *data* and what was left before; untyped ones begin with the length."""
        self._buffer += data
        head = 1 if typed else 0
        while len(self._buffer) >= head + 4:
            (length,) = struct.unpack_from("!I", self._buffer, head)
            if len(self._buffer) < head + length:
                return
            message, self._buffer = self._buffer[: head + length], self._buffer[head + length :]
            yield message[:head], message[head + 4 :]
            if not typed:  # what follows may be of the other kind
                return


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: WireCounter, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.started = False  # the startup message has been sent
        self.ready = False  # logged in
        self.negotiating = 0  # one-byte replies that are to come
        self.outstanding = 0  # Syncs and Queries without a ReadyForQuery
        self.flying = False  # messages were sent, and no Sync behind them yet
        self.flushed = False  # a Flush was sent ...
        self.answered = False  # ... and the server has spoken since
        self.lose_reply = False
        self.from_client = _Messages()
        self.from_server = _Messages()

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def pump(self, source: socket.socket, target: socket.socket, *, client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self.proxy.lock:
                    keep = self._client_sent(data) if client else self._server_sent(data)
                if not keep:
                    break
                target.sendall(data)
        if client or not self.proxy.keep_open:
            self.close()

    def _client_sent(self, data: bytes) -> bool:
        lose = self.proxy.lose
        if lose is not None and lose in data:
            self.proxy.lose = None
            self.lose_reply = True
        if not self.started:
            for _, body in self.from_client.feed(data, typed=False):
                (code,) = struct.unpack_from("!I", body)
                if code in (_SSL_REQUEST, _GSS_REQUEST):
                    self.negotiating += 1
                else:
                    self.started = True
            return True
        for kind, _ in self.from_client.feed(data):
            if self.ready:
                self._count(kind)
        return True

    def _count(self, kind: bytes) -> None:
        if kind == b"X":  # Terminate has no reply
            return
        if kind == b"H":
            self.flushed, self.answered = True, False
            return
        if (self.outstanding == 0 and not self.flying) or (self.flushed and self.answered):
            self.proxy.round_trips += 1
        self.flushed = False
        self.flying = kind not in (b"S", b"Q")
        if not self.flying:
            self.outstanding += 1

    def _server_sent(self, data: bytes) -> bool:
        if self.lose_reply:
            return False
        if self.negotiating:
            self.negotiating -= len(data)
            return True
        self.answered = True
        for kind, _ in self.from_server.feed(data):
            if kind == b"Z":
                if self.ready:
                    self.outstanding -= 1
                self.ready = True
        return True


class WireCounter:
    """Listens on `port` of 127.0.0.1 and passes everything on to the server at *host* and *port*."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.lock = threading.Lock()
        self.round_trips = 0
        self.lose: bytes | None = None
        self.refuse = False  # whether new connections are closed at once
        self.keep_open = False  # whether clients do not hear of it when the server closes
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    @contextmanager
    def trips(self) -> Iterator[Trips]:
        """Count the round trips of the block; the answer is there when it has ended."""
        trips = Trips()
        with self.lock:
            before = self.round_trips
        yield trips
        with self.lock:
            trips.count = self.round_trips - before

    def lose_reply_to(self, text: str) -> None:
        """Pass on the next data with *text* in it, wait for the server's reply, and break the link instead."""
        with self.lock:
            self.lose = text.encode()

    def cut(self) -> None:
        """Break every link."""
        for link in self._links:
            link.close()

    def _start(self, run: object, *args: object, **options: object) -> None:
        thread = threading.Thread(target=run, args=args, kwargs=options, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuse:
                    client.close()
                    continue
                link = _Link(self, client, self._connect())
                self._links.append(link)
                self._start(link.pump, client, link.server, client=True)
                self._start(link.pump, link.server, client, client=False)

    def _connect(self) -> socket.socket:
        host, port = self._target
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
        else:
            server = socket.create_connection(self._target)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server
