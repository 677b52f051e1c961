"""What an embedder was asked to be, and which space its vectors live in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from nearfield.documents import EmbeddingInfo
from nearfield.embedders.fingerprint import derived_fingerprint
from nearfield.embedders.openai.address import OPENAI, Address
from nearfield.embedders.openai.models import KNOWN_MODELS, MAX_INPUTS, KnownModel
from nearfield.errors import InvalidInputError
from nearfield.validation import check_member, check_positive, check_text

__all__ = ["BATCH_SIZE", "EncodingFormat", "OverLong", "Settings"]

BATCH_SIZE = 256
"""Texts in a request, unless said otherwise."""


class OverLong(StrEnum):
    """What becomes of a text with more tokens than the model reads."""

    REFUSE = "refuse"
    """An error that names the text."""
    TRUNCATE = "truncate"
    """Its first half is embedded, or the first half of that, and so on: the first that fits."""


class EncodingFormat(StrEnum):
    """How a server sends vectors."""

    BASE64 = "base64"
    """The bytes of float32: exact, and a third of the size."""
    FLOAT = "float"
    """Decimal numbers, for servers that know nothing else."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that tell one embedder from another; see ``OpenAIEmbedder``.

    Attributes:
        dimension: Components of a vector, as far as they are known before there is one.
        max_tokens: Tokens of a text that the model reads, as far as that is known.
    """

    model: str
    address: Address
    space: str | None
    dimensions: int | None
    dimension: int | None
    normalize: bool
    query_prompt: str
    document_prompt: str
    over_long: OverLong
    max_tokens: int | None
    batch_size: int
    encoding_format: EncodingFormat

    @classmethod
    def checked(
        cls,
        *,
        model: str,
        base_url: str | None,
        space: str | None,
        dimensions: int | None,
        dimension: int | None,
        normalize: bool,
        query_prompt: str,
        document_prompt: str,
        over_long: OverLong | str,
        max_tokens: int | None,
        batch_size: int,
        encoding_format: EncodingFormat | str,
    ) -> Settings:
        """Check the options.

        Raises:
            InvalidInputError: One is out of range, or two contradict each other.
        """
        address = Address.of(base_url)
        _check_model(model)
        known = KNOWN_MODELS.get(_space_name(model, address, space))
        asked = None if dimensions is None else check_positive(dimensions, "dimensions")
        if known is not None:
            _check_shortening(model, known, asked)
        given = None if dimension is None else check_positive(dimension, "dimension")
        expected = asked or (given if known is None else known.dimension)
        if given is not None and given != expected:
            raise InvalidInputError(
                f"dimension is {given}, but vectors of {model!r} will have {expected} components; "
                "leave it out, or correct dimensions"
            )
        limit = None if max_tokens is None else check_positive(max_tokens, "max_tokens")
        return cls(
            model=model,
            address=address,
            space=space,
            dimensions=asked,
            dimension=expected,
            normalize=normalize,
            query_prompt=check_text(query_prompt, what="query_prompt"),
            document_prompt=check_text(document_prompt, what="document_prompt"),
            over_long=check_member(over_long, OverLong, "over_long"),
            max_tokens=limit if known is None else known.max_tokens,
            batch_size=_check_batch_size(batch_size),
            encoding_format=check_member(encoding_format, EncodingFormat, "encoding_format"),
        )

    @property
    def known(self) -> KnownModel | None:
        """What is known of the model, if it is one of OpenAI's."""
        return KNOWN_MODELS.get(_space_name(self.model, self.address, self.space))

    def info(self, dimension: int) -> EmbeddingInfo:
        """Describe the space of vectors that have so many components."""
        return EmbeddingInfo(
            model=self.name(dimension),
            dimension=dimension,
            normalized=self.normalize,
            max_tokens=self.max_tokens,
            fingerprint=derived_fingerprint(
                "openai",
                (),
                space=_space_name(self.model, self.address, self.space),
                dimension=dimension,
                normalize=self.normalize,
                query_prompt=self.query_prompt,
                document_prompt=self.document_prompt,
                over_long=self.over_long.value,
            ),
        )

    def name(self, dimension: int | None) -> str:
        """Return a name that ``nearfield.embedders.load`` makes the same embedder from."""
        known, default = self.known is not None, EncodingFormat.BASE64
        options = {
            "base_url": None if self.address.url == OPENAI else self.address.url,
            "dimensions": self.dimensions,
            "dimension": None if known or self.dimensions else dimension,
            "space": self.space,
            "normalize": None if self.normalize else "false",
            "query_prompt": self.query_prompt or None,
            "document_prompt": self.document_prompt or None,
            "over_long": None if self.over_long is OverLong.REFUSE else self.over_long.value,
            "max_tokens": None if known else self.max_tokens,
            "batch_size": None if self.batch_size == BATCH_SIZE else self.batch_size,
            "encoding_format": (
                None if self.encoding_format is default else self.encoding_format.value
            ),
        }
        query = urlencode({key: value for key, value in options.items() if value is not None})
        return f"openai:{self.model}" + (f"?{query}" if query else "")


def _space_name(model: str, address: Address, space: str | None) -> str:
    """Name the space: a model of OpenAI's is one in every region, others go with their server."""
    if space is not None:
        return space
    return model if address.is_openai else f"{address.place} {model}"


def _check_model(model: object) -> None:
    if not isinstance(model, str) or not model.strip() or "?" in model:
        raise InvalidInputError(
            f"model is {model!r}, expected a name such as 'text-embedding-3-small'"
        )


def _check_shortening(model: str, known: KnownModel, dimensions: int | None) -> None:
    least = 1 if known.shortens else known.dimension
    if dimensions is not None and not least <= dimensions <= known.dimension:
        others = "or fewer" if known.shortens else "and no others"
        raise InvalidInputError(
            f"dimensions is {dimensions}, but {model!r} makes vectors of {known.dimension} "
            f"components {others}"
        )


def _check_batch_size(batch_size: object) -> int:
    size = check_positive(batch_size, "batch_size")
    if size > MAX_INPUTS:
        raise InvalidInputError(f"batch_size is {size}, the API takes {MAX_INPUTS} at most")
    return size
