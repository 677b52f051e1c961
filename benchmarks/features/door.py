"""What every probe may ask of a store, whatever framework it belongs to."""

from __future__ import annotations

import importlib.util
import uuid
from abc import ABC, abstractmethod
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.features.conditions import Expression

__all__ = ["Door", "findable", "uuid_of"]

_NAMESPACE = uuid.UUID("7c0f4b0e-6d0b-4f0e-9c55-2f6c1f7f6a10")


class Door(ABC):
    """One store of one framework, opened as its documentation opens it.

    Attributes:
        name: On the command line.
        title: In the table.
        packages: The distributions whose versions decide what it does.
        modules: What has to be importable.
        saves: Whether a call of its own writes it to the disk.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    saves = False
    lists_note = ""
    """What has to be set before it takes lists in metadata."""

    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [name for name in self.modules if not findable(name)]

    def versions(self) -> dict[str, str]:
        """The installed distributions."""
        return {name: metadata.version(name) for name in self.packages}

    def id(self, text: str) -> str:
        """An id of the kind that the store takes."""
        return text

    @abstractmethod
    def open(self, folder: Path, **options: Any) -> Any:
        """Open the store in a folder, empty or not."""

    def allow_lists(self, store: Any) -> None:  # noqa: B027  # most need nothing
        """Let it take lists in metadata, if that has to be asked for."""

    def save(self, store: Any, folder: Path) -> None:  # noqa: B027  # most need nothing
        """Write the store to the disk, if that is a step of its own."""

    def restore(self, folder: Path) -> Any:
        """Open what is on the disk."""
        return self.open(folder)

    def close(self, store: Any) -> None:  # noqa: B027  # most need nothing
        """Release the folder."""

    @abstractmethod
    def put(
        self,
        store: Any,
        texts: Mapping[str, str],
        metadatas: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        """Write texts by id."""

    @abstractmethod
    def remove(self, store: Any, ids: Sequence[str]) -> None:
        """Delete by id."""

    def replace(self, store: Any, texts: Mapping[str, str]) -> None:
        """Give ids other texts, in the way the store has for it."""
        self.put(store, texts)

    @abstractmethod
    def nearest(
        self, store: Any, text: str, k: int, where: Expression | None = None
    ) -> list[tuple[str, float]]:
        """The ids and scores nearest to a text, best first.

        Raises:
            InexpressibleError: The store has no word for the filter.
        """

    @abstractmethod
    def present(self, store: Any, ids: Sequence[str]) -> set[str]:
        """Those of the ids that the store holds."""


def uuid_of(text: str) -> str:
    """A UUID for a name, always the same."""
    return str(uuid.uuid5(_NAMESPACE, text))


def findable(name: str) -> bool:
    """Whether a module is installed."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
