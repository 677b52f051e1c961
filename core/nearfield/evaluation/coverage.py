"""Whether a collection holds the documents that were judged, and by which ids."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from nearfield.errors import InvalidInputError

if TYPE_CHECKING:
    from nearfield.collection import Collection
    from nearfield.documents import Document, Hit

__all__ = ["count_missing", "judged_id"]

_IDS_AT_ONCE = 1000
_DOCUMENTS_TO_LOOK_AT = 1000


def judged_id(found: Hit | Document, id_field: str | None) -> str:
    """Return the id that a document was judged by."""
    value = None if id_field is None else found.metadata.get(id_field)
    return found.id if value is None else str(value)


def count_missing(collection: Collection, relevant: set[str], id_field: str | None) -> int:
    """Count the relevant documents that the collection does not hold.

    Raises:
        InvalidInputError: It holds none of them, so that every measure would be 0, or no document
            has the field.
    """
    if id_field is None:
        ids, missing = sorted(relevant), 0
        for start in range(0, len(ids), _IDS_AT_ONCE):
            missing += collection.get(ids[start : start + _IDS_AT_ONCE], include=()).count(None)
    else:
        missing = len(relevant - _held(collection, relevant, id_field))
    if missing == len(relevant):
        raise InvalidInputError(_nothing_to_find(collection, relevant, id_field))
    return missing


def _held(collection: Collection, relevant: set[str], id_field: str) -> set[str]:
    held, has_field = set(), False
    for document in collection.scan(include=("metadata",)):
        if (identifier := judged_id(document, id_field)) in relevant:
            held.add(identifier)
        has_field = has_field or document.metadata.get(id_field) is not None
    if not has_field:
        raise InvalidInputError(
            f"no document of collection {collection.info.name!r} has the metadata field "
            f"{id_field!r}; pass the one with the judged ids as id_field, or none of them for the "
            "documents' own ids"
        )
    return held


def _nothing_to_find(collection: Collection, relevant: set[str], id_field: str | None) -> str:
    place = "by its id" if id_field is None else f"by its field {id_field!r}"
    message = (
        f"collection {collection.info.name!r} holds none of the {len(relevant):,} relevant "
        f"documents {place}; their ids are such as "
        f"{', '.join(map(repr, sorted(relevant)[:3]))}"
    )
    field = _field_with(collection, relevant)
    if field is None:
        return f"{message}; pass the metadata field that has them as id_field"
    return (
        f"{message}; the metadata field {field!r} has such values: pass it as id_field, on the "
        f"command line with --id-field {field}"
    )


def _field_with(collection: Collection, values: set[str]) -> str | None:
    """Name the metadata field that has most of the values, in the first documents."""
    times: dict[str, int] = {}
    documents = collection.scan(include=("metadata",))
    for document in islice(documents, _DOCUMENTS_TO_LOOK_AT):
        for field, value in document.metadata.items():
            if isinstance(value, str | int) and str(value) in values:
                times[field] = times.get(field, 0) + 1
    return max(times, key=lambda field: times[field], default=None)
