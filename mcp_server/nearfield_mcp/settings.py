"""What a server is told: flags come before the environment, and that before the file."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

__all__ = ["ENV_PREFIX", "InvalidSettingsError", "Settings", "flag_of", "load_settings"]

ENV_PREFIX = "NEARFIELD_MCP_"
MCP_PATH = "/mcp"
"""Where HTTP answers."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FLAGS = {
    "database": "DATABASE",
    "databases": "NAME=DATABASE",
    "embedders": "--embedder-for",
    "rerankers": "--reranker-for",
    "allowed_hosts": "--allowed-host",
    "allowed_origins": "--allowed-origin",
}
"""Those that are not simply the setting's name."""
_NO_MODEL = "none"
_TOGETHER = ("database", "databases")
"""Whichever source gives one of these decides both."""


class InvalidSettingsError(ValueError):
    """A setting is unknown, has a bad value or does not fit another; the message says which."""


def _items(value: Any) -> Any:
    """Read a list as the environment gives it: JSON, or words with commas between."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("[", "{")):
        return json.loads(value)
    return [item for item in (each.strip() for each in value.split(",")) if item]


def _pairs(value: Any) -> Any:
    """Read NAME=VALUE items into a table."""
    items = _items(value)
    if not isinstance(items, list):
        return items
    table: dict[str, Any] = {}
    for item in items:
        name, equals, given = str(item).partition("=")
        if not equals or not given:
            raise ValueError("expected NAME=VALUE")
        if name in table:
            raise ValueError(f"{name!r} was given twice")
        table[name] = given
    return table


def _named(table: dict[str, str]) -> dict[str, str]:
    for name in table:
        if not _NAME.fullmatch(name):
            if "://" in name:  # a URL without a name, which may hold a password
                raise ValueError("expected NAME=URL, got a URL without a name")
            raise ValueError(f"{name!r} is no name: use letters, digits, '.', '_' and '-'")
    return table


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL that starts with https://")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("expected https://; http:// is for this machine only")
    return value


_List = Annotated[list[str], NoDecode, BeforeValidator(_items)]
_Table = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs), AfterValidator(_named)]
_Url = Annotated[str, AfterValidator(_url)]


class Settings(BaseSettings):
    """What a server is told.

    Keyword arguments are what flags are: they come before ``NEARFIELD_MCP_…`` in the environment,
    and that before the TOML file that ``config`` names.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    config: Path | None = Field(None, description="a TOML file with any of these settings")

    database: str = Field(
        ".nearfield",
        min_length=1,
        repr=False,
        description="a folder, or another URL that nearfield opens; {tenant} in it stands for the "
        "tenant that the caller's token names",
    )
    databases: _Table = Field({}, repr=False, description="instead of one: several, as NAME=URL")
    embedder: str | None = Field(
        None, description="the model of new collections, and of old ones that do not name theirs"
    )
    embedders: _Table = Field({}, description="the model of one collection, as COLLECTION=MODEL")
    reranker: str | None = Field(
        None, description="a model that reads the best 50 hits of a search and puts them in order"
    )
    rerankers: _Table = Field(
        {}, description="the reranker of one collection, as COLLECTION=MODEL, or none as its model"
    )
    read_only: bool = Field(
        default=False, description="offer no tool that writes; so by default over HTTP"
    )

    transport: Literal["stdio", "http"] = Field("stdio", description="stdio or http")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8321, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    public_url: _Url | None = Field(
        None, description="the URL that clients use, when it is not http://HOST:PORT/mcp"
    )
    allowed_hosts: _List = Field(
        [],
        description="a name that clients may call this server by, besides its own; NAME:* for any "
        "port",
    )
    allowed_origins: _List = Field(
        [], description="an origin whose web pages may use this server, such as https://app.example"
    )

    tokens: Path | None = Field(None, description="the file that `nearfield-mcp token` keeps")
    issuer: _Url | None = Field(None, description="the OAuth server whose tokens are accepted")
    audience: str | None = Field(
        None, description="whom those tokens must be for; by default the URL that clients use"
    )
    jwks: str | None = Field(
        None, description="where its public keys are: a URL, or a file with a key set or a PEM key"
    )
    metrics: Literal["open", "token", "off"] | None = Field(
        None,
        description="who may read /metrics: open, token (with the scope metrics) or off; open by "
        "default where only this machine can connect, else token",
    )

    allow_dir: Annotated[list[Path], NoDecode, BeforeValidator(_items)] = Field(
        [], description="a folder that ingest may read files from"
    )
    allow_urls: bool = Field(
        default=False, description="let ingest fetch from public web addresses"
    )
    job_dir: Path | None = Field(
        None,
        description="where the records of ingests are kept, and of texts until they are taken in; "
        "by default in the user's state folder",
    )
    max_request_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="the largest request over HTTP"
    )
    rate_per_s: float = Field(
        20.0,
        ge=0,
        description="requests a second that one caller may send over HTTP; 0 for any number",
    )
    rate_burst: int = Field(60, ge=1, description="how many it may send at once")
    max_sessions: int = Field(
        100,
        ge=1,
        description="sessions that one caller may keep open over HTTP, and as many streams of news",
    )
    max_calls: int = Field(
        16, ge=1, le=256, description="calls that run at once, those that only wait not among them"
    )
    call_timeout_s: float = Field(
        120.0, gt=0, description="after which a call is answered with an error"
    )
    shutdown_timeout_s: float = Field(
        10.0, ge=0, description="how long running calls may go on once the server is told to stop"
    )

    audit_log: Path | None = Field(
        None, description="a file to note every call in: who, what and how many, never content"
    )
    audit_log_bytes: int = Field(10_000_000, ge=1000, description="when to begin a new one")
    audit_log_files: int = Field(5, ge=1, description="how many old ones to keep")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="what to tell on stderr: DEBUG, INFO, WARNING or ERROR"
    )

    @property
    def urls(self) -> dict[str, str]:
        """The databases by name."""
        return self.databases or {"default": self.database}

    @property
    def by_tenant(self) -> bool:
        """Whether a database is apart for every tenant."""
        return any("{tenant}" in url for url in self.urls.values())

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in _LOOPBACK

    @property
    def needs_token(self) -> bool:
        """Whether a caller over HTTP must show a token."""
        return self.tokens is not None or self.issuer is not None

    def embedder_of(self, collection: str) -> str | None:
        """Return the model for a collection; None for nearfield's own choice."""
        return self.embedders.get(collection, self.embedder)

    def reranker_of(self, collection: str) -> str | None:
        """Return the reranker for a collection; None where its hits stay as they are."""
        spec = self.rerankers.get(collection, self.reranker)
        return None if spec == _NO_MODEL else spec

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the file that ``config`` names, and put the sources in order."""
        return (_InOrder(settings_cls, init_settings, env_settings),)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.database != ".nearfield" and self.databases:
            raise ValueError("give one database or several as NAME=URL, not both")
        if self.issuer is None and (self.jwks or self.audience):
            raise ValueError("--jwks and --audience go with --issuer, which is missing")
        if self.issuer is not None and self.jwks is None:
            raise ValueError(
                "--issuer needs --jwks: the URL or the file of the public keys that it signs with"
            )
        if self.transport == "http":
            self._check_exposure()
        if self.issuer and self.public_url is None and self.host in _EVERY_ADDRESS:
            raise ValueError(
                f"--issuer needs --public-url when the server listens on {self.host}: the URL that "
                "clients use, which their tokens must be for"
            )
        return self

    def _check_exposure(self) -> None:
        if not self.needs_token and not self.on_loopback:
            raise ValueError(
                f"without tokens the server listens on this machine only, not on {self.host}: make "
                "one with `nearfield-mcp token create --tokens FILE` and start with --tokens FILE, "
                "or name an OAuth server with --issuer and --jwks"
            )
        if self.by_tenant and not self.needs_token:
            raise ValueError(
                "a database by {tenant} needs tokens that name the tenant: --tokens or --issuer"
            )


class _InOrder(PydanticBaseSettingsSource):
    """Flags before the environment before the file; a table replaces a table."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        flags: PydanticBaseSettingsSource,
        environment: PydanticBaseSettingsSource,
    ) -> None:
        super().__init__(settings_cls)
        self._flags = flags
        self._environment = environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Say nothing of a single field: all are read at once."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what was given, each setting from the first source that has it."""
        flags, environment = self._flags(), self._environment()
        path = flags.get("config") or environment.get("config")
        table = _read(Path(path)) if path else {}
        given: dict[str, Any] = {}
        for source in (table, environment, flags):
            if any(name in source for name in _TOGETHER):
                for name in _TOGETHER:
                    given.pop(name, None)
            given.update(source)
        given.setdefault("read_only", given.get("transport") == "http")
        return given


