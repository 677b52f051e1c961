"""Every error nearfield raises, in one tree.

::

    NearfieldError
    ├── InvalidInputError (ValueError)             refused before anything was written
    │   ├── InvalidDocumentError                   id, text, metadata or created_at
    │   ├── InvalidVectorError                     NaN, infinity, zero under cosine, wrong rank
    │   │   └── DimensionMismatchError
    │   ├── InvalidNameError                       a collection's name
    │   ├── InvalidURLError                        a URL that no store answers to
    │   └── FilterError
    │       └── UnsupportedFilterError             the store has no native form for the operator
    ├── EmbeddingError (RuntimeError)              an embedder failed or broke its contract
    │   ├── EmbedderMismatchError (ValueError)     not the embedder the collection was built with
    │   └── EmbedderRequiredError                  text was given where only vectors are possible
    ├── RerankingError (RuntimeError)              a reranker failed or broke its contract
    ├── UnsupportedOperationError (NotImplementedError)
    ├── CollectionNotFoundError (LookupError)
    ├── DocumentNotFoundError (LookupError)
    ├── CollectionExistsError (FileExistsError)
    ├── StoreError (RuntimeError)
    │   ├── StoreBusyError (TimeoutError)          no lock, or no answer, within timeout_s
    │   ├── CollectionInUseError                   open elsewhere, and it is needed alone
    │   ├── ReadOnlyError (PermissionError)
    │   ├── StorageFullError (OSError)
    │   ├── StoreUnavailableError (ConnectionError) a server cannot be reached
    │   ├── PartialWriteError                      some servers wrote their part, others failed
    │   ├── CorruptionError                        damage was found; nothing damaged is served
    │   ├── FormatVersionError                     written by a newer nearfield
    │   ├── ClosedError
    │   └── ForkedProcessError                     a handle busy while the process forked
    ├── IngestError (RuntimeError)                 a file could not be read
    ├── WorkerError (RuntimeError)                 an ingest's workers are out of reach or failed
    │   └── WorkerLostError                        a worker died each time a task was tried
    └── MissingDependencyError (ImportError)       names the exact pip command

Each message says what happened, what was given, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ClosedError",
    "CollectionExistsError",
    "CollectionInUseError",
    "CollectionNotFoundError",
    "CorruptionError",
    "DimensionMismatchError",
    "DocumentNotFoundError",
    "EmbedderMismatchError",
    "EmbedderRequiredError",
    "EmbeddingError",
    "FilterError",
    "ForkedProcessError",
    "FormatVersionError",
    "IngestError",
    "InvalidDocumentError",
    "InvalidInputError",
    "InvalidNameError",
    "InvalidURLError",
    "InvalidVectorError",
    "MissingDependencyError",
    "NearfieldError",
    "PartialWriteError",
    "ReadOnlyError",
    "RerankingError",
    "StorageFullError",
    "StoreBusyError",
    "StoreError",
    "StoreUnavailableError",
    "UnsupportedFilterError",
    "UnsupportedOperationError",
    "WorkerError",
    "WorkerLostError",
]


class NearfieldError(Exception):
    """The root of every error that nearfield raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Left to itself, Python calls the class with the message alone, and some want more.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[NearfieldError], args: tuple[Any, ...], state: dict[str, Any]
) -> NearfieldError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInputError(NearfieldError, ValueError):
    """An argument was refused; nothing was written."""


class InvalidDocumentError(InvalidInputError):
    """A document's id, text, metadata or creation time cannot be stored.

    Attributes:
        position: The document's place in the batch, from 0, where it is known.
    """

    def __init__(self, message: str, *, position: int | None = None) -> None:
        self.position = position
        super().__init__(message)


class InvalidVectorError(InvalidInputError):
    """A vector is not a finite, usable point of the collection's space."""


class DimensionMismatchError(InvalidVectorError):
    """A vector has another dimension than the collection, or than what it is compared with.

    Attributes:
        expected: The collection's dimension, or the other vectors'.
        got: The dimension that was given.
    """

    def __init__(
        self, *, expected: int, got: int, what: str = "vector", other: str | None = None
    ) -> None:
        self.expected = expected
        self.got = got
        if other is not None:  # vectors that are compared outside a collection
            super().__init__(
                f"{what} has dimension {got}, but {other} have dimension {expected}; only vectors "
                "of one model compare"
            )
            return
        super().__init__(
            f"{what} has dimension {got}, but this collection holds vectors of dimension "
            f"{expected}; embed with the model the collection was built with, or open a new "
            "collection"
        )


class InvalidNameError(InvalidInputError):
    """A collection's name is not allowed."""


