"""Hypothesis strategies for metadata and filters that meet each other often.

Keys and values come from small pools of near-collisions: what some store, language or encoding
is known to take for the same (1 and True, dates in two zones, composed and decomposed letters),
or to read as syntax (quotes, JSON paths, LIKE patterns, dots, dollars).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import strategies as st

from nearfield.filters import MISSING, And, Condition, Filter, Not, Operator, Or, lookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")

# What is kept under a key mostly comes from the key's own pool below, and so does what it is
# compared with: matches are then common, and so are values that almost match.
COMMON_KEYS = ["scalar", "date", "word", "number", "list", "dates", "map"]
ODD_KEYS = [
    "",
    ".",
    "scalar.",
    ".scalar",
    "map.scalar",
    "map.",
    "map..word",
    "Scalar",
    "any",
    "é",
    "e\u0301",
    "😀",
    "it's",
    'say "x"',
    "x'); DROP TABLE documents; --",
    "$.scalar",
    "$scalar",
    "$eq",
    "scalar[0]",
    '"scalar"',
    "%",
    "\\",
    "a b",
    "\x00",
    "id",
    "null",
]
KEYS = [*COMMON_KEYS, *ODD_KEYS]
NESTED_PATHS = ["map.scalar", "map.date", "map.word", "map.number", "map.list", "map.map.scalar"]
ODD_PATHS = [*ODD_KEYS, "map..", "..", "map.$eq", "map.é", "map.it's", "scalar.x", "list.0"]

SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -0.0, "1", "true", "a", ""]

NUMBERS: list[int | float] = [
    0,
    -0.0,
    0.0,
    1,
    1.0,
    -1,
    2,
    0.1,
    0.1 + 0.2,
    0.3,
    1.5,
    20240101,
    2**53,
    2**53 + 1,
    float(2**53),
    10**17,
    10**17 + 1,
    1e17,
    2**63 - 1,
    2**63,
    float(2**63),
    -(2**63),
    -(2**63) - 1,
    2**64,
    10**30,
    1e30,
    5e-324,
    1.7976931348623157e308,
    10**400,
]
DATES = [
    "2024-01-01",
    "20240101",
    "2024-W01-1",
    "2024-01-01T00:00:00",
    "2024-01-01T00:00:00Z",
    "2024-01-01 00:00:00+00:00",
    "2024-01-01T01:00:00+01:00",
    "2023-12-31T19:00:00-05:00",
    "2024-01-01T00:00:00.000001Z",
    "2024-01-01T00:00:00.0000019Z",
    "2023-12-31T23:59:59.999999",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "2024-13-01",
    "2024-01-01T25:00",
    "2024",
]
WORDS = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "1",
    "1.0",
    "true",
    "null",
    "[]",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    "SS",
    "ẞ",
    "İ",
    "i",
    "\uffff",
    "😀",
    "a\x00b",
    "\x00",
    "'",
    '"',
    "' OR 1=1 --",
    "%",
    "_",
    "a_b",
    "\\",
    "*",
    " ",
    "a ",
]
DATETIMES: list[datetime | date] = [
    datetime(2024, 1, 1),  # noqa: DTZ001  naive means UTC here
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    date(2024, 1, 1),
]

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_POOLS: dict[str, list[Any]] = {
    "scalar": SCALARS,
    "date": DATES,
    "word": WORDS,
    "number": NUMBERS,
    "list": SCALARS,
    "dates": DATES,
}


def _mostly(
    usual: st.SearchStrategy[T], other: st.SearchStrategy[T], times: int = 4
) -> st.SearchStrategy[T]:
    return st.sampled_from([usual] * times + [other]).flatmap(lambda chosen: chosen)


def keys() -> st.SearchStrategy[str]:
    """Keys of metadata, mostly the common ones."""
    return _mostly(st.sampled_from(COMMON_KEYS), st.sampled_from(ODD_KEYS))


def paths(*, dollar: bool = True) -> st.SearchStrategy[str]:
    """Paths of fields; without ``dollar``, only those that the dict form can say."""
    usual = st.sampled_from([*COMMON_KEYS, *NESTED_PATHS])
    drawn = _mostly(usual, st.one_of(st.sampled_from(ODD_PATHS), _text))
    return drawn if dollar else drawn.filter(lambda path: not path.startswith("$"))


def stored_scalars(key: str = "") -> st.SearchStrategy[Any]:
    """Scalars as JSON holds them, mostly from the pool of the key if it has one."""
    any_scalar = st.one_of(
        st.sampled_from([*SCALARS, *NUMBERS, *DATES, *WORDS]),
        st.integers(-3, 3),
        st.floats(allow_nan=False, allow_infinity=False),
        _text,
    )
    return _mostly(st.sampled_from(_POOLS[key]), any_scalar) if key in _POOLS else any_scalar


def stored_values(key: str = "", depth: int = 2) -> st.SearchStrategy[Any]:
    """Values of metadata, mostly of the kind that the key usually holds."""
    any_value = _any_value()
    if key in ("list", "dates"):
        return _mostly(st.lists(stored_scalars(key), max_size=3), any_value)
    if key in _POOLS:
        return _mostly(stored_scalars(key), any_value)
    if key == "map" and depth > 0:
        return _mostly(_usual_metadata(depth - 1), any_value)
    return any_value


def _any_value() -> st.SearchStrategy[Any]:
    scalars = stored_scalars()
    flat = st.one_of(
        scalars,
        st.lists(scalars, max_size=3),
        st.dictionaries(keys(), scalars, max_size=3),
    )
    return st.one_of(flat, st.lists(flat, max_size=2), st.dictionaries(keys(), flat, max_size=2))


def _usual_metadata(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    usual = [key for key in COMMON_KEYS if depth > 0 or key != "map"]
    return st.fixed_dictionaries({}, optional={key: stored_values(key, depth) for key in usual})


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Metadata of a document: what JSON holds, under the common keys and a few odd ones."""
    odd = st.dictionaries(keys(), _any_value(), max_size=2)
    return st.builds(lambda usual, other: usual | other, _usual_metadata(2), odd)


