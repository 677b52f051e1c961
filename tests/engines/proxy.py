"""A network that fails: a relay to a server, which can fall silent or cut its connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

__all__ = ["Proxy"]

_AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """Relays connections on loopback to a port there."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._answers = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.relay_answers()
        threading.Thread(target=self._accept, daemon=True).start()

    def withhold_answers(self) -> None:
        """Let what clients send through, and nothing that the server says."""
        self._answers.clear()

    def relay_answers(self) -> None:
        self._answers.set()

    def cut(self) -> None:
        """Reset every connection there is."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        self._listener.close()
        self.relay_answers()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
                for here, there, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(
                        target=self._relay, args=(here, there, answers), daemon=True
                    ).start()

    def _relay(self, here: socket.socket, there: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while part := here.recv(65536):
                if answers:
                    self._answers.wait()
                there.sendall(part)
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
