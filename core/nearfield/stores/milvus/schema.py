"""What a collection is called in Milvus, what it consists of, and what is recorded of it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymilvus import DataType, MilvusClient

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import FormatVersionError, StoreError
from nearfield.stores.base import CollectionInfo
from nearfield.stores.milvus.address import Index
from nearfield.stores.milvus.plans import LISTS, Plan
from nearfield.stores.milvus.records import MAX_BYTES, MAX_PIECES
from nearfield.validation import MAX_ID_BYTES

if TYPE_CHECKING:
    from nearfield.stores.milvus.address import Address

__all__ = [
    "Birth",
    "create",
    "decoded",
    "encoded",
    "finish",
    "read",
    "read_plan",
    "record_plan",
]

FORMAT_VERSION = 1
_PREFIX = "nearfield_"
"""Others' collections are left alone."""
_RECORD, _PLAN = "nearfield", "nearfield.plan"
"""Properties of a collection."""
_METRICS = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLIDEAN: "L2"}
_HAS_WORDS = (2, 5)
"""The first version whose sparse vectors are asked for; that of Milvus Lite is 3."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What is recorded of a collection.

    Attributes:
        info: What was fixed at its birth.
        index: What searches go through.
        plan: How it was tuned to search.
        has_words: Whether it has its words indexed.
    """

    info: CollectionInfo
    index: Index
    plan: Plan
    has_words: bool


def create(client: MilvusClient, info: CollectionInfo, index: Index, timeout_s: float) -> None:
    """Make a collection."""
    name = encoded(info.name)
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
    schema.add_field(
        "text",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=MAX_PIECES,
        max_length=MAX_BYTES,
    )
    schema.add_field("metadata", DataType.VARCHAR, max_length=MAX_BYTES)
    schema.add_field("created", DataType.INT64)
    schema.add_field("written", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=info.embedding.dimension)
    has_words = _version(str(client.get_server_version(timeout=timeout_s))) >= _HAS_WORDS
    if has_words:
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    record = {
        "format": FORMAT_VERSION,
        "metric": info.metric.value,
        "embedding": info.embedding.to_dict(),
        "index": index.value,
        "words": has_words,
    }
    client.create_collection(
        name,
        schema=schema,
        consistency_level="Session",
        properties={_RECORD: json.dumps(record)},
        timeout=timeout_s,
    )
    finish(client, Birth(info, index, Plan(), has_words), timeout_s)


def finish(client: MilvusClient, birth: Birth, timeout_s: float) -> None:
    """Give a collection its indexes, unless it has them, and begin to load it."""
    name = encoded(birth.info.name)
    there: Any = client.list_indexes(name, timeout=timeout_s)
    options = {"vector": _vector_index(birth)}
    if birth.has_words:
        options["words"] = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"}
    index = client.prepare_index_params()
    missing = [field for field in options if field not in there]
    for field in missing:
        index.add_index(field, index_name=field, **options[field])
    if missing:
        client.create_index(name, index, sync=False, timeout=timeout_s)
        client.load_collection(name, timeout=timeout_s, _async=True)


def read(client: MilvusClient, address: Address, name: str, timeout_s: float) -> Birth:
    """Read what is recorded of a collection."""
    described: Any = client.describe_collection(encoded(name), timeout=timeout_s)
    properties: Mapping[str, Any] = described.get("properties") or {}
    try:
        record = json.loads(properties[_RECORD])
        version = int(record["format"])
        if version > FORMAT_VERSION:
            raise FormatVersionError(found=version, supported=FORMAT_VERSION, path=address.shown)
        metric = Metric(record["metric"])
        embedding = EmbeddingInfo.from_dict(record["embedding"])
        index = Index(record["index"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            f"the collection {encoded(name)!r} of {address.shown} was not made by nearfield; "
            "rename or delete it, or choose another name"
        ) from None
    if address.index not in {None, index}:
        raise StoreError(
            f"the collection {name!r} of {address.shown} was made with index={index.value}, which "
            "stays; leave ?index= out, or copy it to a database whose URL names another"
        )
    info = CollectionInfo(name, embedding, metric)
    return Birth(info, index, _plan(properties), record["words"])


def read_plan(client: MilvusClient, encoded_name: str, timeout_s: float) -> Plan:
    """Read how a collection is to be searched."""
    described: Any = client.describe_collection(encoded_name, timeout=timeout_s)
    return _plan(described.get("properties") or {})


def record_plan(client: MilvusClient, encoded_name: str, plan: Plan, timeout_s: float) -> None:
    """Record how to search, for everyone who has the collection open."""
    recorded = {_PLAN: json.dumps(dataclasses.asdict(plan))}
    client.alter_collection_properties(encoded_name, recorded, timeout=timeout_s)


def encoded(name: str) -> str:
    """Return what a collection is called in Milvus, which takes letters, digits and ``_``."""
    escaped = name.replace("_", "__").replace(".", "_d").replace("-", "_h")
    return f"{_PREFIX}{escaped}"


def decoded(name: str) -> str | None:
    """Return what a collection of Milvus is called here, None where it is not of nearfield."""
    if not name.startswith(_PREFIX):
        return None
    signs = {"_": "_", "d": ".", "h": "-"}
    return re.sub(r"_(.?)", lambda found: signs.get(found[1], found[0]), name.removeprefix(_PREFIX))


def _vector_index(birth: Birth) -> dict[str, Any]:
    # No graphs: under a filter they lose hits, at whatever depth.
    return {
        "index_type": birth.index.upper(),
        "metric_type": _METRICS[birth.info.metric],
        "params": {} if birth.index is Index.FLAT else {"nlist": LISTS},
    }


def _plan(properties: Mapping[str, Any]) -> Plan:
    return Plan(**json.loads(properties[_PLAN])) if _PLAN in properties else Plan()


def _version(said: str) -> tuple[int, ...]:
    """Return the version in what a server says of itself, such as ``milvus_lite-3.2.2``."""
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()