def scalar_operands(key: str = "") -> st.SearchStrategy[Any]:
    """What a condition may compare with, lists aside, mostly from the pool of the key."""
    if _POOLS.get(key) is DATES:
        return _mostly(st.sampled_from([*DATES, *DATETIMES]), stored_scalars())
    return _mostly(stored_scalars(key), st.sampled_from(DATETIMES))


def list_operands(key: str = "") -> st.SearchStrategy[list[Any]]:
    """Lists for ``in``, ``nin``, ``any`` and ``all``."""
    return st.lists(scalar_operands(key), max_size=4)


def equality_operands(key: str = "") -> st.SearchStrategy[Any]:
    """What ``eq`` and ``ne`` compare with: scalars, and lists that may nest."""
    flat = st.lists(scalar_operands(key), max_size=2)
    if key in ("list", "dates"):
        return flat
    return _mostly(scalar_operands(key), st.one_of(flat, st.lists(flat, max_size=2)))


def operands(operator: Operator, key: str = "") -> st.SearchStrategy[Any]:
    """Values that the operator takes, before they are brought to canonical form."""
    match operator:
        case Operator.EQ | Operator.NE:
            return equality_operands(key)
        case Operator.GT | Operator.GTE | Operator.LT | Operator.LTE:
            has_order = lambda value: value is not None and not isinstance(value, bool)  # noqa: E731
            return scalar_operands(key).filter(has_order)
        case Operator.IN | Operator.NIN | Operator.ANY | Operator.ALL:
            return list_operands(key)
        case Operator.CONTAINS:
            return scalar_operands(key)
        case Operator.TEXT_MATCH | Operator.TEXT_MATCH_INSENSITIVE:
            parts = ["2024", "t", "z", "T00"] if _POOLS.get(key) is DATES else WORDS
            return _mostly(st.sampled_from(parts), _text)
        case Operator.EXISTS | Operator.IS_EMPTY:
            return st.booleans()


_LIST_PATHS = ["list", "dates", "map.list"]
_TEXT_PATHS = ["word", "date", "map.word", "map.date"]
_USUAL_PATHS = {
    Operator.CONTAINS: _LIST_PATHS,
    Operator.ANY: _LIST_PATHS,
    Operator.ALL: _LIST_PATHS,
    Operator.TEXT_MATCH: _TEXT_PATHS,
    Operator.TEXT_MATCH_INSENSITIVE: _TEXT_PATHS,
}


