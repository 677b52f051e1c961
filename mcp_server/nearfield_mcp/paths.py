"""The files that may be ingested: those below allowed folders, and nothing a link leads to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mcp.server.mcpserver.exceptions import ToolError

from nearfield_mcp.opening import Access, Kind, NotReadableError, Place, access_of_this_system

__all__ = ["AllowedFolders", "FileLimits", "FoundPath", "FoundPaths", "PathRefusedError"]

_SHOWN_CHARS = 200
_MAX_DEPTH = 64
_MAX_ENTRIES_PER_FILE = 20


class PathRefusedError(ToolError):
    """A path may not be read; the message does not tell whether it exists."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much one ingest may read."""

    max_files: int = 20_000
    max_file_bytes: int = 64 * 2**20
    max_total_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class FoundPath:
    """A file to read."""

    place: Place
    size_bytes: int


@dataclass(slots=True)
class FoundPaths:
    """What was found below the paths that were asked for.

    Attributes:
        files: Each once, in a fixed order.
        skipped: Files that were passed over: how many by suffix, or by another reason.
        failures: Source and reason of what could not be looked at.
    """

    files: list[FoundPath] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)


class AllowedFolders:
    """Finds and reads files below folders that the operator allowed.

    Args:
        folders: Existing folders; a link among them is resolved once, here.
        limits: How much one ingest may read.
        access: How files are opened; None for the strictest way that the system offers.
    """

    def __init__(
        self,
        folders: Iterable[str | Path],
        *,
        limits: FileLimits | None = None,
        access: Access | None = None,
    ) -> None:
        self._limits = limits or FileLimits()
        self._access = access or access_of_this_system()
        self._roots: list[tuple[PurePath, str]] = []
        for folder in folders:
            given = Path(folder).expanduser().absolute()
            real = given.resolve(strict=True)
            if not real.is_dir():
                raise NotADirectoryError(f"--allow-dir {given} is no folder")
            self._roots += [(given, str(real)), (real, str(real))]
        self._roots.sort(key=lambda root: -len(root[0].parts))

    def __bool__(self) -> bool:
        return bool(self._roots)

    @property
    def names(self) -> list[str]:
        """The allowed folders."""
        return sorted({real for _, real in self._roots})

    def place(self, path: str) -> Place:
        """Return where a path lies below an allowed folder, from its spelling alone.

        Args:
            path: Absolute, or relative to the allowed folder where there is just one.

        Raises:
            PathRefusedError: It lies nowhere below one, names ``..`` or something hidden.
        """
        from nearfield.ingest.folders import is_passed_over

        shown = path.encode("utf-8", "backslashreplace").decode()[:_SHOWN_CHARS]
        if not self._roots:
            raise PathRefusedError(
                "this server reads no files: whoever runs it can allow a folder with "
                "--allow-dir FOLDER; pass texts instead"
            )
        place = self._lexical(path)
        if place is None:
            raise PathRefusedError(
                f"{shown!r} is not below a folder that may be read, or is spelt with '..'; "
                f"allowed: {', '.join(self.names)}"
            )
        if any(is_passed_over(part, is_folder=False) for part in place.parts):
            raise PathRefusedError(f"{shown!r} is hidden; hidden files and folders are not read")
        return place

    def find(self, places: Sequence[Place], *, check: Callable[[], None]) -> FoundPaths:
        """Look for files that a reader knows, at and below some places.

        Args:
            places: From :meth:`place`.
            check: Called often; what it raises ends the search.

        Raises:
            PathRefusedError: There is more than the limits allow.
        """
        return _Walk(self._access, self._limits, check).run(places)

    def read(self, file: FoundPath) -> bytes:
        """Read a file that was found.

        Raises:
            IngestError: It is not there any more, became something else, or is too large.
        """
        from nearfield.errors import IngestError

        source = file.place.source
        try:
            data = self._access.read(file.place, self._limits.max_file_bytes + 1)
        except NotReadableError as error:
            raise IngestError(f"{source} cannot be read", source=source) from error
        if len(data) > self._limits.max_file_bytes:
            raise IngestError(
                f"{source} is larger than {self._limits.max_file_bytes} bytes", source=source
            )
        return data

    def _lexical(self, path: str) -> Place | None:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            return None
        given = PurePath(path)
        if not path.strip() or "\0" in path or ".." in given.parts:
            return None
        if not given.is_absolute():
            names = self.names
            if len(names) != 1 or given.anchor:
                return None
            return _place(names[0], given.parts)
        for root, real in self._roots:
            if given.is_relative_to(root):
                return _place(real, given.relative_to(root).parts)
        return None


