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
from nearfield.stores.milvus.plans import Plan
from nearfield.stores.milvus.records import MAX_BYTES, MAX_PIECES
from nearfield.validation import MAX_ID_BYTES

if TYPE_CHECKING:
    from nearfield.stores.milvus.address import Address

__all__ = ["Birth", "create", "decoded", "encoded", "finish", "read", "record_plan"]

FORMAT_VERSION = 1
_PREFIX = "nearfield_"
"""Others' collections are left alone."""
_RECORD, _PLAN = "nearfield", "nearfield.plan"
"""Properties of a collection."""
_METRICS = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLIDEAN: "L2"}
_INDEX = {"M": 16, "efConstruction": 200}


@dataclass(frozen=True, slots=True)
class Birth:
    """What is recorded of a collection.

    Attributes:
        info: What was fixed at its birth.
        plan: How it was tuned to search.
    """

    info: CollectionInfo
    plan: Plan


def create(client: MilvusClient, info: CollectionInfo, timeout_s: float) -> None:
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
    record = {
        "format": FORMAT_VERSION,
        "metric": info.metric.value,
        "embedding": info.embedding.to_dict(),
    }
    client.create_collection(
        name,
        schema=schema,
        consistency_level="Session",
        properties={_RECORD: json.dumps(record)},
        timeout=timeout_s,
    )
    finish(client, info, timeout_s)


def finish(client: MilvusClient, info: CollectionInfo, timeout_s: float) -> None:
    """Give a collection its index, unless it has it, and begin to load it."""
    name = encoded(info.name)
    if client.list_indexes(name, timeout=timeout_s):
        return
    index = client.prepare_index_params()
    index.add_index(
        "vector",
        index_name="vector",
        index_type="HNSW",
        metric_type=_METRICS[info.metric],
        params=_INDEX,
    )
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
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            f"the collection {encoded(name)!r} of {address.shown} was not made by nearfield; "
            "rename or delete it, or choose another name"
        ) from None
    plan = Plan(**json.loads(properties[_PLAN])) if _PLAN in properties else Plan()
    return Birth(CollectionInfo(name, embedding, metric), plan)


def record_plan(client: MilvusClient, name: str, plan: Plan, timeout_s: float) -> None:
    """Record how to search, for everyone who opens the collection from now on."""
    recorded = {_PLAN: json.dumps(dataclasses.asdict(plan))}
    client.alter_collection_properties(name, recorded, timeout=timeout_s)


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