class _Echoes:
    """What filters can be made of so that they meet given documents: paths and their values."""

    def __init__(self, documents: Iterable[Mapping[str, Any]], *, dollar: bool) -> None:
        self.scalars: dict[str, list[Any]] = {}
        self.ordered: dict[str, list[Any]] = {}
        self.lists: dict[str, list[Any]] = {}
        self.elements: dict[str, list[Any]] = {}
        self.texts: dict[str, list[Any]] = {}
        self.paths: list[str] = []
        for document in documents:
            for path, value in _reachable(document):
                if dollar or not path.startswith("$"):
                    self._note(path, value)

    def _note(self, path: str, value: Any) -> None:
        self.paths.append(path)
        if value is MISSING:  # a key with a dot hides from, or is hidden by, nested ones
            return
        if isinstance(value, list):
            elements = [item for item in value if not isinstance(item, list | dict)]
            self.elements.setdefault(path, []).extend(elements)
            if len(elements) == len(value):
                self.lists.setdefault(path, []).append(value)
        elif not isinstance(value, dict):
            forms = [value, *_as_datetime(value)]
            self.scalars.setdefault(path, []).extend(forms)
            if value is not None and not isinstance(value, bool):
                self.ordered.setdefault(path, []).extend([*forms, *map(_neighbour, forms)])
            if isinstance(value, str):
                parts = [value, value[1:], value[:-1], value.upper(), value.swapcase()]
                self.texts.setdefault(path, []).extend(parts)

    def of(self, operator: Operator) -> dict[str, list[Any]]:
        """Operands, or elements of list operands, that are near what is stored, by path."""
        match operator:
            case Operator.EQ | Operator.NE:
                return self.scalars | self.lists
            case Operator.GT | Operator.GTE | Operator.LT | Operator.LTE:
                return self.ordered
            case Operator.IN | Operator.NIN:
                return self.scalars
            case Operator.CONTAINS | Operator.ANY | Operator.ALL:
                return {path: items for path, items in self.elements.items() if items}
            case Operator.TEXT_MATCH | Operator.TEXT_MATCH_INSENSITIVE:
                return self.texts
            case Operator.EXISTS | Operator.IS_EMPTY:
                return {path: [True, False] for path in self.paths}


def _reachable(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    waiting = list(document.items())
    while waiting:
        path, value = waiting.pop()
        yield path, lookup(document, path)
        if isinstance(value, dict):
            waiting.extend((f"{path}.{key}", item) for key, item in value.items())


def _as_datetime(value: Any) -> list[datetime]:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return []
    return [moment] if 1 < moment.year < 9999 else []


def _neighbour(value: float | str | datetime) -> Any:
    if isinstance(value, datetime):
        return value - timedelta(microseconds=1)
    if isinstance(value, str):
        return value[:-1]
    return value + 1 if value < 0 else value - 1


_LISTED = {Operator.IN, Operator.NIN, Operator.ANY, Operator.ALL}


@st.composite
def _echoing_conditions(
    draw: st.DrawFn, usable: Mapping[Operator, Sequence[tuple[str, list[Any]]]]
) -> Condition:
    operator = draw(st.sampled_from(sorted(usable)))
    path, values = draw(st.sampled_from(usable[operator]))
    operand = st.sampled_from(values)
    if operator in _LISTED:
        others = scalar_operands(path.rpartition(".")[2])
        return Condition(path, operator, draw(st.lists(_mostly(operand, others), max_size=4)))
    return Condition(path, operator, draw(operand))


@st.composite
def _free_conditions(draw: st.DrawFn, *, dollar: bool) -> Condition:
    operator = draw(st.sampled_from(Operator))
    path = paths(dollar=dollar)
    if operator in _USUAL_PATHS:
        path = _mostly(st.sampled_from(_USUAL_PATHS[operator]), path)
    field = draw(path)
    return Condition(field, operator, draw(operands(operator, field.rpartition(".")[2])))


def conditions(
    near: Iterable[Mapping[str, Any]] = (), *, dollar: bool = True
) -> st.SearchStrategy[Condition]:
    """Conditions with every operator; arguments as in :func:`filters`."""
    echoes = _Echoes(near, dollar=dollar)
    free = _free_conditions(dollar=dollar)
    usable = {each: tuple(by_path.items()) for each in Operator if (by_path := echoes.of(each))}
    return _mostly(_echoing_conditions(usable), free, 2) if usable else free


def filters(
    depth: int = 3, near: Iterable[Mapping[str, Any]] = (), *, dollar: bool = True
) -> st.SearchStrategy[Filter]:
    """Filters of at most ``depth`` levels.

    Args:
        depth: The most levels of and, or, not.
        near: Documents' metadata that most conditions take their paths and operands from.
        dollar: Whether paths may start with ``$``, which the dict form cannot say.
    """
    strategy: st.SearchStrategy[Filter] = conditions(near, dollar=dollar)
    leaves = strategy
    for _ in range(depth):
        children = st.lists(strategy, max_size=3).map(tuple)
        strategy = st.one_of(
            leaves, st.builds(And, children), st.builds(Or, children), st.builds(Not, strategy)
        )
    return strategy


@st.composite
def cases(draw: st.DrawFn, depth: int = 2, *, dollar: bool = True) -> tuple[Filter, dict[str, Any]]:
    """A filter, and metadata that it often has something to say about."""
    document = draw(metadata())
    return draw(filters(depth, [document], dollar=dollar)), document
