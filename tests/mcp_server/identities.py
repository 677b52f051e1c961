"""An OAuth server for tests: keys, tokens that it signs, and its key set over HTTP."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://idp.example"
AUDIENCE = "https://search.example/mcp"


class Identities:
    """Signs tokens with a key that it makes."""

    def __init__(self, identifier="first"):
        self.identifier = identifier
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def key_set(self):
        key = RSAAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": self.identifier, "alg": "RS256", "use": "sig"}]}

    @property
    def public_pem(self):
        return self._private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def private_pem(self):
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def claims(self, **changes):
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "anna",
            "client_id": "app",
            "iat": now,
            "exp": now + 600,
            "scope": "read",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, algorithm="RS256", key=None, headers=None, **changes):
        return jwt.encode(
            self.claims(**changes),
            key if key is not None else self._private,
            algorithm=algorithm,
            headers={"kid": self.identifier, **(headers or {})},
        )


class KeySetServer:
    """Serves a key set, and counts how often it was fetched."""

    def __init__(self, table):
        self.table = table
        self.fetched = 0
        self.url = ""


@contextmanager
def key_set_server(table):
    """Serve a key set on a free port of this machine."""
    served = KeySetServer(table)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.fetched += 1
            body = json.dumps(served.table).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
