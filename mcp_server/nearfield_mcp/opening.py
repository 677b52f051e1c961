"""Files opened without following links: what is read is what was checked.

Where the system can open relative to an open folder (Linux, macOS, BSD), every part of a path is
opened from the one before it and no link is followed, so nothing that is swapped meanwhile leads
out. Elsewhere (Windows) the whole path is checked before and after it is opened: a link that is
there is refused, and so is a file that was swapped, but a link put in and taken out again between
two checks could go unnoticed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

__all__ = ["Access", "Entry", "Kind", "NotReadableError", "Place", "access_of_this_system"]

_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""So that a pipe put in a file's place cannot hold the reader."""
_FOLDER = _READ | _NO_LINK | getattr(os, "O_DIRECTORY", 0)


class NotReadableError(OSError):
    """There is nothing that may be read: missing, a link, a special file, or without permission."""


class Kind(StrEnum):
    """What a name in a folder stands for."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    SPECIAL = "special file"


@dataclass(frozen=True, slots=True)
class Place:
    """A path below an allowed folder.

    Attributes:
        root: The allowed folder, absolute and without links.
        parts: The names below it; none of them is ``..``.
    """

    root: str
    parts: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The absolute path, as this system spells it."""
        return str(Path(self.root, *self.parts))

    @property
    def source(self) -> str:
        """The absolute path with ``/`` between the parts, as ingestion names its sources."""
        return Path(self.root, *self.parts).as_posix()

    def below(self, name: str) -> Place:
        """Return the place of a name in this folder."""
        return Place(self.root, (*self.parts, name))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a place."""

    name: str
    kind: Kind
    size_bytes: int = 0


class Access(Protocol):
    """How places are looked at. ``NotReadableError`` is raised rather than follow a link."""

    def look(self, place: Place) -> Entry:
        """Tell what is there."""
        ...

    def list(self, place: Place) -> list[Entry]:
        """Return what a folder holds, sorted by name."""
        ...

    def read(self, place: Place, max_bytes: int) -> bytes:
        """Return the first ``max_bytes`` of a regular file."""
        ...


def access_of_this_system() -> Access:
    """Return the strictest way that this system offers."""
    by_descriptor = {os.open, os.stat} <= os.supports_dir_fd and os.scandir in os.supports_fd
    return DescriptorAccess() if by_descriptor and _NO_LINK else PathAccess()


class DescriptorAccess:
    """Opens every part of a path from the folder before it."""

    def look(self, place: Place) -> Entry:
        """Tell what is there."""
        if not place.parts:
            return Entry("", Kind.FOLDER)
        try:
            folder = self._open_folder(Place(place.root, place.parts[:-1]))
            try:
                found = os.stat(place.parts[-1], dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(folder)
        except (OSError, ValueError) as error:
            raise NotReadableError(place.source) from error
        return _entry(place.parts[-1], found)

    def list(self, place: Place) -> list[Entry]:
        """Return what a folder holds, sorted by name."""
        try:
            folder = self._open_folder(place)
            try:
                with os.scandir(folder) as found:
                    return _entries(found)
            finally:
                os.close(folder)
        except OSError as error:
            raise NotReadableError(place.source) from error

    def read(self, place: Place, max_bytes: int) -> bytes:
        """Return the first ``max_bytes`` of a regular file."""
        if self.look(place).kind is not Kind.FILE:  # opening a device can already do something
            raise NotReadableError(place.source)
        try:
            folder = self._open_folder(Place(place.root, place.parts[:-1]))
            try:
                file = os.open(place.parts[-1], _READ | _NO_LINK | _NO_WAIT, dir_fd=folder)
            finally:
                os.close(folder)
            return _read(file, place, max_bytes)
        except OSError as error:
            raise NotReadableError(place.source) from error

    def _open_folder(self, place: Place) -> int:
        folder = os.open(place.root, _FOLDER)
        for part in place.parts:
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder


class PathAccess:
    """Checks the whole path before and after it is opened."""

    def look(self, place: Place) -> Entry:
        """Tell what is there."""
        found = self._stat(place)
        return _entry(place.parts[-1] if place.parts else "", found)

    def list(self, place: Place) -> list[Entry]:
        """Return what a folder holds, sorted by name."""
        before = self._stat(place)
        try:
            with os.scandir(place.path) as found:
                entries = _entries(found)
        except OSError as error:
            raise NotReadableError(place.source) from error
        self._refuse_swap(place, before)
        return entries

    def read(self, place: Place, max_bytes: int) -> bytes:
        """Return the first ``max_bytes`` of a regular file."""
        before = self._stat(place)
        if not stat.S_ISREG(before.st_mode):
            raise NotReadableError(place.source)
        try:
            file = os.open(place.path, _READ | _NO_LINK | _NO_WAIT)
            opened = os.fstat(file)
            data = _read(file, place, max_bytes)
        except OSError as error:
            raise NotReadableError(place.source) from error
        self._refuse_swap(place, opened)
        return data

    def _stat(self, place: Place) -> os.stat_result:
        try:
            found = os.lstat(place.path)
            real = os.path.realpath(place.path, strict=True)
        except (OSError, ValueError) as error:
            raise NotReadableError(place.source) from error
        if os.path.normcase(real) != os.path.normcase(place.path):
            if stat.S_ISLNK(found.st_mode) and place.parts:
                return found  # it is told as a link, never opened
            raise NotReadableError(place.source)
        return found

    def _refuse_swap(self, place: Place, opened: os.stat_result) -> None:
        now = self._stat(place)
        if (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            raise NotReadableError(place.source)


def _read(file: int, place: Place, max_bytes: int) -> bytes:
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotReadableError(place.source)
        return stream.read(max_bytes)


def _entries(found: os._ScandirIterator[str]) -> list[Entry]:
    entries = []
    for each in found:
        try:
            entries.append(_entry(each.name, each.stat(follow_symlinks=False)))
        except OSError:  # gone meanwhile
            continue
    return sorted(entries, key=lambda entry: entry.name)


def _entry(name: str, found: os.stat_result) -> Entry:
    if stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0)):
        return Entry(name, Kind.LINK)
    if stat.S_ISDIR(found.st_mode):
        return Entry(name, Kind.FOLDER)
    if stat.S_ISREG(found.st_mode):
        return Entry(name, Kind.FILE, found.st_size)
    return Entry(name, Kind.SPECIAL)
