"""Read the documents that LangChain's FAISS store pickled, without running what a pickle can hold.

A pickle is a program for a small machine, and one of its instructions calls whatever it names. The
reader here knows the instructions that build plain values, and four more, which it carries out in
its own way: a name is looked up in a table and stays a mark, an object is a mark with a state, and
what would be called is a time or refused. Nothing is imported, and no method of a class is run.
"""

from __future__ import annotations

import io
import pickle  # the only module that reads one; see above
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

from nearfield.documents import Document
from nearfield.errors import IngestError, InvalidDocumentError
from nearfield.validation import check_id, check_metadata, check_text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_docstore"]

_MAX_METADATA_VALUES = 1_000_000
"""In one document; a pickle of a few bytes can spell more than any memory holds."""
_SHOWN_CHARACTERS = 100


class _Mark(Enum):
    """What a name in the pickle stands for."""

    DOCSTORE = "docstore"
    DOCUMENT = "document"
    DATETIME = "datetime"
    DATE = "date"
    TIMEDELTA = "timedelta"
    TIMEZONE = "timezone"


_NAMES = {
    ("langchain_community.docstore.in_memory", "InMemoryDocstore"): _Mark.DOCSTORE,
    ("langchain.docstore.in_memory", "InMemoryDocstore"): _Mark.DOCSTORE,
    ("langchain_core.documents.base", "Document"): _Mark.DOCUMENT,
    ("langchain_core.documents", "Document"): _Mark.DOCUMENT,
    ("langchain.schema.document", "Document"): _Mark.DOCUMENT,
    ("langchain.schema", "Document"): _Mark.DOCUMENT,
    ("langchain.docstore.document", "Document"): _Mark.DOCUMENT,
    ("datetime", "datetime"): _Mark.DATETIME,
    ("datetime", "date"): _Mark.DATE,
    ("datetime", "timedelta"): _Mark.TIMEDELTA,
    ("datetime", "timezone"): _Mark.TIMEZONE,
}
"""Where the classes were in the versions of LangChain."""

_TIMES: dict[_Mark, Any] = {
    _Mark.DATETIME: datetime,
    _Mark.DATE: date,
    _Mark.TIMEDELTA: timedelta,
    _Mark.TIMEZONE: timezone,
}


@dataclass(slots=True, eq=False)
class _Object:
    mark: _Mark
    state: Any = None


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The pickle does something that no docstore needs."""


_PLAIN = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8,
    pickle.BINBYTES, pickle.SHORT_BINBYTES,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS,
    pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS,
    pickle.EMPTY_SET, pickle.ADDITEMS,
    pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.GLOBAL, pickle.STACK_GLOBAL,  # both ask find_class
)  # fmt: skip
"""Instructions as Python's own reader carries them out."""


class _Instructions(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise _Refused(f"the instruction {code:#04x}")


# The reader that is written in Python, as its instructions can be chosen one by one.
_PythonUnpickler: Any = pickle._Unpickler  # noqa: SLF001


class _Reader(_PythonUnpickler):  # type: ignore[misc]
    """Builds plain values and marked objects, and refuses everything else."""

    dispatch = _Instructions(
        (instruction[0], _PythonUnpickler.dispatch[instruction[0]]) for instruction in _PLAIN
    )

    def find_class(self, module: str, name: str) -> _Mark:
        mark = _NAMES.get((module, name))
        if mark is None:
            raise _Refused(ascii(f"{module}.{name}"[:_SHOWN_CHARACTERS]))
        return mark

    def load_newobj(self) -> None:
        arguments, mark = self.stack.pop(), self.stack.pop()
        if mark not in (_Mark.DOCSTORE, _Mark.DOCUMENT) or arguments != ():
            raise _Refused("an object made with arguments")
        self.append(_Object(mark))

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if type(made) is not _Object or type(state) is not dict or made.state is not None:
            raise _Refused("a state for what has none")
        made.state = state

    def load_reduce(self) -> None:
        arguments, mark = self.stack.pop(), self.stack.pop()
        self.append(_moment(mark, arguments))

    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce


def _moment(mark: Any, arguments: object) -> object:
    """Rebuild a time from the arguments that ``datetime`` pickles."""
    match mark, arguments:
        case (
            (_Mark.DATETIME | _Mark.DATE, (bytes(),))
            | (_Mark.DATETIME, (bytes(), timezone()))
            | (_Mark.TIMEDELTA, (int(), int(), int()))
            | (_Mark.TIMEZONE, (timedelta(),) | (timedelta(), str()))
        ):
            return _TIMES[mark](*arguments)
    raise _Refused("a call")


def read_docstore(path: Path) -> tuple[dict[str, Document], dict[int, str]]:
    """Read the ``.pkl`` file of a LangChain FAISS store.

    Returns:
        The documents by id, and the ids by position in the index.

    Raises:
        IngestError: It is not what LangChain writes, or has in it what a collection cannot keep.
    """
    try:
        content = _Reader(io.BytesIO(path.read_bytes())).load()
    except _Refused as refusal:
        raise IngestError(
            f"{path} was refused: it has {refusal} in it, which LangChain's FAISS store does not "
            "write for plain documents, and a pickle can run any program. If the file is yours, "
            "make the metadata plain values (text, numbers, times, lists, dicts) and save it again",
            source=str(path),
        ) from None
    # What Python's reader meets in a file that is cut short or makes no sense.
    except (
        pickle.UnpicklingError, struct.error, EOFError, LookupError, TypeError, ValueError,
        AttributeError, ArithmeticError, AssertionError, RecursionError,
    ) as error:  # fmt: skip
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    match content:
        case (_Object(_Mark.DOCSTORE, {"_dict": dict(stored)}), dict(ids)):
            documents = {
                identifier: _document(path, identifier, each) for identifier, each in stored.items()
            }
            for position, identifier in ids.items():
                if type(position) is not int or type(identifier) is not str:
                    raise _unreadable(path, f"{identifier!a} is no id, or {position!a} no position")
            return documents, ids
    raise _unreadable(path, "it holds something else than documents and their positions")


def _document(path: Path, identifier: object, stored: object) -> Document:
    match stored:
        # Pydantic keeps the fields under __dict__, with records of its own beside them.
        case _Object(_Mark.DOCUMENT, {"__dict__": {"page_content": text, **fields}}):
            metadata = fields.get("metadata") or {}
        case _:
            raise _unreadable(path, f"under the id {identifier!a} is no document")
    _refuse_endless(path, identifier, metadata)
    try:
        return Document(
            check_text(text), id=check_id(identifier), metadata=check_metadata(metadata)
        )
    except InvalidDocumentError as error:
        raise IngestError(
            f"document {identifier!a} in {path} cannot be kept: {error}", source=str(path)
        ) from error


def _refuse_endless(path: Path, identifier: object, metadata: object) -> None:
    """Refuse metadata that hold themselves, or parts of themselves over and over."""
    pending, values = [metadata], 0
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list | tuple):
            values += len(value)
            if values > _MAX_METADATA_VALUES:
                raise _unreadable(path, f"the metadata of {identifier!a} have no end")
            pending += value.values() if isinstance(value, dict) else value


def _unreadable(path: Path, detail: str) -> IngestError:
    return IngestError(
        f"{path} is not the .pkl file of a LangChain FAISS store ({detail}); expected what "
        "FAISS.save_local wrote",
        source=str(path),
    )
