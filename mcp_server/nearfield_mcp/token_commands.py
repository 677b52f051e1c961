"""``nearfield-mcp token``: make, list and revoke tokens."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from nearfield_mcp.settings import ENV_PREFIX
from nearfield_mcp.static_tokens import SCOPES, TENANT, StaticToken, TokenFile, TokenFileError

__all__ = ["run"]

_USAGE_STATUS = 2
_NOT_FOUND_STATUS = 1
_DAY_S = 86_400


def run(arguments: Sequence[str]) -> int:
    """Run one of the commands, and return its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    file = given.tokens or os.environ.get(f"{ENV_PREFIX}TOKENS")
    if not file:
        parser.error(f"say which file with --tokens FILE or {ENV_PREFIX}TOKENS")
    tokens = TokenFile(Path(file))
    try:
        if given.command == "create":
            return _create(tokens, given, parser)
        if given.command == "revoke":
            return _revoke(tokens, given.id)
        return _list(tokens)
    except (TokenFileError, OSError) as error:
        _say(str(error))
        return _USAGE_STATUS


def _create(tokens: TokenFile, given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    scopes = given.scope or ["read"]
    if unknown := set(scopes) - set(SCOPES):
        parser.error(f"no scope {min(unknown)!r}: there are {', '.join(SCOPES)}")
    if given.tenant is not None and not TENANT.fullmatch(given.tenant):
        parser.error("a tenant's name has small letters, digits, '.', '_' and '-', at most 64")
    token = tokens.create(
        scopes=scopes,
        name=given.name,
        tenant=given.tenant,
        collections=_names(given.collections),
        lifetime_s=None if given.days is None else given.days * _DAY_S,
    )
    _say("it is shown this once; send it as: Authorization: Bearer TOKEN")
    print(token)  # noqa: T201
    return 0


def _list(tokens: TokenFile) -> int:
    for token in tokens.tokens():
        print(_line(token))  # noqa: T201
    return 0


def _revoke(tokens: TokenFile, identifier: str) -> int:
    # A whole token may be given as well: its id is in it.
    found = re.fullmatch(r"(?:nf_)?([0-9a-f]+)(?:_.*)?", identifier)
    if found is None or not tokens.revoke(found[1]):
        _say("there is no such token; see nearfield-mcp token list")
        return _NOT_FOUND_STATUS
    _say(f"revoked {found[1]}; running servers refuse it from now on")
    return 0


def _line(token: StaticToken) -> str:
    parts = [token.id, token.name or "-", "+".join(token.scopes)]
    parts.append(f"tenant={token.tenant or '-'}")
    names = "all" if token.collections is None else ",".join(token.collections) or "none"
    parts.append(f"collections={names}")
    parts.append(f"made={_day(token.created)}")
    if token.expires is not None:
        parts.append(f"{'expired' if token.expired else 'expires'}={_day(token.expires)}")
    return "  ".join(parts)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _names(value: str | None) -> list[str] | None:
    return None if value is None else [name for name in value.split(",") if name]


def _say(message: str) -> None:
    print(f"nearfield-mcp: {message}", file=sys.stderr, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nearfield-mcp token",
        description="Keep the tokens that callers over HTTP show. Only their hashes are stored.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a token and print it, this once")
    create.add_argument("--name", default="", help="whom it is for, as the audit log will say")
    create.add_argument(
        "--scope",
        action="append",
        metavar="|".join(SCOPES),
        help="what it allows: read (the default); write, which includes read; admin, which also "
        "makes collections; metrics, which reads /metrics; may be given again",
    )
    create.add_argument("--tenant", metavar="NAME", help="what {tenant} stands for")
    create.add_argument("--collections", metavar="A,B", help="only these collections")
    create.add_argument("--days", type=float, metavar="N", help="how long it is valid")
    revoke = commands.add_parser("revoke", help="refuse a token from now on")
    revoke.add_argument("id", metavar="ID", help="as the list shows it")
    listing = commands.add_parser("list", help="list the tokens, without their secrets")
    for command in (create, revoke, listing):
        command.add_argument("--tokens", metavar="FILE", help="the file that keeps them")
    return parser
