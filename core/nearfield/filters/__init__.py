"""The filter language: one tree, spelt with a builder or as a dict.

::

    F.year >= 2020                                 {"year": {"$gte": 2020}}
    (F.lang == "en") & ~F.tags.contains("draft")   {"lang": "en",
                                                    "$not": {"tags": {"$contains": "draft"}}}

What a filter means is the same on every store, and :func:`matches` is its reference:

- A comparison with a missing field, or with a value of another type, is false. ``ne`` and ``nin``
  are exactly the negations of ``eq`` and ``in``, so they match a missing field.
- Types are strings, numbers, bools, null and lists. A bool is not a number; int and float are one
  type, compared exactly. Strings are ordered by code point. Null equals only null. A list equals
  a list of equal elements. A nested mapping equals nothing.
- A datetime is compared, as an instant, with text that is a date or time in ISO 8601. Without a
  zone, both are UTC.
- A path such as ``author.name`` reaches into nested metadata; see :func:`lookup`.
"""

from nearfield.filters.builder import F, Field, Fields
from nearfield.filters.dict_form import parse
from nearfield.filters.evaluation import MISSING, Missing, condition_matches, instant_us, lookup
from nearfield.filters.operands import MAX_DEPTH, Operand, Operator, Scalar
from nearfield.filters.tree import (
    MAX_CONDITIONS,
    And,
    Condition,
    Filter,
    Not,
    Or,
    fields,
    matches,
)

__all__ = [
    "MAX_CONDITIONS",
    "MAX_DEPTH",
    "MISSING",
    "And",
    "Condition",
    "F",
    "Field",
    "Fields",
    "Filter",
    "Missing",
    "Not",
    "Operand",
    "Operator",
    "Or",
    "Scalar",
    "condition_matches",
    "fields",
    "instant_us",
    "lookup",
    "matches",
    "parse",
]
