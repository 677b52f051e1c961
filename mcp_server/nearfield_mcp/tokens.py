"""Who a caller over HTTP is: what a bearer token says about its rights, tenant and collections."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from mcp.server.auth.provider import AccessToken

from nearfield_mcp.scope import Right, Scope
from nearfield_mcp.static_tokens import SCOPES, TENANT, StaticToken, TokenFile

if TYPE_CHECKING:
    from nearfield_mcp.jwt_tokens import JwtChecker
    from nearfield_mcp.settings import Settings

__all__ = ["CallerToken", "Verifier", "rights_of"]

_WIDER = {
    Right.ADMIN: frozenset(Right),
    Right.WRITE: frozenset({Right.READ, Right.WRITE}),
    Right.READ: frozenset({Right.READ}),
}
_logger = logging.getLogger(__name__)


class CallerToken(AccessToken):
    """A token that was accepted, without its text, and what it lets the caller do."""

    grants: Scope


class Verifier:
    """Checks bearer tokens: those that an operator made, and those of an OAuth server.

    Args:
        tokens: The file of the former.
        jwt: What checks the latter.
        by_tenant: Whether data are apart by tenant.
    """

    def __init__(
        self, *, tokens: TokenFile | None, jwt: JwtChecker | None, by_tenant: bool
    ) -> None:
        self._tokens = tokens
        self._jwt = jwt
        self._by_tenant = by_tenant

    @classmethod
    def of(cls, settings: Settings, resource: str) -> Verifier:
        """Make one as the settings say.

        Args:
            settings: With a file of tokens, an issuer or both.
            resource: The URL that clients use, which tokens are for where no audience is set.

        Raises:
            KeyFileError: The file of public keys cannot be used.
            TokenFileError: The file of tokens cannot be used.
        """
        checker = None
        if settings.issuer is not None and settings.jwks is not None:
            from nearfield_mcp.jwt_tokens import JwtChecker

            checker = JwtChecker(settings.issuer, settings.audience or resource, settings.jwks)
        tokens = None
        if settings.tokens is not None:
            tokens = TokenFile(Path(settings.tokens))
            tokens.tokens()
        return cls(tokens=tokens, jwt=checker, by_tenant=settings.by_tenant)

    async def verify_token(self, token: str) -> CallerToken | None:
        """Return what a token allows; None for one that is not accepted."""
        if self._jwt is not None and token.count(".") == 2:  # noqa: PLR2004  # header.claims.signature
            claims = await self._jwt.claims(token)
            return None if claims is None else self._from_claims(claims)
        if self._tokens is not None:
            found = await to_thread.run_sync(self._tokens.find, token)
            return None if found is None else self._from_static(found)
        return None

    def _from_static(self, token: StaticToken) -> CallerToken | None:
        return self._accepted(
            client=token.id,
            subject=token.name or token.id,
            scopes=token.scopes,
            tenant=token.tenant,
            collections=token.collections,
            expires=token.expires,
            issuer=None,
        )

    def _from_claims(self, claims: Mapping[str, Any]) -> CallerToken | None:
        try:
            scopes = _words(claims.get("scope", claims.get("scp", "")))
            collections = claims.get("collections")
            return self._accepted(
                client=str(claims.get("client_id", claims.get("azp", "unknown"))),
                subject=str(claims.get("sub", "unknown")),
                scopes=scopes,
                tenant=claims.get("tenant"),
                collections=None if collections is None else _words(collections),
                expires=int(claims["exp"]),
                issuer=str(claims["iss"]),
            )
        except (TypeError, ValueError):
            _logger.info("a token was refused: a claim has another form than expected")
            return None

    def _accepted(
        self,
        *,
        client: str,
        subject: str,
        scopes: Iterable[str],
        tenant: str | None,
        collections: Iterable[str] | None,
        expires: int | None,
        issuer: str | None,
    ) -> CallerToken | None:
        if tenant is not None and not (isinstance(tenant, str) and TENANT.fullmatch(tenant)):
            _logger.warning("a token of %r was refused: its tenant is no name", subject)
            return None
        if tenant is not None and not self._by_tenant:
            # Its maker relies on tenants being apart, and here they are not.
            _logger.warning(
                "a token of %r was refused: it is for one tenant, and no database is by {tenant}",
                subject,
            )
            return None
        words = list(scopes)
        rights = rights_of(words)
        grants = Scope(
            tenant=tenant,
            collections=None if collections is None else frozenset(collections),
            rights=rights,
            subject=subject,
        )
        return CallerToken(
            token="",  # not kept
            client_id=client,
            subject=subject,
            scopes=sorted({*rights, *words} & {*SCOPES}),
            expires_at=expires,
            claims=None if issuer is None else {"iss": issuer},
            grants=grants,
        )


def rights_of(scopes: Iterable[str]) -> frozenset[Right]:
    """Return the rights that OAuth scopes give: write includes read, admin includes both."""
    known = [Right(scope) for scope in scopes if scope in set(Right)]
    return frozenset().union(*(_WIDER[right] for right in known))


def _words(value: object) -> list[str]:
    """Read a claim that is a list, or words with spaces between."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise TypeError("expected a list of words")
