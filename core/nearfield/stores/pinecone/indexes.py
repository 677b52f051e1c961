"""The indexes of a project: made for the first collection of a kind, deleted with the last one.

A deletion goes by name and knows no condition, and another process may make a collection between
the last look into an index and its deletion. But Pinecone does not delete an index that is
protected. So each index of nearfield's is protected; who deletes it takes that away *before* the
last look, and who makes a collection sees that it is there *after* writing the collection down.
Whichever comes first, the look finds the collection, or the deletion is refused, or who makes the
collection finds the index gone and makes it again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from pinecone.errors import ConflictError, ForbiddenError, NotFoundError

from nearfield.documents import Metric
from nearfield.errors import ClosedError, InvalidURLError, NearfieldError, StoreBusyError
from nearfield.stores.attempts import attempts
from nearfield.stores.pinecone.address import METRICS
from nearfield.stores.pinecone.connections import connected
from nearfield.stores.pinecone.errors import passes

if TYPE_CHECKING:
    from pinecone import Pinecone
    from pinecone.models.indexes.index import IndexModel

    from nearfield.stores.pinecone.address import Address

__all__ = ["Indexes", "PineconeIndex"]

_Result = TypeVar("_Result")

_LOG = logging.getLogger(__name__)
_DENSE = "_values"
"""What Pinecone calls the vectors of an index that has no other fields."""
_SPARSE = "_sparse_values"
"""And its sparse vectors, if it was made with them. They are searched only beside vectors that are
compared by dot product."""
_TAG = "nearfield"
"""Tells that nearfield made an index, and apart from others of its name, before and after."""
_ON, _OFF = "enabled", "disabled"
_MAKING_S = 180.0
"""Pinecone takes a minute or so to make an index."""
_LOOK_AGAIN_S = 0.2
_TRIES = 3


@dataclass(frozen=True, slots=True)
class PineconeIndex:
    """An index.

    Attributes:
        name: Its name.
        host: Where it is.
        dimension: The dimension of its vectors.
        has_words: Whether it takes sparse vectors, too.
        birth: What it alone was tagged with when nearfield made it; empty where others did.
    """

    name: str
    host: str
    dimension: int
    has_words: bool = False
    birth: str = ""


class Indexes:
    """The indexes that have names of one database's.

    Args:
        address: The database.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def list(self) -> list[PineconeIndex]:
        """Return those that are ready."""
        with connected(self._address) as client:
            found = self._tried(lambda: client.indexes.list().to_list())
        return [
            _index(model)
            for model in found
            if self._address.is_index(model.name) and model.host and model.status.ready
        ]

    def describe(self, name: str) -> dict[str, Any]:
        """Return what Pinecone tells of an index, JSON-ready."""
        with connected(self._address) as client:
            model = self._tried(lambda: client.indexes.describe(name))
        return {
            "name": model.name,
            "state": model.status.state,
            "deployment": msgspec.to_builtins(model.deployment),
            "deletion_protection": model.deletion_protection,
            "tags": dict(model.tags or {}),
        }

    def make(self, dimension: int, metric: Metric) -> PineconeIndex:
        """Make the index for vectors of a kind, if no one else does, and wait until it is ready."""
        name = self._address.index_name(dimension, metric)
        until = time.monotonic() + max(self._address.timeout_s, _MAKING_S)
        with connected(self._address) as client:
            while True:
                model = self._described(client, name)
                if model is None:
                    model = self._made(client, name, dimension, metric)
                if model is not None and model.status.ready and model.host:
                    return _index(model)
                if time.monotonic() > until:
                    state = model.status.state if model else "being deleted"
                    raise StoreBusyError(
                        f"{self._address.shown} has not made its index {name!r} within "
                        f"{_MAKING_S:g} s (it is {state}); try again later"
                    )
                time.sleep(_LOOK_AGAIN_S)

    def keep(self, index: PineconeIndex) -> bool:
        """See to it that no one deletes an index who looked into it before now.

        Returns:
            Whether it is still there; False where it was deleted, and perhaps made anew.
        """
        if not index.birth:  # such an index is not deleted
            return True
        with connected(self._address) as client:
            for _ in range(_TRIES):
                model = self._described(client, index.name)
                if model is None or not model.status.ready or _index(model).birth != index.birth:
                    return False
                if model.deletion_protection == _ON:
                    return True
                self._protect(client, index.name)
        raise StoreBusyError(
            f"the index {index.name!r} of {self._address.shown} is being deleted, again and again; "
            "try again later"
        )

    def discard(self, index: PineconeIndex, is_unused: Callable[[], bool]) -> None:
        """Delete an index that nearfield made, if no one uses it; where that fails, it stays.

        Args:
            index: The index.
            is_unused: Looks into the index, and sees all that was written before.
        """
        if not index.birth:
            return
        try:
            with connected(self._address) as client:
                # Each is asked for once: what comes twice could come too late, when another
                # process protects the index again, or has made it again.
                model = _if_there(
                    lambda: client.indexes.configure(index.name, deletion_protection=_OFF)
                )
                if model is None:  # another was faster
                    return
                if _index(model).birth == index.birth and is_unused():
                    with suppress(ForbiddenError, NotFoundError):  # it is used again, or gone
                        client.indexes.delete(index.name, timeout=-1)
                else:
                    self._protect(client, index.name)
        except ClosedError:  # another was faster, while it was looked into
            return
        except NearfieldError as error:
            _LOG.warning("the index %r was not deleted: %s", index.name, error)

    def _tried(self, operation: Callable[[], _Result]) -> _Result:
        return attempts(self._address.timeout_s, lambda _: operation(), passes)

    def _described(self, client: Pinecone, name: str) -> IndexModel | None:
        return self._tried(lambda: _if_there(lambda: client.indexes.describe(name)))

    def _protect(self, client: Pinecone, name: str) -> None:
        def configure() -> IndexModel:
            return client.indexes.configure(name, deletion_protection=_ON)

        self._tried(lambda: _if_there(configure))

    def _made(
        self, client: Pinecone, name: str, dimension: int, metric: Metric
    ) -> IndexModel | None:
        fields: dict[str, dict[str, Any]] = {
            _DENSE: {"type": "dense_vector", "dimension": dimension, "metric": METRICS[metric]}
        }
        if metric is Metric.DOT:
            fields[_SPARSE] = {"type": "sparse_vector"}
        place = {"cloud": self._address.cloud, "region": self._address.region}

        def make() -> IndexModel | None:
            try:
                return client.indexes.create(
                    name=name,
                    schema={"fields": fields},
                    deployment={"deployment_type": "managed", **place},
                    deletion_protection=_ON,
                    tags={_TAG: uuid.uuid4().hex},
                    timeout=-1,
                )
            except ConflictError:  # another process was faster, an answer was lost, or one goes
                return None
            except NotFoundError as error:
                raise InvalidURLError(
                    f"{self._address.shown} makes no indexes in cloud={place['cloud']} and "
                    f"region={place['region']}: {error.message}; name others in the URL"
                ) from None

        return self._tried(make)


def _if_there(ask: Callable[[], IndexModel]) -> IndexModel | None:
    try:
        return ask()
    except NotFoundError:
        return None


def _index(model: IndexModel) -> PineconeIndex:
    return PineconeIndex(
        model.name,
        model.host or "",
        model.dimension or 0,
        _SPARSE in model.schema.fields,
        (model.tags or {}).get(_TAG, ""),
    )
