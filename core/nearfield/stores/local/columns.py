"""Metadata as columns: a filter is evaluated once per distinct value, not once per document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearfield.filters import MISSING, And, Condition, Not, Operator, Or, condition_matches
from nearfield.stores.local.arrays import GrowingArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfield.filters import Filter, Operand

    BoolArray = NDArray[np.bool_]

__all__ = ["Column", "filter_mask"]

_EXACT_IN_FLOAT64 = 2**53
_RELATIONS: dict[Operator, Any] = {
    Operator.GT: np.greater,
    Operator.GTE: np.greater_equal,
    Operator.LT: np.less,
    Operator.LTE: np.less_equal,
}


class Column:
    """One metadata field of every row, dictionary-coded.

    Append-only, so that readers of an older snapshot need no lock: codes are written before the
    row count that makes them visible.
    """

    def __init__(self) -> None:
        self._codes = GrowingArray(np.int32)
        self._values: list[Any] = []
        self._code_of: dict[object, int] = {}
        self._numbers: NDArray[np.float64] | None = np.empty(0)  # None: some don't fit float64
        self._elements = GrowingArray(np.int32, 2)  # of distinct lists: (element's code, list's)
        self._element_code_of: dict[object, int] = {}

    def extend(self, values: Iterable[Any]) -> None:
        """Append a value, or ``MISSING``, for each new row."""
        known = len(self._values)
        codes = np.fromiter(map(self._code, values), np.int32)
        self._index_elements(known)
        self._codes.extend(codes)

    def select(self, positions: NDArray[np.int64]) -> Column:
        """Return a column of some of the rows, sharing nothing that is ever written again."""
        column = Column()
        values = self._values
        codes = self._codes.view()[positions].tolist()
        column.extend(MISSING if code < 0 else values[code] for code in codes)
        return column

    def mask(self, condition: Condition, count: int) -> BoolArray:
        """Evaluate a condition on the first ``count`` rows."""
        return np.asarray(self._table(condition)[self._codes.view()[:count]])

    def _code(self, value: object) -> int:
        if value is MISSING:
            return -1
        key = _key(value)
        code = self._code_of.get(key)
        if code is None:
            code = len(self._values)
            self._values.append(value)
            self._code_of[key] = code
        return code

    def _index_elements(self, after: int) -> None:
        """Note what the distinct lists from a code on hold."""
        code_of = self._element_code_of
        elements = [
            (code_of.setdefault(_key(element), len(code_of)), code)
            for code, value in enumerate(self._values[after:], start=after)
            if isinstance(value, list)
            for element in value
        ]
        if elements:
            self._elements.extend(np.array(elements, np.int32))

    def _holders(self, operands: Iterable[Operand], count: int) -> BoolArray:
        """Tell which distinct values are lists that hold any of some plain operands."""
        elements = self._elements.view()
        wanted = [self._element_code_of.get(_key(operand), -1) for operand in operands]
        owners = elements[np.isin(elements[:, 0], wanted), 1]
        held = np.zeros(count, np.bool_)
        held[owners[owners < count]] = True  # a writer may be adding more
        return held

    def _table(self, condition: Condition) -> BoolArray:
        """Return the outcome for each distinct value, and for a missing one at index −1."""
        operator, operand = condition.operator, condition.value
        count = len(self._values)
        table = np.empty(count + 1, np.bool_)
        if operator in {Operator.EQ, Operator.NE} and _is_plain(operand):
            self._mark(table, (operand,), negate=operator is Operator.NE)
        elif operator in {Operator.IN, Operator.NIN} and all(map(_is_plain, operand)):
            self._mark(table, operand, negate=operator is Operator.NIN)
        elif operator is Operator.CONTAINS and _is_plain(operand):
            table[:-1] = self._holders((operand,), count)
        elif operator is Operator.ANY and all(map(_is_plain, operand)):
            table[:-1] = self._holders(operand, count)
        elif operator is Operator.ALL and operand and all(map(_is_plain, operand)):
            table[:-1] = np.logical_and.reduce([self._holders((item,), count) for item in operand])
        elif operator in _RELATIONS and (numbers := self._as_numbers(operand, count)) is not None:
            _RELATIONS[operator](numbers, operand, out=table[:-1])
        else:
            values = self._values[:count]
            table[:-1] = [condition_matches(operator, operand, value) for value in values]
        table[-1] = condition_matches(operator, operand, MISSING)
        return table

    def _mark(self, table: BoolArray, operands: Iterable[Operand], *, negate: bool) -> None:
        table[:] = negate
        for operand in operands:
            code = self._code_of.get(_key(operand))
            if code is not None and code < len(table) - 1:
                table[code] = not negate

    def _as_numbers(self, operand: object, count: int) -> NDArray[np.float64] | None:
        """Return the distinct values as numbers, NaN for others; None where that is not exact."""
        if not _fits_float64(operand):
            return None
        numbers = self._numbers
        if numbers is not None and len(numbers) < count:
            values = self._values[len(numbers) : count]
            if all(_fits_float64(value) or not _is_number(value) for value in values):
                new = [value if _is_number(value) else np.nan for value in values]
                numbers = np.concatenate([numbers, np.array(new, np.float64)])
            else:
                numbers = None
            self._numbers = numbers
        return None if numbers is None else numbers[:count]


def filter_mask(filter: Filter, columns: Mapping[str, Column], count: int) -> BoolArray:
    """Evaluate a filter on the first ``count`` rows."""
    if isinstance(filter, Condition):
        return columns[filter.field].mask(filter, count)
    if isinstance(filter, Not):
        return ~filter_mask(filter.child, columns, count)
    if isinstance(filter, And | Or):
        join = np.logical_and if isinstance(filter, And) else np.logical_or
        mask = np.full(count, isinstance(filter, And))
        for child in filter.children:
            join(mask, filter_mask(child, columns, count), out=mask)
        return mask
    raise TypeError(f"unknown filter node {type(filter).__name__}")


def _key(value: object) -> object:
    """Return what is equal for two values exactly when the filter language calls them equal."""
    if type(value) is str:  # most are
        return value
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, list | tuple | dict):
        return bytes, msgspec.json.encode(value)
    return value


def _is_plain(operand: object) -> bool:
    """Whether equality with the operand is equality of keys; not so for datetimes and lists."""
    return operand is None or isinstance(operand, str | int | float)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits_float64(value: object) -> bool:
    if not _is_number(value):
        return False
    return isinstance(value, float) or -_EXACT_IN_FLOAT64 <= value <= _EXACT_IN_FLOAT64  # type: ignore[operator]
