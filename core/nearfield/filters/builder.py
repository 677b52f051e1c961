"""The builder: ``F.year >= 2020`` is a filter."""

from __future__ import annotations

from typing import Any, Final, NoReturn, TypeAlias

from nearfield.errors import FilterError
from nearfield.filters.operands import Operator, canonical_field
from nearfield.filters.tree import Condition

__all__ = ["F", "Field", "Fields"]

_Values: TypeAlias = list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]


class Field:
    """A field of the metadata; comparing it makes a filter.

    Attributes and keys reach into nested metadata: ``F.author.name`` and ``F["author"]["name"]``
    are both the path ``author.name``. A key that is also a method here is reached by
    ``F.author["any"]``.
    """

    # Mangled, so that hardly any key of real metadata is hidden by it.
    __slots__ = ("__path",)
    # Makes numpy scalars leave ``numpy.int64(5) < F.year`` to this class.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # == builds a filter, so a hash could mean nothing
    __iter__ = None

    def __init__(self, path: str) -> None:
        self.__path = canonical_field(path)

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Field(f"{self.__path}.{name}")

    def __getitem__(self, key: str) -> Field:
        """Reach into nested metadata by any key."""
        return Field(f"{self.__path}.{canonical_field(key)}")

    def __repr__(self) -> str:
        return f"F[{self.__path!r}]"

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        """Match documents whose field equals the value."""
        return Condition(self.__path, Operator.EQ, value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        """Match exactly the documents that ``==`` does not, a missing field included."""
        return Condition(self.__path, Operator.NE, value)

    def __gt__(self, value: Any) -> Condition:
        """Match a greater number, a later string or a later instant."""
        return Condition(self.__path, Operator.GT, value)

    def __ge__(self, value: Any) -> Condition:
        """Match what is greater or equal."""
        return Condition(self.__path, Operator.GTE, value)

    def __lt__(self, value: Any) -> Condition:
        """Match a lesser number, an earlier string or an earlier instant."""
        return Condition(self.__path, Operator.LT, value)

    def __le__(self, value: Any) -> Condition:
        """Match what is less or equal."""
        return Condition(self.__path, Operator.LTE, value)

    def in_(self, values: _Values) -> Condition:
        """Match a field equal to one of the values."""
        return Condition(self.__path, Operator.IN, values)

    def nin(self, values: _Values) -> Condition:
        """Match exactly what :meth:`in_` does not, a missing field included."""
        return Condition(self.__path, Operator.NIN, values)

    def contains(self, value: Any) -> Condition:
        """Match a list that has the value among its elements."""
        return Condition(self.__path, Operator.CONTAINS, value)

    def any(self, values: _Values) -> Condition:
        """Match a list that has at least one of the values."""
        return Condition(self.__path, Operator.ANY, values)

    def all(self, values: _Values) -> Condition:
        """Match a list that has every one of the values."""
        return Condition(self.__path, Operator.ALL, values)

    def text_match(self, text: str) -> Condition:
        """Match a string that contains the text."""
        return Condition(self.__path, Operator.TEXT_MATCH, text)

    def text_match_insensitive(self, text: str) -> Condition:
        """Match a string that contains the text, whatever the case of either."""
        return Condition(self.__path, Operator.TEXT_MATCH_INSENSITIVE, text)

    def exists(self, value: bool = True) -> Condition:  # noqa: FBT001, FBT002  reads as a predicate
        """Match documents that have the field, null included; or, if False, that lack it."""
        return Condition(self.__path, Operator.EXISTS, value)

    def is_empty(self, value: bool = True) -> Condition:  # noqa: FBT001, FBT002
        """Match a missing field, null, ``""``, ``[]`` and ``{}``; or, if False, all others."""
        return Condition(self.__path, Operator.IS_EMPTY, value)

    def __contains__(self, value: object) -> NoReturn:
        """Refuse: Python turns the result of ``in`` into a bool."""
        raise FilterError(
            f"`in {self!r}` cannot build a filter; use {self!r}.contains(value) for a list and "
            f"{self!r}.text_match(text) for a string"
        )

    def __bool__(self) -> NoReturn:
        """Refuse: a field is not a filter."""
        raise FilterError(f"{self!r} is neither true nor false; use {self!r}.exists(True)")

    def __misread(self, _other: object = None) -> NoReturn:
        raise FilterError(
            f"&, | and ~ were applied to {self!r} itself, since they bind tighter than "
            "comparisons; put each comparison in parentheses: (F.a == 1) & (F.b == 2)"
        )

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = __misread


class Fields:
    """Makes a :class:`Field` of any name: ``F.year``, ``F["any key"]``."""

    __slots__ = ()
    __iter__ = None

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Field(name)

    def __getitem__(self, key: str) -> Field:
        """Name a field by its path, any string."""
        return Field(key)

    def __repr__(self) -> str:
        return "F"


F: Final = Fields()
"""Where filters begin: ``(F.year >= 2020) & (F.lang == "en")``."""