def load_settings(flags: Mapping[str, Any]) -> Settings:
    """Read the settings; what ``flags`` holds comes first.

    Raises:
        InvalidSettingsError: Something is unknown, missing or does not fit; the message is one line
            a problem, and holds no value.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise InvalidSettingsError("\n".join(_problems(error))) from None


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettingsError(f"--config {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettingsError(f"--config {path} is not TOML: {error}") from None
    for name in table:
        if name not in Settings.model_fields or name == "config":
            raise InvalidSettingsError(f"--config {path}: no setting {name!r}{_nearest(name)}")
    return table


def _refuse_unknown_variables() -> None:
    known = {f"{ENV_PREFIX}{name.upper()}": name for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if variable.upper().startswith(ENV_PREFIX) and variable.upper() not in known:
            nearest = difflib.get_close_matches(variable.upper(), known, n=1)
            hint = f"; do you mean {nearest[0]}?" if nearest else ""
            raise InvalidSettingsError(f"no setting {variable} in the environment{hint}")


def _nearest(name: str) -> str:
    nearest = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; do you mean {nearest[0]!r}?" if nearest else "; see nearfield-mcp --help"


def _problems(error: ValidationError) -> list[str]:
    told = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            told.append(f"no setting {name!r}{_nearest(name)}")
        elif name:
            told.append(f"{flag_of(name)}: {message[0].lower()}{message[1:]}")
        else:
            told.append(message)
    return told
