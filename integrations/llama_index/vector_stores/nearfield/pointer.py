"""The file that ``persist`` writes: not data, which are durable already, but where they are.

``StorageContext.from_defaults(persist_dir=…)`` without a vector store takes every file of this
kind for one of the framework's in-memory store. It must not find an empty one there: what it reads
first is a text in place of a number, and the error it raises shows that text.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfield.errors import FormatVersionError, InvalidInputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Pointer"]

_VERSION = 1
_NOTICE = (
    "the vectors are in nearfield: pass "
    "vector_store=NearfieldVectorStore.from_persist_dir(persist_dir) to "
    "StorageContext.from_defaults"
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a collection is.

    Attributes:
        url: The database: a URL, an absolute path, or one relative to the folder of the file.
        name: The collection.
        dimension: That of its vectors, None while it is not known.
        metric: How they are compared; None for the default.
        exists: Whether the collection had been made when this was written.
        gone: Ids of IndexNodes and ImageNodes that were deleted; an index goes on listing them.
    """

    url: str
    name: str
    dimension: int | None
    metric: str | None
    exists: bool
    gone: tuple[str, ...] = ()

    def write(self, path: str, fs: AbstractFileSystem | None) -> None:
        """Write the file; a database below its folder may move together with it."""
        url = self.url
        if "://" not in url:
            folder = Path(url).expanduser().resolve()
            home = Path(path).resolve().parent
            is_below = fs is None and folder.is_relative_to(home)
            url = folder.relative_to(home).as_posix() if is_below else str(folder)
        content = {
            "embedding_dict": {"nearfield": [_NOTICE]},
            "nearfield": {"version": _VERSION, **asdict(self), "url": url},
        }
        text = json.dumps(content, indent=1)
        if fs is None:
            _replace(Path(path), text)
            return
        with contextlib.suppress(FileExistsError):
            fs.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120  a path of fs
        with fs.open(path, "w", encoding="utf-8") as file:
            file.write(text)

    @classmethod
    def read(cls, path: str, fs: AbstractFileSystem | None) -> Pointer:
        """Read the file, or raise ``InvalidInputError``."""
        try:
            if fs is None:
                content = json.loads(Path(path).read_text(encoding="utf-8"))
            else:
                with fs.open(path, "r", encoding="utf-8") as file:
                    content = json.load(file)
            fields = dict(content["nearfield"])
            version = fields.pop("version")
            if version != _VERSION:
                raise FormatVersionError(found=version, supported=_VERSION, path=path)
            pointer = cls(**fields)
        except FileNotFoundError:
            raise InvalidInputError(
                f"{path} is not there; StorageContext.persist writes it, and an existing "
                "collection opens without it: NearfieldVectorStore(url, name)"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{path} was not written by NearfieldVectorStore.persist: {error}; load it with "
                "the vector store that wrote it"
            ) from error
        return pointer

    def url_from(self, path: str) -> str:
        """Return the database's URL, as seen from the file at this path."""
        return self.url if "://" in self.url else str(Path(path).resolve().parent / self.url)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
