"""Where a Pinecone is, and which of its indexes and namespaces are meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from nearfield.documents import Metric
from nearfield.errors import InvalidURLError

__all__ = ["METRICS", "Address"]

METRICS = {Metric.COSINE: "cosine", Metric.DOT: "dotproduct", Metric.EUCLIDEAN: "euclidean"}
"""What Pinecone calls them."""
_USUAL = {"ssl": "true", "index": "nearfield", "cloud": "aws", "region": "us-east-1", "tenant": ""}
_YES = {"true": True, "1": True, "false": False, "0": False}
_BASE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,27}[a-z0-9])?")
"""With a dimension and a metric behind it, an index's name has at most 45 characters."""
_PLACE = re.compile(r"[a-z0-9-]+")
_TENANT = re.compile(r"[!-~]{0,300}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and how it is spoken to.

    Attributes:
        host: The server's name and port; empty for Pinecone's own service.
        ssl: Whether to speak TLS.
        index: What the names of its indexes begin with.
        cloud: Where new indexes are made.
        region: In which of the cloud's regions.
        tenant: Whose collections these are; empty where there is one owner.
        timeout_s: Seconds for a call, with all its attempts.
        read_only: Whether to refuse every write.
    """

    host: str
    ssl: bool
    index: str
    cloud: str
    region: str
    tenant: str
    timeout_s: float
    read_only: bool

    @classmethod
    def at(cls, url: str, *, timeout_s: float, read_only: bool) -> Address:
        """Read a URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidURLError(
                "the database URL cannot be read; expected pinecone:// or pinecone://host:port"
            ) from None
        if "@" in parts.netloc:
            raise InvalidURLError(
                "a pinecone:// URL holds no user and no key; leave them out, and give the key by "
                "the environment variable PINECONE_API_KEY"
            )
        if parts.path not in {"", "/"} or parts.fragment:
            raise InvalidURLError(
                "a pinecone:// URL has no path; name an index with ?index=…, a collection with the "
                "argument name"
            )
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(given) - set(_USUAL))
        if unknown:
            raise InvalidURLError(
                f"the database URL has the option {', '.join(unknown)}; known: {', '.join(_USUAL)}"
            )
        options = {name: given.get(name) or usual for name, usual in _USUAL.items()}
        _check(options)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        return cls(
            f"{host}:{port}" if host and port else host,
            _YES[options["ssl"].lower()],
            options["index"],
            options["cloud"],
            options["region"],
            options["tenant"],
            timeout_s,
            read_only,
        )

    @property
    def shown(self) -> str:
        """The URL."""
        values = {
            "ssl": str(self.ssl).lower(),
            "index": self.index,
            "cloud": self.cloud,
            "region": self.region,
            "tenant": self.tenant,
        }
        options = {name: value for name, value in values.items() if value != _USUAL[name]}
        return f"pinecone://{self.host}{'?' if options else ''}{urlencode(options)}"

    @property
    def control_plane(self) -> str:
        """Where indexes are made and listed; empty for the client's own default."""
        return self.reached(self.host) if self.host else ""

    def reached(self, host: str) -> str:
        """Return the URL of a host that belongs to this database."""
        if "://" in host:
            return host
        return f"{'https' if self.ssl else 'http'}://{host}"

    def index_name(self, dimension: int, metric: Metric) -> str:
        """Name the index for vectors of a kind."""
        return f"{self.index}-{dimension}-{metric.value}"

    def is_index(self, name: str) -> bool:
        """Whether an index has a name of this database's."""
        rest = name.removeprefix(f"{self.index}-")
        dimension, _, metric = rest.partition("-")
        return rest != name and dimension.isdigit() and metric in set(Metric)


def _check(options: dict[str, str]) -> None:
    wanted = {
        "ssl": (options["ssl"].lower() in _YES, "true or false"),
        "index": (
            _BASE.fullmatch(options["index"]),
            "1 to 29 lowercase letters, digits and hyphens, no hyphen at either end",
        ),
        "cloud": (_PLACE.fullmatch(options["cloud"]), "a cloud's name such as aws"),
        "region": (_PLACE.fullmatch(options["region"]), "a region's name such as us-east-1"),
        "tenant": (_TENANT.fullmatch(options["tenant"]), "at most 300 visible ASCII characters"),
    }
    for name, (good, expected) in wanted.items():
        if not good:
            raise InvalidURLError(f"the URL's option {name} is no {name} here; expected {expected}")
