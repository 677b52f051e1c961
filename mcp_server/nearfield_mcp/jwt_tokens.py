"""Tokens of an OAuth server: signed JSON (RFC 7519, RFC 9068), checked with its public keys."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
from anyio import to_thread
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from nearfield_mcp.settings import InvalidSettingsError

__all__ = ["JwtChecker", "KeyFileError"]

_ASYMMETRIC = {
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
}
_LEEWAY_S = 30.0
"""How far clocks may be apart."""
_KEYS_LIVE_S = 600.0
_FETCH_TIMEOUT_S = 5.0
_COOLDOWN_S = 30.0
"""Between two fetches for a key that is not known, and after a fetch that failed."""
_logger = logging.getLogger(__name__)


class KeyFileError(InvalidSettingsError):
    """A file of public keys cannot be used; the message says why."""


class JwtChecker:
    """Checks signature, issuer, audience and times of tokens.

    Args:
        issuer: Compared as it is written (RFC 8414).
        audience: Whom the tokens must be for (RFC 8707).
        keys: The URL of a key set (RFC 7517), or a file with one or with a PEM public key.

    Raises:
        KeyFileError: The file holds no public key.
    """

    def __init__(self, issuer: str, audience: str, keys: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys: _Keys = (
            _KeyURL(keys) if urlsplit(keys).scheme in ("http", "https") else _KeyFile(Path(keys))
        )

    async def claims(self, token: str) -> dict[str, Any] | None:
        """Return what a token says; None for one that is not to be believed."""
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None or key.algorithm_name not in _ASYMMETRIC:
                return None
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],  # the key says which, never the token
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            _logger.info("a token was refused: %s", type(error).__name__)
            return None


class _Keys(Protocol):
    async def find(self, identifier: str | None) -> jwt.PyJWK | None:
        """Return the key that a token says it was signed with."""


class _KeyFile:
    def __init__(self, path: Path) -> None:
        self._keys = _read_keys(path)

    async def find(self, identifier: str | None) -> jwt.PyJWK | None:
        """Return the key of this id, or the only one where either has none."""
        if len(self._keys) == 1 and None in (identifier, self._keys[0].key_id):
            return self._keys[0]
        return next((key for key in self._keys if key.key_id == identifier), None)


class _KeyURL:
    def __init__(self, url: str) -> None:
        self._client = _PatientClient(
            url, lifespan=_KEYS_LIVE_S, timeout=_FETCH_TIMEOUT_S, cooldown_duration=_COOLDOWN_S
        )

    async def find(self, identifier: str | None) -> jwt.PyJWK | None:
        """Return the key of this id, fetched where it is not known yet."""
        if identifier is None:
            return None
        try:
            return await to_thread.run_sync(self._client.get_signing_key, identifier)
        except jwt.PyJWKClientConnectionError as error:
            _logger.error("the public keys cannot be fetched: %s", error)  # noqa: TRY400
            return None


class _PatientClient(jwt.PyJWKClient):
    """Waits after a fetch that failed, too: a flood of tokens is no flood of fetches."""

    _failed_at = float("-inf")

    def fetch_data(self) -> Any:
        """Fetch the key set."""
        if time.monotonic() < self._failed_at + _COOLDOWN_S:
            raise jwt.PyJWKClientConnectionError("the last fetch failed a moment ago")
        try:
            return super().fetch_data()
        except (jwt.PyJWTError, ValueError, OSError) as error:
            self._failed_at = time.monotonic()
            raise jwt.PyJWKClientConnectionError(str(error)) from error


def _read_keys(path: Path) -> list[jwt.PyJWK]:
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise KeyFileError(f"--jwks {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"--jwks {path} holds neither a key set nor a PEM key") from None
    if "PRIVATE KEY" in text:
        raise KeyFileError(f"--jwks {path} holds a private key; it must be the public one")
    try:
        if text.lstrip().startswith("{"):
            keys = jwt.PyJWKSet.from_dict(json.loads(text)).keys
        else:
            keys = [_from_pem(text)]
    except (ValueError, jwt.PyJWTError):
        raise KeyFileError(f"--jwks {path} holds neither a key set nor a PEM key") from None
    usable = [key for key in keys if key.algorithm_name in _ASYMMETRIC]
    if not usable:
        raise KeyFileError(f"--jwks {path} holds no public key (RSA, EC or Ed25519)")
    return usable


def _from_pem(text: str) -> jwt.PyJWK:
    key = load_pem_public_key(text.encode())
    if isinstance(key, rsa.RSAPublicKey):
        return jwt.PyJWK(RSAAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return jwt.PyJWK(ECAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return jwt.PyJWK(OKPAlgorithm.to_jwk(key, as_dict=True))
    raise ValueError("a key of another kind")