class InvalidURLError(InvalidInputError):
    """A database URL names no store that is known."""


class FilterError(InvalidInputError):
    """A filter is malformed: an unknown operator, a bad value, too deep a tree."""


class UnsupportedFilterError(FilterError):
    """The store cannot evaluate this filter natively, and nothing filters silently afterwards."""


class EmbeddingError(NearfieldError, RuntimeError):
    """An embedder failed, or returned something that breaks its contract.

    Attributes:
        may_pass: Whether the same call may succeed later, as after a timeout.
    """

    def __init__(self, message: str = "", *, may_pass: bool = False) -> None:
        self.may_pass = may_pass
        super().__init__(message)


class EmbedderMismatchError(EmbeddingError, ValueError):
    """The embedder is not the one that the collection's vectors were made with."""


class EmbedderRequiredError(EmbeddingError):
    """Text has to be embedded, but the collection was opened without an embedder."""


class RerankingError(NearfieldError, RuntimeError):
    """A reranker failed, or returned something that breaks its contract."""


class UnsupportedOperationError(NearfieldError, NotImplementedError):
    """The store behind this collection cannot do what was asked."""


class CollectionNotFoundError(NearfieldError, LookupError):
    """No collection has this name.

    Attributes:
        name: The name that was asked for.
    """

    def __init__(self, message: str, *, name: str) -> None:
        self.name = name
        super().__init__(message)


class DocumentNotFoundError(NearfieldError, LookupError):
    """No document has the id that a search should start from.

    Attributes:
        id: The id that was asked for.
    """

    def __init__(self, message: str, *, id: str) -> None:
        self.id = id
        super().__init__(message)


class CollectionExistsError(NearfieldError, FileExistsError):
    """A collection of this name is already there.

    Attributes:
        name: The name that is taken.
    """

    def __init__(self, message: str, *, name: str) -> None:
        self.name = name
        super().__init__(message)


class StoreError(NearfieldError, RuntimeError):
    """A store could not do its work."""


class StoreBusyError(StoreError, TimeoutError):
    """A lock was not to be had, or a server did not answer, within ``timeout_s``."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store's server cannot be reached, or went away in the middle."""


class PartialWriteError(StoreError):
    """Some of the servers that share a collection did their part of a write, and others failed.

    The same call can be made again: what is done already is not done twice.

    Attributes:
        failed: The servers that did not do theirs, or of which it is not known.
        done: The ids that are written, or deleted.
        undone: The ids that are not, or of which it is not known. Of a write by a filter, ids are
            in neither.
    """

    def __init__(
        self,
        message: str,
        *,
        failed: tuple[str, ...],
        done: tuple[str, ...],
        undone: tuple[str, ...],
    ) -> None:
        self.failed = failed
        self.done = done
        self.undone = undone
        super().__init__(message)


class CollectionInUseError(StoreError):
    """The collection is open elsewhere, and the operation needs it alone."""


class ReadOnlyError(StoreError, PermissionError):
    """A write was asked of a store that is open, or stored, read-only."""


class StorageFullError(StoreError, OSError):
    """The disk is full; the write was rolled back and what was there is unharmed."""


class CorruptionError(StoreError):
    """Stored data is damaged; it was detected and not served.

    Attributes:
        path: The damaged file, where it is known.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        self.path = path
        super().__init__(message)


class FormatVersionError(StoreError):
    """The files were written in a format newer than this nearfield reads.

    Attributes:
        found: The version in the files.
        supported: The newest version this nearfield reads.
    """

    def __init__(self, *, found: int, supported: int, path: str) -> None:
        self.found = found
        self.supported = supported
        super().__init__(
            f"{path} has format version {found}, but this nearfield reads versions up to "
            f"{supported}; upgrade with: pip install --upgrade nearfield"
        )


class ClosedError(StoreError):
    """The collection or database was closed; open it again."""


class ForkedProcessError(StoreError):
    """The process forked while the file was in use; start the process anew, or fork when idle."""


class IngestError(NearfieldError, RuntimeError):
    """A file could not be read or split.

    Attributes:
        source: The file or record the error is about.
    """

    def __init__(self, message: str, *, source: str) -> None:
        self.source = source
        super().__init__(message)


class WorkerError(NearfieldError, RuntimeError):
    """Workers of an ingest could not be started or reached, or failed at their work."""


class WorkerLostError(WorkerError):
    """The worker that had a task died, and so did those that tried it again."""


class MissingDependencyError(NearfieldError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: The extra of nearfield that brings it.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {package!r}; install it with: "
            f'pip install "nearfield[{extra}]"',
            name=package,
        )
