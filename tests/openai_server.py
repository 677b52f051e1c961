"""A server that speaks OpenAI's embeddings API, with its limits, and with faults to order."""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tests.embedders import HashingEmbedder

from nearfield.embedders import OpenAIEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-test-5f0e1d2c3b4a59687766554433221100"
MODEL = "hashing"
WORDS = "wing flow shock heat plate layer nose cone jet wake drag lift mach sonic".split()
TEXTS = [f"{WORDS[n % 14]} {WORDS[n // 14 % 14]} number {n}" for n in range(300)]


@dataclass(frozen=True)
class Fault:
    """What the server does to a request instead of answering it well.

    Attributes:
        status: The status of an error; 200 spoils the answer instead.
        body: The body of an error; None for one such as OpenAI sends.
        message: The message in that body.
        code: The code in that body.
        headers: Headers of the answer.
        pause_s: Wait so long before anything is sent.
        drip_s: Send the answer byte by byte, so long apart.
        reset: Reset the connection instead of answering.
        spoil: Change the answer, decoded from JSON; or return the bytes to send.
    """

    status: int = 200
    body: str | None = None
    message: str = "A fault was ordered."
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    drip_s: float = 0.0
    reset: bool = False
    spoil: Callable[[dict[str, Any]], dict[str, Any] | bytes] | None = None


@dataclass(frozen=True)
class Request:
    """A request that the server was sent."""

    texts: list[str]
    body: dict[str, Any]
    headers: dict[str, str]


class OpenAIServer:
    """Serves on a free port of 127.0.0.1; the vectors are a bag of hashed words.

    Words are its tokens. It refuses what OpenAI refuses: a wrong key, an unknown model, an empty
    text, too many texts or tokens.

    Attributes:
        requests: All that it was sent, in order.
        faults: What to do to the next requests, one each, in order; good answers after that.
        most_at_once: The most requests that were under way together.
        delay_s: How long each answer takes.
    """

    def __init__(
        self,
        *,
        dimension: int = 32,
        max_tokens: int = 8192,
        max_inputs: int = 2048,
        key: str | None = KEY,
        scale: float = 1.0,
    ) -> None:
        self.embedder = HashingEmbedder(dimension)
        self.max_tokens = max_tokens
        self.max_inputs = max_inputs
        self.key = key
        self.scale = scale
        self.delay_s = 0.0
        self.requests: list[Request] = []
        self.faults: deque[Fault] = deque()
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.api = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        """All texts of all requests, in order."""
        return [text for request in self.requests for text in request.texts]

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Return the status and the body that a request deserves."""
        texts, body = request.texts, request.body
        counts = [self.embedder.count_tokens(text) for text in texts]
        most, total = max(counts, default=0), sum(counts)
        key, model = request.headers.get("authorization", ""), body["model"]
        wrong = self.key is not None and key != f"Bearer {self.key}"
        limit = f"This model's maximum context length is {self.max_tokens} tokens"
        refusals = (
            (wrong, 401, f"Incorrect API key provided: {key}"),
            (model != MODEL, 404, f"The model {model!r} does not exist"),
            (not texts or not all(texts), 400, "'input' cannot be an empty string"),
            (len(texts) > self.max_inputs, 400, f"batch size is above {self.max_inputs}"),
            (most > self.max_tokens, 400, f"{limit}, however you requested {most} tokens."),
            (total > 300_000, 400, f"Requested {total} tokens, max 300000 tokens per request"),
        )
        for refused, status, message in refusals:
            if refused:
                return status, _error(message)
        return 200, self._embeddings(texts, body, total)

    def _embeddings(self, texts: list[str], body: dict[str, Any], tokens: int) -> dict[str, Any]:
        vectors = self.embedder.embed_documents(texts) * np.float32(self.scale)
        if "dimensions" in body:  # shortened and scaled again, as OpenAI does
            vectors = vectors[:, : body["dimensions"]] + np.float32(1e-3)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        encode = encode_base64 if body.get("encoding_format") == "base64" else np.ndarray.tolist
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def connect(server: OpenAIServer, **options: Any) -> OpenAIEmbedder:
    """Make an embedder for a server."""
    return OpenAIEmbedder(MODEL, **{"api_key": KEY, "base_url": server.url, **options})


@cache
def shared_server() -> OpenAIServer:
    """Start a server that stays until the process ends, for a suite of many embedders."""
    server = OpenAIServer()
    atexit.register(server.__exit__)
    return server.__enter__()


def encode_base64(vector: np.ndarray) -> str:
    """Encode a vector the way the API does."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _error(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


class _Server(ThreadingHTTPServer):
    api: OpenAIServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        worker = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._workers.append(worker)
        worker.start()

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        self.close_request(request)  # without a word before it, which a reset must not have

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in [*self._open]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for worker in self._workers:
            worker.join(10)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away, as they do when they have waited enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        api = self.server.api
        with self._counted(api):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            request = Request(texts, body, headers)
            with api.lock:
                api.requests.append(request)
                fault = api.faults.popleft() if api.faults else Fault()
            time.sleep(max(api.delay_s, fault.pause_s))
            self._respond(api, request, fault)

    def _respond(self, api: OpenAIServer, request: Request, fault: Fault) -> None:
        if self.path != "/v1/embeddings":
            self._send(404, b'{"error": {"message": "unknown route"}}', fault)
        elif fault.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif fault.status != 200:
            body = fault.body or json.dumps(_error(fault.message, fault.code))
            self._send(fault.status, body.encode(), fault)
        else:
            status, answer = api.answer(request)
            spoiled = answer if fault.spoil is None else fault.spoil(answer)
            body = spoiled if isinstance(spoiled, bytes) else json.dumps(spoiled).encode()
            self._send(status, body, fault)

    def _send(self, status: int, body: bytes, fault: Fault) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        step = 1 if fault.drip_s else len(body)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            time.sleep(fault.drip_s)

    @contextlib.contextmanager
    def _counted(self, api: OpenAIServer) -> Iterator[None]:
        with api.lock:
            api.at_once += 1
            api.most_at_once = max(api.most_at_once, api.at_once)
        try:
            yield
        finally:
            with api.lock:
                api.at_once -= 1
