"""An emulator of Pinecone's HTTP interface, strict where the service is, for tests.

It knows what Pinecone's documentation says of requests, limits and filters, not who asks:

- limits: https://docs.pinecone.io/reference/api/database-limits
- filters: https://docs.pinecone.io/guides/search/filter-by-metadata; a field that is not there is
  matched by ``$exists: false`` alone, as users found for ``$ne`` and ``$nin``
- freshness: https://docs.pinecone.io/guides/index-data/check-data-freshness
- sparse vectors, which an index takes beside others if it was made with them and compares by dot
  product, adding both up: https://docs.pinecone.io/guides/search/hybrid-search/single-index
- deleting an index, which is refused where it is protected:
  https://docs.pinecone.io/reference/api/2026-07/control-plane/delete_index

Run as ``python -m tests.pinecone_emulator --port P --folder F``. What is written is kept in the
folder and survives kill -9. ``POST /emulator`` sets how it behaves, ``GET /emulator`` tells what it
was asked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import orjson

MAX_REQUEST = 2 * 1024 * 1024
MAX_ANSWER = 4 * 1024 * 1024
MAX_METADATA = 40 * 1024
MAX_VECTORS = 1_000
MAX_IDS = 1_000
MAX_TOP_K = 10_000
MAX_IN = 10_000
MAX_DIMENSION = 20_000
MAX_SPARSE = 1_000
MAX_NAME = 512
MAX_URL = 8_192
PLAN_INDEXES = 20
PLAN_NAMESPACES = 100_000
METRICS = ("cosine", "dotproduct", "euclidean")
INDEX_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,43}[a-z0-9])?")


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def need(good: object, message: str, status: int = 400) -> None:
    if not good:
        raise RefusalError(status, message)


# ── what may come ────────────────────────────────────────────────────────────────────────────


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_name(value: object, what: str) -> str:
    need(isinstance(value, str), f"{what} must be a string")
    need(value.isascii() and "\0" not in value, f"{what} must be ASCII without NUL")
    need(len(value) <= MAX_NAME, f"{what} must have at most {MAX_NAME} characters")
    return value


def check_id(value: object) -> str:
    need(value != "", "Vector ID must not be empty")
    return check_name(value, "Vector ID")


def check_values(values: object, dimension: int) -> np.ndarray:
    need(isinstance(values, list) and all(map(is_number, values)), "values must be numbers")
    need(
        len(values) == dimension,
        f"Vector dimension {len(values)} does not match the dimension of the index {dimension}",
    )
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32)
    need(np.isfinite(array).all(), "values must be 32-bit floats")
    need(array.any(), "Dense vectors must contain at least one non-zero value")
    return array


def check_sparse(sparse: object) -> list[Any]:
    """Check a sparse vector; return its indices and values."""
    need(isinstance(sparse, dict), "a sparse vector must be an object")
    indices, values = sparse.get("indices"), sparse.get("values")
    need(isinstance(indices, list) and isinstance(values, list), "indices and values are lists")
    need(0 < len(indices) == len(values), "as many values as indices, and some")
    need(len(values) <= MAX_SPARSE, f"{len(values)} sparse values, the limit is {MAX_SPARSE}")
    good = all(type(index) is int and 0 <= index < 2**32 for index in indices)
    need(good and len(set(indices)) == len(indices), "indices must be different uint32")
    need(all(map(is_number, values)), "sparse values must be numbers")
    return [indices, [float(np.float32(value)) for value in values]]


def check_metadata(metadata: object) -> dict[str, Any]:
    need(isinstance(metadata, dict), "metadata must be an object")
    size = len(orjson.dumps(metadata))
    need(
        size <= MAX_METADATA,
        f"Metadata size is {size} bytes, which exceeds the limit of {MAX_METADATA} bytes",
    )
    stored = {}
    for key, value in metadata.items():
        need(key and not key.startswith("$"), f"Metadata key {key!r} must not start with $")
        if isinstance(value, list):
            need(all(isinstance(item, str) for item in value), f"{key!r}: a list of strings only")
            stored[key] = value
        else:
            need(
                isinstance(value, bool | str) or is_number(value),
                "Metadata value must be a string, number, boolean or list of strings, got "
                f"{value!r} for field {key!r}",
            )
            stored[key] = float(value) if is_number(value) else value
    return stored


def checked_options(body: dict[str, Any]) -> tuple[str | None, dict[str, str]]:
    """Check what an index can be given at birth and later."""
    protection, tags = body.get("deletion_protection"), body.get("tags") or {}
    need(protection in {None, "enabled", "disabled"}, f"bad protection {protection!r}", 422)
    need(len(tags) <= 20, "at most 20 tags", 422)
    for name, value in tags.items():
        need(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name), f"bad tag {name!r}", 422)
        good = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_ @.+-]{0,120}", value)
        need(good, f"bad value of the tag {name!r}", 422)
    return protection, tags


# ── filters ──────────────────────────────────────────────────────────────────────────────────


def same(value: Any, operand: Any) -> bool:
    if isinstance(value, list):  # it takes on each of its values
        return any(same(item, operand) for item in value)
    return value == operand and isinstance(value, bool) == isinstance(operand, bool)


def order(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, operand: is_number(value) and compare(value, operand)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": same,
    "$ne": lambda value, operand: not same(value, operand),
    "$gt": order(lambda value, operand: value > operand),
    "$gte": order(lambda value, operand: value >= operand),
    "$lt": order(lambda value, operand: value < operand),
    "$lte": order(lambda value, operand: value <= operand),
    "$in": lambda value, operand: any(same(value, item) for item in operand),
    "$nin": lambda value, operand: not any(same(value, item) for item in operand),
}
Test = Callable[[dict[str, Any]], bool]


def compiled(filter: object) -> Test:
    """Check a filter and make a test of it."""
    need(isinstance(filter, dict) and filter, "a filter must be a non-empty object")
    tests = [clause(key, value) for key, value in filter.items()]
    return tests[0] if len(tests) == 1 else lambda metadata: all(test(metadata) for test in tests)


def clause(key: str, value: object) -> Test:
    if key in {"$and", "$or"}:
        need(isinstance(value, list) and value, f"{key} takes a non-empty list")
        tests = [compiled(part) for part in value]
        join = all if key == "$and" else any
        return lambda metadata: join(test(metadata) for test in tests)
    need(not key.startswith("$"), f"{key} cannot stand at this level of a filter")
    if not isinstance(value, dict):
        value = {"$eq": value}
    need(value, f"the condition on {key!r} is empty")
    tests = [comparison(key, operator, operand) for operator, operand in value.items()]
    return tests[0] if len(tests) == 1 else lambda metadata: all(test(metadata) for test in tests)


def comparison(key: str, operator: str, operand: object) -> Test:
    if operator == "$exists":
        need(isinstance(operand, bool), "$exists takes true or false")
        return lambda metadata: (key in metadata) == operand
    need(operator in OPERATORS, f"{operator} is no operator")
    if operator in {"$eq", "$ne"}:
        good = isinstance(operand, str | bool) or is_number(operand)
        need(good, f"{operator} takes a string, number or boolean")
    elif operator in {"$in", "$nin"}:
        need(isinstance(operand, list), f"{operator} takes a list")
        need(len(operand) <= MAX_IN, f"{operator} takes at most {MAX_IN} values")
        good = all(isinstance(item, str) or is_number(item) for item in operand)
        need(good, f"{operator} takes strings and numbers")
    else:
        need(is_number(operand), f"{operator} takes a number")
    test = OPERATORS[operator]
    return lambda metadata: key in metadata and test(metadata[key], operand)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────


Record = tuple[np.ndarray, dict[str, Any], list[Any] | None]
"""Values, metadata, and indices and values of a sparse vector."""


@dataclass
class Namespace:
    """Records as far as they are indexed, and writes that are not."""

    records: dict[str, Record] = field(default_factory=dict)
    written: int = 0
    indexed: int = 0
    pending: deque[tuple[float, int, dict[str, Any]]] = field(default_factory=deque)
    matrix: tuple[list[str], np.ndarray] | None = None

    def write(self, change: dict[str, Any], visible_s: float) -> None:
        self.written += 1
        self.pending.append((visible_s, self.written, change))

    def catch_up(self) -> None:
        while self.pending and self.pending[0][0] <= time.monotonic():
            _, self.indexed, change = self.pending.popleft()
            self._apply(change)

    def _apply(self, change: dict[str, Any]) -> None:
        self.matrix = None
        for identifier, values, metadata, sparse in change.get("upsert", ()):
            self.records[identifier] = (np.asarray(values, np.float32), metadata, sparse)
        for identifier in change.get("delete", ()):
            self.records.pop(identifier, None)
        if "filter" in change:
            test = compiled(change["filter"])
            gone = [name for name, record in self.records.items() if test(record[1])]
            for identifier in gone:
                del self.records[identifier]
        if change.get("clear"):
            self.records.clear()

    def rows(self) -> tuple[list[str], np.ndarray]:
        if self.matrix is None:
            ids = list(self.records)
            rows = np.array([self.records[name][0] for name in ids], np.float32)
            self.matrix = ids, rows
        return self.matrix


@dataclass
class Index:
    name: str
    dimension: int
    metric: str
    place: dict[str, str]
    ready_s: float
    protection: str = "disabled"
    tags: dict[str, str] = field(default_factory=dict)
    sparse: bool = False
    gone_s: float = math.inf
    namespaces: dict[str, Namespace] = field(default_factory=dict)


@dataclass
class Behaviour:
    """What a test may ask of the emulator."""

    lag_s: float = 0.002
    making_s: float = 0.02
    deleting_s: float = 0.02
    lossy: float = 0.0
    numbers: bool = True
    plan_indexes: int = PLAN_INDEXES
    faults: list[dict[str, Any]] = field(default_factory=list)


class Service:
    """One project."""

    def __init__(self, folder: Path, key: str | None) -> None:
        self.lock = threading.RLock()
        self.key = key
        self.behaviour = Behaviour()
        self.requests: list[dict[str, Any]] = []
        self.indexes: dict[str, Index] = {}
        self._random = random.Random(0)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        if path.exists():
            self._replay(path)
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _replay(self, path: Path) -> None:
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]  # what was cut off was not acknowledged
        path.write_bytes(whole)
        for line in whole.splitlines():
            self._do(orjson.loads(line), now_s=0.0)
        for index in self.indexes.values():
            for namespace in index.namespaces.values():
                namespace.catch_up()

    def _commit(self, entry: dict[str, Any]) -> None:
        line = orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        while line:
            line = line[os.write(self._log, line) :]
        self._do(entry, now_s=time.monotonic() + self.behaviour.lag_s)

    def _do(self, entry: dict[str, Any], now_s: float) -> None:
        if "create" in entry:
            made = entry["create"]
            self.indexes[made["name"]] = Index(
                made["name"], made["dimension"], made["metric"], made["place"],
                time.monotonic() + self.behaviour.making_s if now_s else 0.0,
                made["protection"], made["tags"], made["sparse"],
            )  # fmt: skip
        elif "drop" in entry:
            if now_s:
                gone_s = time.monotonic() + self.behaviour.deleting_s
                self.indexes[entry["drop"]].gone_s = gone_s
            else:
                del self.indexes[entry["drop"]]
        elif "configure" in entry:
            index = self.indexes[entry["configure"]]
            index.protection = entry["protection"] or index.protection
            index.tags |= entry["tags"]
        elif "forget" in entry:
            self.indexes[entry["index"]].namespaces.pop(entry["forget"], None)
        else:
            namespaces = self.indexes[entry["index"]].namespaces
            namespaces.setdefault(entry["namespace"], Namespace()).write(entry["change"], now_s)

    # ── the control plane ────────────────────────────────────────────────────────────────────

    def described(self, index: Index, base: str) -> dict[str, Any]:
        state = "Ready" if time.monotonic() >= index.ready_s else "Initializing"
        if index.gone_s < math.inf:
            state = "Terminating"
        return {
            "name": index.name,
            "host": f"{base}/i/{index.name}",
            "status": {"ready": state == "Ready", "state": state},
            "schema": {
                "version": "v1",
                "fields": {
                    "_values": {
                        "type": "dense_vector",
                        "dimension": index.dimension,
                        "metric": index.metric,
                    },
                    **({"_sparse_values": {"type": "sparse_vector"}} if index.sparse else {}),
                },
            },
            "deployment": {"deployment_type": "managed", **index.place},
            "deletion_protection": index.protection,
            "tags": index.tags or None,
        }

    def create_index(self, body: dict[str, Any], base: str) -> dict[str, Any]:
        name = body.get("name")
        need(isinstance(name, str) and INDEX_NAME.fullmatch(name), f"index name {name!r}", 422)
        self._forget_deleted()
        if name in self.indexes:
            raise RefusalError(409, f"Resource {name} already exists", "ALREADY_EXISTS")
        fields = body.get("schema", {}).get("fields", {})
        sparse = fields.get("_sparse_values")
        need(sparse in (None, {"type": "sparse_vector"}), "bad _sparse_values", 422)
        need(set(fields) - {"_sparse_values"} == {"_values"}, "vectors only, here", 422)
        dense = fields["_values"]
        need(dense.get("type") == "dense_vector", "_values has to be a dense_vector", 422)
        dimension, metric = dense.get("dimension"), dense.get("metric")
        need(type(dimension) is int and 0 < dimension <= MAX_DIMENSION, "bad dimension", 422)
        need(metric in METRICS, f"bad metric {metric!r}", 422)
        deployment = body.get("deployment") or {}
        need(deployment.get("deployment_type") == "managed", "bad deployment", 422)
        place = {"cloud": deployment.get("cloud"), "region": deployment.get("region")}
        need(place["cloud"] in {"aws", "gcp", "azure"}, f"no cloud {place['cloud']!r}", 404)
        protection, tags = checked_options(body)
        if len(self.indexes) >= self.behaviour.plan_indexes:
            raise RefusalError(
                403,
                "Request failed. You've reached the max serverless indexes allowed in project "
                f"({self.behaviour.plan_indexes}).",
                "QUOTA_EXCEEDED",
            )
        made = {"name": name, "dimension": dimension, "metric": metric, "place": place}
        made["sparse"] = sparse is not None
        self._commit({"create": {**made, "protection": protection or "disabled", "tags": tags}})
        return self.described(self.indexes[name], base)

    def configure_index(self, index: Index, body: dict[str, Any], base: str) -> dict[str, Any]:
        need(body, "nothing to configure")
        need(set(body) <= {"deletion_protection", "tags"}, f"unknown fields in {set(body)}")
        protection, tags = checked_options(body)
        self._commit({"configure": index.name, "protection": protection, "tags": tags})
        return self.described(index, base)

    def delete_index(self, index: Index) -> None:
        if index.protection == "enabled":
            raise RefusalError(
                403,
                "Deletion protection is enabled for this index. Disable deletion protection before "
                "retrying.",
                "FORBIDDEN",
            )
        if index.gone_s == math.inf:
            self._commit({"drop": index.name})

    def listed_indexes(self) -> list[Index]:
        self._forget_deleted()
        return list(self.indexes.values())

    def _forget_deleted(self) -> None:
        for name in [each.name for each in self.indexes.values() if each.gone_s < time.monotonic()]:
            del self.indexes[name]

    def index(self, name: str) -> Index:
        self._forget_deleted()
        if name not in self.indexes:
            raise RefusalError(404, f"Resource {name} not found", "NOT_FOUND")
        return self.indexes[name]

    # ── the data plane ───────────────────────────────────────────────────────────────────────

    def _write(self, index: Index, namespace: str, change: dict[str, Any]) -> dict[str, str]:
        need(len(index.namespaces) < PLAN_NAMESPACES, "too many namespaces", 403)
        self._commit({"index": index.name, "namespace": namespace, "change": change})
        number = index.namespaces[namespace].written
        return {"x-pinecone-request-lsn": str(number)} if self.behaviour.numbers else {}

    def _read(self, index: Index, namespace: str) -> Namespace:
        found = index.namespaces.get(namespace, Namespace())
        found.catch_up()
        return found

    def upsert(self, index: Index, body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        namespace = check_name(body.get("namespace", ""), "Namespace")
        vectors = body.get("vectors")
        need(isinstance(vectors, list) and vectors, "vectors must be a non-empty list")
        need(
            len(vectors) <= MAX_VECTORS,
            f"Request contains {len(vectors)} vectors, the limit is {MAX_VECTORS}",
        )
        rows = []
        for vector in vectors:
            known = {"id", "values", "metadata"} | ({"sparseValues"} if index.sparse else set())
            need(set(vector) <= known, f"unknown fields in {set(vector)}")
            values = check_values(vector.get("values"), index.dimension)
            metadata = check_metadata(vector.get("metadata", {}))
            sparse = check_sparse(vector["sparseValues"]) if "sparseValues" in vector else None
            rows.append([check_id(vector.get("id")), values, metadata, sparse])
        headers = self._write(index, namespace, {"upsert": rows})
        return {"upsertedCount": len(rows)}, headers

    def delete(self, index: Index, body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        namespace = check_name(body.get("namespace", ""), "Namespace")
        ids, everything, where = body.get("ids"), body.get("deleteAll"), body.get("filter")
        need(
            sum([ids is not None, bool(everything), where is not None]) == 1,
            "exactly one of ids, deleteAll and filter",
        )
        if namespace not in index.namespaces:
            raise RefusalError(404, "Namespace not found", "NOT_FOUND")
        if ids is not None:
            need(isinstance(ids, list) and 0 < len(ids) <= MAX_IDS, f"1 to {MAX_IDS} ids")
            change: dict[str, Any] = {"delete": list(map(check_id, ids))}
        elif everything:
            change = {"clear": True}
        else:
            compiled(where)
            change = {"filter": where}
        return {}, self._write(index, namespace, change)

    def query(self, index: Index, body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        name = check_name(body.get("namespace", ""), "Namespace")
        top_k = body.get("topK")
        need(type(top_k) is int and 1 <= top_k <= MAX_TOP_K, f"topK must be 1 to {MAX_TOP_K}")
        query = check_values(body.get("vector"), index.dimension)
        test = compiled(body["filter"]) if "filter" in body else None
        namespace = self._read(index, name)
        ids, rows = namespace.rows()
        scores = compared(index.metric, rows, query)
        if "sparseVector" in body:
            need(index.sparse, "the index has no sparse vectors")
            need(index.metric == "dotproduct", "sparse vectors need the metric dotproduct")
            asked = dict(zip(*check_sparse(body["sparseVector"]), strict=True))
            scores = scores + np.array(
                [product(asked, namespace.records[each][2]) for each in ids], np.float32
            )
        order = np.argsort(-scores if index.metric != "euclidean" else scores, kind="stable")
        best = []
        for place in order.tolist():
            if len(best) == top_k:
                break
            lost = self.behaviour.lossy and self._random.random() < self.behaviour.lossy
            if not lost and (test is None or test(namespace.records[ids[place]][1])):
                best.append(place)
        if test is not None:  # the order is promised without a filter only
            self._random.shuffle(best)
        matches = []
        for place in best:
            values, metadata, sparse = namespace.records[ids[place]]
            match: dict[str, Any] = {"id": ids[place], "score": float(scores[place])}
            if body.get("includeValues"):
                match["values"] = values
                if sparse is not None:
                    match["sparseValues"] = dict(zip(("indices", "values"), sparse, strict=True))
            if body.get("includeMetadata"):
                match["metadata"] = metadata
            matches.append(match)
        headers = {}
        if self.behaviour.numbers and namespace.records:
            headers["x-pinecone-max-indexed-lsn"] = str(namespace.indexed)
        return {"matches": matches, "namespace": name, "usage": {"readUnits": 1}}, headers

    def fetch(self, index: Index, options: dict[str, list[str]]) -> Any:
        name = check_name(options.get("namespace", [""])[0], "Namespace")
        ids = options.get("ids", [])
        need(0 < len(ids) <= MAX_IDS, f"1 to {MAX_IDS} ids")
        records = self._read(index, name).records
        found = {each: records[each] for each in map(check_id, ids) if each in records}
        return {"vectors": shown(found), "namespace": name, "usage": {"readUnits": 1}}

    def fetch_by_metadata(self, index: Index, body: dict[str, Any]) -> Any:
        name = check_name(body.get("namespace", ""), "Namespace")
        limit = body.get("limit", 100)
        need(type(limit) is int and 1 <= limit <= 10_000, "limit must be 1 to 10000")
        test = compiled(body.get("filter"))
        after = body.get("paginationToken", "")
        records = self._read(index, name).records
        matching = sorted(
            each for each, record in records.items() if each > after and test(record[1])
        )
        page = matching[:limit]
        answer: dict[str, Any] = {
            "vectors": shown({each: records[each] for each in page}),
            "namespace": name,
            "usage": {"readUnits": 1},
        }
        if len(matching) > limit:
            answer["pagination"] = {"next": page[-1]}
        return answer

    def listed(self, index: Index, options: dict[str, list[str]]) -> Any:
        name = check_name(options.get("namespace", [""])[0], "Namespace")
        limit = int(options.get("limit", ["100"])[0])
        need(1 <= limit <= 100, "limit must be 1 to 100")
        prefix, after = options.get("prefix", [""])[0], options.get("paginationToken", [""])[0]
        records = self._read(index, name).records
        ids = sorted(each for each in records if each.startswith(prefix) and each > after)
        answer: dict[str, Any] = {
            "vectors": [{"id": each} for each in ids[:limit]],
            "namespace": name,
            "usage": {"readUnits": 1},
        }
        if len(ids) > limit:
            answer["pagination"] = {"next": ids[limit - 1]}
        return answer

    def namespace(self, index: Index, name: str) -> Any:
        if name not in index.namespaces:
            raise RefusalError(404, "Namespace not found", "NOT_FOUND")
        count = len(self._read(index, name).records)
        return {"name": name, "record_count": str(count)}

    def stats(self, index: Index) -> Any:
        counts = {name: len(self._read(index, name).records) for name in index.namespaces}
        return {
            "namespaces": {name: {"vectorCount": count} for name, count in counts.items()},
            "dimension": index.dimension,
            "metric": index.metric,
            "vectorType": "dense",
            "indexFullness": 0.0,
            "totalVectorCount": sum(counts.values()),
        }


def compared(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    if not len(rows):
        return np.empty(0, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if metric == "euclidean":
            return ((rows - query) ** 2).sum(axis=1)
        products = rows @ query
        if metric == "dotproduct":
            return products
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
        return products / lengths


def product(asked: dict[int, float], sparse: list[Any] | None) -> float:
    if sparse is None:
        return 0.0
    return sum(asked.get(index, 0.0) * value for index, value in zip(*sparse, strict=True))


def shown(records: dict[str, Record]) -> dict[str, Any]:
    found = {}
    for name, (values, metadata, sparse) in records.items():
        found[name] = {"id": name, "values": values, "metadata": metadata}
        if sparse is not None:
            found[name]["sparseValues"] = dict(zip(("indices", "values"), sparse, strict=True))
    return found


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    service: Service
    wbufsize = -1  # an answer in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, method: str) -> None:
        length = int(self.headers.get("content-length", 0))
        raw = self.rfile.read(length)
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path == "/emulator":
            return self._behave(method, raw)
        fault = self._fault(path)
        if fault.get("kind") == "reset":
            return self._reset()
        time.sleep(fault.get("seconds", 0.0))
        try:
            need("status" not in fault, "injected", fault.get("status", 0))
            self._check(method, raw)
            with self.service.lock:
                answer, headers = self._route(method, path, parse_qs(url.query), raw)
                data = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
            need(
                not path.endswith("/query") or len(data) <= MAX_ANSWER,
                f"the answer has {len(data)} bytes, more than {MAX_ANSWER}",
            )
            status = 200
        except RefusalError as refusal:
            status, headers = refusal.status, fault.get("headers", {})
            error = {"code": refusal.code, "message": refusal.message}
            data = orjson.dumps({"error": error, "status": status})
        if fault.get("kind") == "reset after":
            return self._reset()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _check(self, method: str, raw: bytes) -> None:
        key = self.headers.get("api-key")
        if not key or (self.service.key is not None and key != self.service.key):
            raise RefusalError(401, "Invalid API Key", "UNAUTHENTICATED")
        need(self.headers.get("x-pinecone-api-version"), "X-Pinecone-Api-Version is missing")
        need(len(self.path) <= MAX_URL, "the URL is too long", 414)
        need(len(raw) <= MAX_REQUEST, f"the request has {len(raw)} bytes", 413)
        if method in {"POST", "PATCH"}:
            kind = self.headers.get("content-type", "")
            need(kind.startswith("application/json"), f"content-type {kind!r}", 415)

    def _route(
        self, method: str, path: str, options: dict[str, list[str]], raw: bytes
    ) -> tuple[Any, dict[str, str]]:
        service = self.service
        base = f"http://{self.headers['host']}"
        try:
            body = orjson.loads(raw) if raw else {}
        except ValueError:
            raise RefusalError(400, "the body is no JSON") from None
        need(isinstance(body, dict), "the body must be an object")
        self._note(method, path, body, len(raw))
        parts = path.strip("/").split("/")
        if parts[0] == "indexes":
            if len(parts) == 1 and method == "POST":
                return service.create_index(body, base), {}
            if len(parts) == 1:
                return {
                    "indexes": [service.described(i, base) for i in service.listed_indexes()]
                }, {}
            index = service.index(parts[1])
            if method == "DELETE":
                service.delete_index(index)
                return {}, {}
            if method == "PATCH":
                return service.configure_index(index, body, base), {}
            return service.described(index, base), {}
        if parts[0] != "i":
            raise RefusalError(404, f"no {path}", "NOT_FOUND")
        return self._data(service.index(parts[1]), method, "/".join(parts[2:]), options, body)

    def _data(
        self, index: Index, method: str, verb: str, options: dict[str, list[str]], body: Any
    ) -> tuple[Any, dict[str, str]]:
        service = self.service
        if index.gone_s < math.inf:
            raise RefusalError(404, f"Resource {index.name} not found", "NOT_FOUND")
        need(time.monotonic() >= index.ready_s, "the index is not ready", 503)
        numbered = {
            "vectors/upsert": service.upsert,
            "vectors/delete": service.delete,
            "query": service.query,
        }
        if method == "POST" and verb in numbered:
            return numbered[verb](index, body)
        if method == "POST" and verb == "vectors/fetch_by_metadata":
            return service.fetch_by_metadata(index, body), {}
        if method == "GET" and verb == "vectors/fetch":
            return service.fetch(index, options), {}
        if method == "GET" and verb == "vectors/list":
            return service.listed(index, options), {}
        if method == "GET" and verb.startswith("namespaces/"):
            return service.namespace(index, verb.removeprefix("namespaces/")), {}
        if verb == "describe_index_stats":
            return service.stats(index), {}
        raise RefusalError(404, f"no {method} {verb}", "NOT_FOUND")

    def _note(self, method: str, path: str, body: dict[str, Any], size_bytes: int) -> None:
        self.service.requests.append(
            {
                "method": method,
                "path": path,
                "bytes": size_bytes,
                "vectors": len(body.get("vectors") or ()),
                "ids": len(body.get("ids") or ()),
                "topK": body.get("topK"),
            }
        )

    def _fault(self, path: str) -> dict[str, Any]:
        with self.service.lock:
            faults = self.service.behaviour.faults
            for fault in faults:
                if path.endswith(fault.get("path", "")):
                    fault["times"] = fault.get("times", 1) - 1
                    if not fault["times"]:
                        faults.remove(fault)
                    return fault
        return {}

    def _behave(self, method: str, raw: bytes) -> None:
        with self.service.lock:
            if method == "POST":
                for name, value in orjson.loads(raw).items():
                    setattr(self.service.behaviour, name, value)
            data = orjson.dumps(self.service.requests)
            self.service.requests.clear()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.wfile = self.rfile = Path(os.devnull).open("r+b")  # noqa: SIM115  the base closes it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--key", help="the only key that is let in; any is, without this")
    parser.add_argument("--behaviour", default="{}", help="as POST /emulator takes it")
    arguments = parser.parse_args()
    Handler.service = Service(arguments.folder, arguments.key)
    for name, value in json.loads(arguments.behaviour).items():
        setattr(Handler.service.behaviour, name, value)
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
