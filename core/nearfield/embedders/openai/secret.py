"""A key that does not show itself."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield.errors import InvalidInputError

__all__ = ["Secret"]


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Holds a key, and has no representation that tells it."""

    value: str

    @classmethod
    def of(cls, key: str, source: str) -> Secret:
        """Check a key, without the blanks around it.

        Raises:
            InvalidInputError: It cannot be sent in an HTTP header. The HTTP client's own error
                would quote it.
        """
        stripped = key.strip() if isinstance(key, str) else ""
        if not stripped or not stripped.isascii() or not stripped.isprintable():
            raise InvalidInputError(
                f"{source} is empty, or has characters that a key cannot have; it is not shown here"
            )
        return cls(stripped)

    def __repr__(self) -> str:
        return "Secret(…)"