def _place(root: str, parts: tuple[str, ...]) -> Place | None:
    """Return a place; None where a name means something else than a file on this system."""
    if os.name == "nt" and any(":" in part or PurePath(part).is_reserved() for part in parts):
        return None
    return Place(root, parts)


class _Walk:
    """Gathers files below some places."""

    def __init__(self, access: Access, limits: FileLimits, check: Callable[[], None]) -> None:
        self._access = access
        self._limits = limits
        self._check = check
        self._found = FoundPaths()
        self._taken: set[str] = set()
        self._looked_at = 0
        self._size_bytes = 0

    def run(self, places: Sequence[Place]) -> FoundPaths:
        for place in places:
            try:
                entry = self._access.look(place)
            except NotReadableError:
                self._fail(place, "there is nothing here that may be read")
                continue
            if entry.kind is Kind.FOLDER:
                self._walk(place)
            elif entry.kind is not Kind.FILE:
                self._fail(place, f"it is a {entry.kind}, which is not read")
            else:
                self._take(place, entry.size_bytes, named=True)
        return self._found

    def _walk(self, root: Place) -> None:
        from nearfield.ingest.folders import is_passed_over

        pending = [root]
        while pending:
            self._check()
            folder = pending.pop()
            try:
                entries = self._access.list(folder)
            except NotReadableError:
                self._fail(folder, "the folder cannot be listed")
                continue
            self._looked_at += len(entries)
            if self._looked_at > self._limits.max_files * _MAX_ENTRIES_PER_FILE:
                raise PathRefusedError("there is too much below these paths; name fewer folders")
            inner = []
            for entry in entries:
                is_folder = entry.kind is Kind.FOLDER
                if is_passed_over(entry.name, is_folder=is_folder):
                    continue
                place = folder.below(entry.name)
                if is_folder:
                    inner.append(place)
                elif entry.kind is Kind.FILE:
                    self._take(place, entry.size_bytes, named=False)
                else:
                    self._found.skipped[str(entry.kind)] += 1
            if inner and len(folder.parts) >= _MAX_DEPTH:
                self._fail(folder, f"folders below it are more than {_MAX_DEPTH} deep")
                continue
            pending.extend(reversed(inner))

    def _take(self, place: Place, size_bytes: int, *, named: bool) -> None:
        from nearfield.ingest.readers import format_of

        name = place.parts[-1]
        suffix = PurePath(name).suffix.lower()
        if place.source in self._taken:
            return
        self._taken.add(place.source)
        try:
            place.source.encode("utf-8")
        except UnicodeEncodeError:
            self._fail(place, "its name is not UTF-8")
            return
        if format_of(name) is None:
            if named:
                self._fail(place, f"no reader knows the suffix {suffix!r}")
            else:
                self._found.skipped[suffix or "no suffix"] += 1
            return
        self._size_bytes += size_bytes
        self._found.files.append(FoundPath(place, size_bytes))
        if len(self._found.files) > self._limits.max_files:
            raise PathRefusedError(
                f"there are more than {self._limits.max_files} files; ingest folder by folder"
            )
        if self._size_bytes > self._limits.max_total_bytes:
            raise PathRefusedError(
                f"the files have more than {self._limits.max_total_bytes} bytes together; ingest "
                "folder by folder"
            )

    def _fail(self, place: Place, reason: str) -> None:
        printable = place.source.encode("utf-8", "backslashreplace").decode()
        self._found.failures.append((printable, reason))
