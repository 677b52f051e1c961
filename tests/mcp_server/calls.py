"""Calls that a fuzzer makes, from the schemas that a server lists: valid ones and hostile ones."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pydantic_core

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Calls", "sendable"]

_MOST_ITEMS = 4
_SHARE_OF_VALID = 0.5
_WORDS = (
    "kettle water boil manual chunk note year author who why Überzug 水壶 🫖 and the of".split()
)
_FIELDS = ["n", "year", "tags", "author.name", "source", "chunk", "ok", "none", "no such field"]
_COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
_LISTS = ["$in", "$nin", "$any", "$all"]
_ONE_OF = [{"texts", "paths", "urls"}, {"ids", "filter"}]
_ALMOST_CURSORS = ["-1.x", "0.", "99999999999999999999.abc", "1.0", ".", "10001.000000000000"]


def _nested(depth: int, value: Any, around: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        value = around(value)
    return value


_HOSTILE_TEXTS = [
    *(
        "",
        " ",
        "\n",
        "\0",
        "kettle\0water",
        "\ud800",
        "kettle \udfff",
        "\ufeff",
        "\u202ekettle",
        "e\u0301" * 50,
    ),
    *("kettle " * 20_000, "A" * 200_000, "🫖" * 30_000, "\\" * 1_000, "%" * 1_000),
    *(
        "../../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "~",
        "//",
        "C:\\Windows\\win.ini",
        "/dev/zero",
    ),
    *(
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "javascript:1",
    ),
    *("'; DROP TABLE documents; --", '" OR 1=1 --', "x' UNION SELECT * FROM sqlite_master --"),
    *(
        "NEAR(",
        "NOT AND OR",
        '"',
        "kettle*",
        "text:kettle",
        "^kettle",
        "-kettle",
        "(((",
        "{kettle}",
    ),
    *(
        "null",
        "true",
        "[]",
        "{}",
        "NaN",
        "1e309",
        "0",
        "-1",
        '{"$eq": 1}',
        "[" * 100_000,
        '{"a":' * 5_000,
    ),
    *("{tenant}", "{collection}", "%s%n%x", "${HOME}", "$(id)", "{{7*7}}", "<script>", "\x1b[2J"),
    *(
        "nearfield://",
        "nearfield:///",
        "nearfield://%00/%00",
        "nearfield://../x",
        "nearfield://%",
        "NEARFIELD://a/b",
    ),
]
_HOSTILE_VALUES: list[Any] = [
    *(None, True, False, 0, -0.0, -1, 1, 51, 501, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400),
    *(0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *([], {}, [[]], [{}], [None], {"": None}, {"a": {"b": {"c": []}}}, ["kettle"] * 3_000),
    _nested(100, "x", lambda inner: [inner]),
    _nested(100, "x", lambda inner: {"a": inner}),
]


def sendable(value: Any) -> bool:
    """Whether an ordinary client can put a value on the wire: some text and depth is too much."""
    try:
        pydantic_core.to_json(value)
    except ValueError:
        return False
    return True


class Calls:
    """Makes calls, the same ones for the same random source.

    Args:
        source: Where chance comes from.
        names: Names, ids, URIs and paths that mean something, by the argument they are for; those
            under ``"*"`` are tried everywhere, and nothing may be reached through them.
    """

    def __init__(self, source: random.Random, names: Mapping[str, Sequence[str]]) -> None:
        self._source = source
        self._names = dict(names)
        self._unfinished: dict[str, dict[str, Any]] = {}

    def go_on(self, tool: str, arguments: dict[str, Any], cursor: str | None) -> None:
        """Remember that an answer goes on, to ask for the rest some time."""
        if cursor is not None:
            self._unfinished[tool] = {**arguments, "cursor": cursor}

    def tool(self, inputs: Mapping[str, Mapping[str, Any]]) -> str:
        """Return one of the tools, those that take more arguments more often."""
        weights = [1 + len(schema.get("properties", ())) for schema in inputs.values()]
        return self._source.choices(list(inputs), weights)[0]

    def arguments(self, tool: str, schema: Mapping[str, Any]) -> tuple[Any, bool]:
        """Return arguments for a tool, and whether they fit its schema."""
        source = self._source
        if tool in self._unfinished and source.random() < 0.2:
            return self._unfinished.pop(tool), True
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        share = source.choice([0.1, 0.2, 0.5])
        chosen = [name for name in properties if name in required or source.random() < share]
        for group in _ONE_OF:
            if group <= set(properties):
                one = source.choice(sorted(group))
                chosen = [name for name in chosen if name not in group] + [one]
        if "collection" in properties and "collection" not in chosen and source.random() < 0.8:
            chosen.append("collection")
        chosen = [name for name in chosen if name != "cursor"]  # only an answer has one to go on
        arguments = {name: self.valid(properties[name], schema, name) for name in chosen}
        if source.random() < _SHARE_OF_VALID:
            return arguments, True
        for name in source.sample(list(properties), min(len(properties), source.choice([1, 1, 2]))):
            if source.random() < 0.3:
                arguments[name] = self._spoilt(self.valid(properties[name], schema, name), name)
            else:
                arguments[name] = self.hostile(name)
        if source.random() < 0.1:
            arguments[source.choice(["colection", "_meta", "ctx", "self", "", "\0", "tenant"])] = 1
        if arguments and source.random() < 0.1:
            del arguments[source.choice(list(arguments))]
        return arguments, False

    def valid(self, schema: Mapping[str, Any], root: Mapping[str, Any], name: str = "") -> Any:
        """Return a value that fits a schema."""
        source = self._source
        if "$ref" in schema:
            return self.valid(root["$defs"][schema["$ref"].rpartition("/")[2]], root, name)
        if "anyOf" in schema:
            kinds = sorted(schema["anyOf"], key=lambda kind: kind.get("type") == "null")
            return self.valid(source.choice([kinds[0], *kinds, *kinds[:-1]]), root, name)
        if "const" in schema or "enum" in schema:
            return source.choice(schema.get("enum") or [schema["const"]])
        make = {
            "string": lambda: self._valid_text(schema, name),
            "integer": lambda: self._valid_integer(schema),
            "number": lambda: self._valid_number(schema),
            "boolean": lambda: source.random() < 0.5,
            "null": lambda: None,
            "array": lambda: self._valid_list(schema, root, name),
            "object": lambda: self._valid_object(schema, root),
        }[schema["type"]]
        return make()

    def _valid_text(self, schema: Mapping[str, Any], name: str) -> str:
        source = self._source
        if known := self._names.get(name):
            return source.choice(known)
        words = " ".join(source.choices(_WORDS, k=source.randint(1, 6)))
        return words[: schema.get("maxLength")]

    def _valid_number(self, schema: Mapping[str, Any]) -> float:
        least, most = schema.get("minimum", -1.5), schema.get("maximum", 1e9)
        return self._source.choice(
            [least, most, *(n for n in (0, 0.01, 0.3) if least <= n <= most)]
        )

    def _valid_integer(self, schema: Mapping[str, Any]) -> int:
        least = schema.get("minimum", -5)
        most = schema.get("maximum", max(least, 0) + 200)
        return self._source.choice([least, most, self._source.randint(least, most)])

    def _valid_list(self, schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Any:
        least = schema.get("minItems", 0)
        count = self._source.randint(least, max(least, min(schema.get("maxItems", 9), _MOST_ITEMS)))
        items = schema.get("items", {"type": "string"})
        return [self.valid(items, root, name) for _ in range(count)]

    def _valid_object(self, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
        if "properties" in schema:
            required = set(schema.get("required", ()))
            return {
                key: self.valid(inner, root, key)
                for key, inner in schema["properties"].items()
                if key in required or self._source.random() < 0.5
            }
        return self.filter(3)

    def filter(self, depth: int) -> dict[str, Any]:
        """Return a filter, right or nearly so."""
        source = self._source
        kind = source.random()
        if depth and kind < 0.2:
            inner = [self.filter(depth - 1) for _ in range(source.randint(0, 3))]
            return {source.choice(["$and", "$or"]): inner}
        if depth and kind < 0.3:
            return {"$not": self.filter(depth - 1)}
        field = source.choice(_FIELDS)
        value = source.choice([3, 2020, 1.5, True, "kitchen", "manual.md", "Ann"])
        if kind < 0.5:
            return {field: {source.choice(_LISTS): [value, "t0", 7][: source.randint(0, 3)]}}
        if kind < 0.6:
            return {field: {source.choice(["$exists", "$contains", "$text_match", "$like"]): value}}
        if kind < 0.7:
            return {field: value}
        return {field: {source.choice(_COMPARISONS): value}}

    def _spoilt(self, value: Any, name: str) -> Any:
        """Put something hostile somewhere into a value."""
        if isinstance(value, dict) and value:
            key = self._source.choice(list(value))
            return {**value, key: self._spoilt(value[key], key)}
        if isinstance(value, list) and value:
            place = self._source.randrange(len(value))
            return [*value[:place], self._spoilt(value[place], name), *value[place + 1 :]]
        return self.hostile(name)

    def hostile(self, name: str) -> Any:
        """Return a value made to break what takes it."""
        source = self._source
        kind = source.random()
        if name == "filter" and kind < 0.8:
            return self._hostile_filter()
        if name == "cursor" and kind < 0.5:
            text = source.choice(_ALMOST_CURSORS).encode()
            return source.choice([base64.urlsafe_b64encode(text).decode(), "=", "é", "a" * 5_000])
        if kind < 0.45:
            return source.choice(_HOSTILE_TEXTS)
        if kind < 0.6:
            return source.choice(self._names["*"])
        if kind < 0.7:
            return "".join(chr(source.randrange(0x110000)) for _ in range(source.randint(1, 40)))
        return source.choice(_HOSTILE_VALUES)

    def hostile_text(self) -> str:
        """Return a text that may be hostile, or one that reaches for what is out of bounds."""
        return self._source.choice([*filter(sendable, _HOSTILE_TEXTS), *self._names["*"] * 3])

    def _hostile_filter(self) -> Any:
        source = self._source
        field = source.choice(
            [*_FIELDS, "", ".", "a.b.c.d.e", "'", '"', "$", "$$", "\0", "\ud800", "n" * 5_000]
        )
        value = source.choice([*_HOSTILE_VALUES, *_HOSTILE_TEXTS])
        operator = source.choice(
            [*_COMPARISONS, *_LISTS, "$exists", "$regex", "$where", "$", "$not", "$text_match"]
        )
        return source.choice(
            [
                {field: value},
                {field: {operator: value}},
                {operator: value},
                {"$and": value},
                {"$not": {"$not": value}},
                {field: {operator: value, "$eq": value}},
                {field: {"$in": list(range(source.choice([1_000, 40_000])))}},
                {"$or": [{"n": n} for n in range(source.choice([100, 2_000]))]},
                _nested(100, {field: value}, lambda inner: {"$not": inner}),
                _nested(100, {field: value}, lambda inner: {"$and": [inner, {"n": 1}]}),
                _nested(source.choice([100, 400]), {"n": 1}, lambda inner: {"$or": [inner]}),
                _nested(100, {operator: value}, lambda inner: {"a": inner}),
                json.dumps({field: {operator: str(value)}}),
            ]
        )
