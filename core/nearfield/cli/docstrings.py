"""The docstrings of Python's standard library: real text that every machine already holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import platform
import sysconfig
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.documents import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["compiled_docstrings", "source_docstrings", "standard_library"]

# Tests, applications, code tables, GUI bindings, what recent Pythons have dropped, and what is the
# inside of something else: they would be half of the documents and answer few questions.
_SKIPPED = frozenset(
    {
        *("__pycache__", "config", "dist-packages", "lib-dynload", "site-packages"),
        *("idle_test", "idlelib", "test", "tests", "tkinter", "turtledemo"),
        *("distutils", "encodings", "ensurepip", "lib2to3", "msilib", "pydoc_data", "turtle"),
        *("aifc", "asynchat", "asyncore", "cgi", "cgitb", "chunk", "imghdr", "imp", "mailcap"),
        *("nntplib", "pipes", "smtpd", "sndhdr", "sunau", "telnetlib", "uu", "xdrlib"),
        *("bdb", "mailbox", "pdb", "pickletools", "pydoc", "symtable", "unix_events"),
        *("popen_fork", "popen_forkserver", "popen_spawn_posix", "popen_spawn_win32"),
        *("proactor_events", "selector_events", "windows_events", "windows_utils"),
    }
)

# Written in C, wholly or in the parts people use, so that no source holds their docstrings.
# Importing them is harmless: each is a plain library.
_COMPILED = (
    *("builtins", "array", "binascii", "bisect", "cmath", "collections", "csv", "datetime"),
    *("decimal", "errno", "functools", "gc", "hashlib", "heapq", "io", "itertools", "json"),
    *("marshal", "math", "operator", "os", "random", "re", "select", "socket", "sqlite3"),
    *("struct", "sys", "threading", "time", "unicodedata", "weakref", "zlib"),
)

# The C modules whose names a public module passes on as its own.
_BEHIND = {"os": ("posix", "nt"), "threading": ("_thread",)}


def standard_library(limit: int | None = None) -> list[Document]:
    """Gather the standard library's docstrings: modules, classes, functions and methods.

    Sources are parsed, never run; only C modules of a fixed list are imported. A document's id is
    the qualified name, its text the signature and the docstring, and its metadata ``title``,
    ``module``, ``kind`` (module, class, function or method), ``python`` and, from a source,
    ``line``.

    Args:
        limit: The most documents to return; None means all.

    Returns:
        Some 4,500 documents in a fixed order, with unique ids.
    """
    found: dict[str, Document] = {}
    for documents in (source_docstrings(), compiled_docstrings()):
        for document in documents:
            found.setdefault(document.id, document)
            if limit is not None and len(found) >= limit:
                return list(found.values())
    return list(found.values())


def compiled_docstrings(modules: Iterable[str] = _COMPILED) -> Iterator[Document]:
    """Yield the docstrings of modules that are compiled, as the interpreter holds them."""
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError:  # an interpreter may be built without it
            continue
        for attribute, value in _public(vars(module)):
            homes = {name, f"_{name}", *_BEHIND.get(name, ())}
            if getattr(value, "__module__", None) not in homes or (
                getattr(value, "__name__", None) != attribute
            ):
                continue  # documented where it is defined, under its own name
            if inspect.isclass(value):
                yield from _compiled_class(value, module=name, name=attribute)
            elif inspect.isbuiltin(value):
                yield from _document(
                    value.__doc__,
                    module=name,
                    name=attribute,
                    kind="function",
                    signature=_signature(value),
                )


def _compiled_class(cls: type, *, module: str, name: str) -> Iterator[Document]:
    yield from _document(
        cls.__doc__, module=module, name=name, kind="class", signature=_signature(cls)
    )
    for attribute, _ in _public(vars(cls)):
        member = getattr(cls, attribute, None)
        if inspect.ismethoddescriptor(member) or inspect.isbuiltin(member):
            yield from _document(
                member.__doc__,
                module=module,
                name=f"{name}.{attribute}",
                kind="method",
                signature=_signature(member),
            )


def _public(names: Iterable[Any]) -> list[tuple[str, Any]]:
    members = dict(names)  # a copy: a module may gain names while it is read
    return sorted((key, value) for key, value in members.items() if not key.startswith("_"))


def _signature(value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):  # many C functions tell theirs in the docstring only
        return ""
    for receiver in ("self", "type"):
        signature = signature.replace(f"({receiver}, /, ", "(").replace(f"({receiver}, /", "(")
        signature = signature.replace(f"({receiver}, ", "(")
    return signature


def source_docstrings(root: Path | None = None) -> Iterator[Document]:
    """Yield the docstrings in the standard library's sources.

    Args:
        root: The folder of sources; None means this interpreter's own.
    """
    folder = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not parts or any(_is_skipped(part) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # doubtful escapes in others' code
                tree = ast.parse(path.read_bytes(), filename=str(path))
        except (OSError, SyntaxError, ValueError):
            continue  # templates and the like
        module = ".".join(parts)
        yield from _document(ast.get_docstring(tree), module=module, kind="module", line=1)
        yield from _members(tree, module=module)


def _is_skipped(part: str) -> bool:
    return part.startswith(("_", "config-")) or part in _SKIPPED


def _members(node: ast.Module | ast.ClassDef, *, module: str, name: str = "") -> Iterator[Document]:
    inside_class = isinstance(node, ast.ClassDef)
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_"):
            continue
        qualified = f"{name}.{child.name}" if name else child.name
        if isinstance(child, ast.ClassDef):
            kind, signature = "class", ""
        else:
            kind = "method" if inside_class else "function"
            signature = _parsed_signature(child, is_method=inside_class)
        yield from _document(
            ast.get_docstring(child),
            module=module,
            name=qualified,
            kind=kind,
            signature=signature,
            line=child.lineno,
        )
        if isinstance(child, ast.ClassDef):
            yield from _members(child, module=module, name=qualified)


def _parsed_signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> str:
    arguments = ast.unparse(node.args)
    if is_method:
        for receiver in ("self", "cls"):
            if arguments == receiver or arguments.startswith(f"{receiver}, "):
                arguments = arguments[len(receiver) :].removeprefix(", ")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({arguments}){returns}"


def _document(
    docstring: str | None,
    *,
    module: str,
    kind: str,
    name: str = "",
    signature: str = "",
    line: int | None = None,
) -> Iterator[Document]:
    text = inspect.cleandoc(docstring or "").strip()
    if not text:
        return
    # People write len(), not builtins.len().
    qualified = ".".join(part for part in (module.removeprefix("builtins"), name) if part)
    metadata = {
        "title": qualified,
        "module": module,
        "kind": kind,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    yield Document(
        f"{qualified}{signature}\n\n{text}",
        id=qualified,
        metadata=metadata if line is None else {**metadata, "line": line},
    )
