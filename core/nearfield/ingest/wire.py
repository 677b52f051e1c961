"""What crosses the pipe to a local worker, as MessagePack: plain values, and what the tasks need.

Plain Python objects would cross by pickle; here nothing is made but what this module names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from typing import IO, Any

import msgspec
import numpy as np

from nearfield import errors
from nearfield.documents import Document
from nearfield.errors import NearfieldError, WorkerError
from nearfield.ingest.chunkers import ChunkerSettings
from nearfield.ingest.entries import Entry, Markup, Section
from nearfield.ingest.source_files import FileContent
from nearfield.ingest.worker import Equipment, Part

__all__ = ["function", "name_of", "packed", "receive"]

_VALUES = {
    kind.__name__: kind
    for kind in (ChunkerSettings, Document, Entry, Equipment, FileContent, Part, Section)
}
_LENGTH = struct.Struct(">Q")
_INT64_MAX = (1 << 63) - 1


def packed(value: Any) -> bytes:
    """Return what :func:`receive` reads a value from.

    Raises:
        TypeError: It holds what does not cross.
    """
    data = msgspec.msgpack.encode(_plain(value))
    return _LENGTH.pack(len(data)) + data


def receive(stream: IO[bytes]) -> Any:
    """Read a value, or raise ``EOFError`` where the other end is gone."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _whole(msgspec.msgpack.decode(_exactly(stream, length)))


def name_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the names of a function's module and of the function."""
    return function.__module__, function.__qualname__


def function(module: str, name: str) -> Callable[..., Any]:
    """Return the function of a name."""
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _plain(value: Any) -> Any:
    """Return scalars as they are, and anything else as a list that begins with its kind."""
    plain: Any
    match value:
        case Markup():
            plain = ["markup", value.value]
        case int() if abs(value) > _INT64_MAX:
            plain = ["int", str(value)]
        case None | str() | bytes() | bool() | int() | float():
            plain = value
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            plain = [kind, *map(_plain, value)]
        case Mapping():
            plain = ["mapping", *([_plain(key), _plain(each)] for key, each in value.items())]
        case datetime():
            plain = ["datetime", value.isoformat()]
        case np.ndarray():
            plain = ["array", value.dtype.str, list(value.shape), value.tobytes()]
        case NearfieldError():
            plain = _plain_error(value)
        case _:
            plain = _plain_dataclass(value)
    return plain


def _plain_error(error: NearfieldError) -> list[Any]:
    if getattr(errors, type(error).__name__, None) is not type(error):
        error = WorkerError(str(error))
    return ["error", type(error).__name__, _plain(error.args), _plain(error.__dict__)]


def _plain_dataclass(value: Any) -> list[Any]:
    kind = type(value).__name__
    if _VALUES.get(kind) is not type(value):
        raise TypeError(f"{kind} does not cross to a worker")
    return [kind, *(_plain(getattr(value, each.name)) for each in fields(value))]


def _whole(plain: Any) -> Any:
    """Return what :func:`_plain` was given."""
    if not isinstance(plain, list):
        return plain
    kind, *rest = plain
    value: Any
    match kind:
        case "list":
            value = [_whole(each) for each in rest]
        case "tuple":
            value = tuple(_whole(each) for each in rest)
        case "mapping":
            value = {_whole(key): _whole(each) for key, each in rest}
        case "array":
            dtype, shape, data = rest
            value = np.frombuffer(data, dtype).reshape(shape).copy()
        case "error":
            name, args, state = rest
            error = getattr(errors, name)
            value = error.__new__(error, *_whole(args))
            value.args = _whole(args)
            value.__dict__.update(_whole(state))
        case "markup":
            value = Markup(rest[0])
        case "int":
            value = int(rest[0])
        case "datetime":
            value = datetime.fromisoformat(rest[0])
        case _:
            value = _VALUES[kind](*map(_whole, rest))
    return value
