"""Which files a sync reads: the given files, and what is under the given folders."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from nearfield.errors import InvalidInputError
from nearfield.ingest.readers import format_of
from nearfield.ingest.report import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["FoundFile", "Selection", "find_files", "is_gone", "is_passed_over"]

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "CVS"})
_LOCK_PREFIX = "~$"  # what Word leaves beside an open document


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read.

    Attributes:
        source: Its absolute path, with ``/`` between the parts.
        size_bytes: Its size when it was found.
    """

    source: str
    size_bytes: int


@dataclass(slots=True)
class Selection:
    """What was found.

    Attributes:
        files: The files to read, each once, in a fixed order.
        roots: The files and folders that were looked at, as ``source`` spells them.
        missing: Roots that are not there, though the folder they should be in is.
        skipped: Files that were passed over: how many by suffix, or by another reason.
        failures: What could not be looked at.
    """

    files: list[FoundFile] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def covers(self, source: str) -> bool:
        """Whether a source is a root, present or missing, or under one that is present."""
        return source in self.missing or any(
            source == root or source.startswith(root if root.endswith("/") else f"{root}/")
            for root in self.roots
        )


def find_files(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Selection:
    """Look for files to read.

    Hidden files and folders are passed over, and so are ``node_modules``, ``__pycache__`` and
    symbolic links below a root; a root itself may be either. Files of a suffix that no reader
    knows are counted, unless they were named themselves: then they are failures.

    Args:
        sources: Files and folders.
        include: Patterns of which a file under a folder has to match one, when there are any.
        exclude: Patterns of files and folders to pass over. A pattern is matched against the name
            and the path from the root; ``*`` also matches ``/``.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    walk = _Walk(_patterns(include, "include"), _patterns(exclude, "exclude"))
    for source in given:
        walk.add_root(Path(source))
    return walk.selection


def is_passed_over(name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder of this name is left out without a word, as hidden ones are."""
    return name.startswith((".", _LOCK_PREFIX)) or (is_folder and name in _SKIPPED_FOLDERS)


def is_gone(source: str) -> bool:
    """Whether no file has this path now; False where that cannot be told."""
    try:
        return not stat.S_ISREG(os.stat(source).st_mode)  # noqa: PTH116  # the path is a string
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False


def _patterns(patterns: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(patterns, str):
        raise InvalidInputError(
            f"{name} is the string {patterns!r}; expected a list of patterns: {[patterns]!r}"
        )
    return tuple(pattern.rstrip("/") for pattern in patterns)


class _Walk:
    """Gathers files, root by root."""

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self.selection = Selection()
        self._include = include
        self._exclude = exclude
        self._taken: set[str] = set()

    def add_root(self, path: Path) -> None:
        # Resolved, so that one file has one source however its root is named.
        root = Path(os.path.realpath(path.expanduser()))
        try:
            mode = root.stat().st_mode
        except OSError as error:
            if isinstance(error, FileNotFoundError) and root.parent.is_dir():
                self.selection.missing.append(root.as_posix())
            self._fail(root, f"it cannot be opened: {error.strerror}")
            return
        self.selection.roots.append(root.as_posix())
        if stat.S_ISDIR(mode):
            self._add_folder(root)
        elif not stat.S_ISREG(mode):
            self._fail(root, "it is neither a file nor a folder")
        elif format_of(root.name) is None:
            self._fail(root, f"no reader knows the suffix {root.suffix!r}")
        else:
            self._add_file(root, root.stat().st_size)

    def _add_folder(self, root: Path) -> None:
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self._fail(folder, f"the folder cannot be listed: {error.strerror}")
                continue
            folders = [entry for entry in entries if self._look_at(entry, root)]
            pending.extend(Path(entry.path) for entry in reversed(folders))

    def _look_at(self, entry: os.DirEntry[str], root: Path) -> bool:
        """Take a file; return True for a folder to enter."""
        if is_passed_over(entry.name, is_folder=False):
            return False
        relative = PurePath(entry.path).relative_to(root).as_posix()
        if _matches(self._exclude, entry.name, relative):
            return False
        try:
            if entry.is_symlink():
                self.selection.skipped["symbolic link"] += 1
            elif entry.is_dir():
                return not is_passed_over(entry.name, is_folder=True)
            elif not entry.is_file():
                self.selection.skipped["special file"] += 1
            elif not self._include or _matches(self._include, entry.name, relative):
                self._take(entry)
        except OSError as error:
            self._fail(Path(entry.path), f"it cannot be opened: {error.strerror}")
        return False

    def _take(self, entry: os.DirEntry[str]) -> None:
        if format_of(entry.name) is None:
            suffix = PurePath(entry.name).suffix.lower()
            self.selection.skipped[suffix or "no suffix"] += 1
        else:
            self._add_file(Path(entry.path), entry.stat().st_size)

    def _add_file(self, path: Path, size_bytes: int) -> None:
        source = path.as_posix()
        if source in self._taken:
            return
        self._taken.add(source)
        try:
            source.encode("utf-8")
        except UnicodeEncodeError:
            self._fail(path, "its name is not UTF-8; rename it")
            return
        self.selection.files.append(FoundFile(source, size_bytes))

    def _fail(self, path: Path, reason: str) -> None:
        printable = path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
        self.selection.failures.append(Failure(printable, f"{printable}: {reason}"))


def _matches(patterns: tuple[str, ...], name: str, relative: str) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(relative, p) for p in patterns)
