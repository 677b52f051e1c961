"""What Milvus does behind a collection, and what the collection costs over pymilvus alone.

Run as ``python -m benchmarks.milvus_overhead --json milvus.json``. It starts a real server on
loopback, and Milvus Lite in this process; nearfield and the bare client take turns. The bare client
once writes documents and asks for hits as one would without nearfield, and once sends the very rows
and requests that nearfield sends.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from benchmarks.engines import BATCH, DIMENSION, K, documents_and_queries
from benchmarks.overhead import arguments, in_turn, medians_ms, over_us, report, seconds, turn
from tests.milvus_server import milvus_server

import nearfield
from nearfield import Document, F, SearchMode
from nearfield.stores.base import Include
from nearfield.stores.milvus.expressions import expression
from nearfield.stores.milvus.messages import DYNAMIC
from nearfield.stores.milvus.records import columns, encode_all, stamped

_DEPTH = 160
_BARE, _SAME = ", the bare client", ", the same by the bare client"


def main() -> None:
    given = arguments(__doc__, count=50_000, rounds=200)
    documents, queries = documents_and_queries(given.count)
    figures: dict[str, dict[str, float]] = {}
    with milvus_server() as server:
        figures["server"] = _measured(server.url(), documents, queries, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        url = f"milvus://{Path(folder).as_posix()}/database.db"
        few = documents[: given.count // 5]
        figures["Lite, a fifth of them"] = _measured(url, few, queries, given.rounds // 5)
    report(figures, given.json)


def _measured(
    url: str, documents: list[Document], queries: np.ndarray[Any, Any], rounds: int
) -> dict[str, float]:
    with (
        nearfield.open(url, dimension=DIMENSION) as collection,
        nearfield.open(url, "twin", dimension=DIMENSION) as twin,
    ):
        store: Any = collection._store  # noqa: SLF001
        handle, twins = store._handle, twin._store._handle.name  # noqa: SLF001
        client = handle._lease.client  # noqa: SLF001
        client.create_collection("bare", dimension=DIMENSION, id_type="string", max_length=4096)
        write = client.insert if handle.is_lite else client.upsert
        times: dict[str, list[float]] = {"": [], _BARE: [], _SAME: []}
        for number, start in enumerate(range(0, len(documents), BATCH)):
            batch = documents[start : start + BATCH]
            rows = stamped(encode_all(batch, has_words=SearchMode.KEYWORD in collection.modes))
            works = {
                "": partial(collection.upsert, batch),
                _BARE: lambda batch=batch: write("bare", [_row(each) for each in batch]),
                _SAME: partial(write, twins, [_whole(row) for row in rows]),
            }
            for name, work in turn(works, number):
                times[name].append(seconds(work))
        figures = {
            f"insert{name}, documents/s": BATCH / statistics.median(measured)
            for name, measured in times.items()
        }
        start_s = time.perf_counter()
        collection.maintain()
        figures["maintain, s"] = time.perf_counter() - start_s
        if not handle.is_lite:
            client.flush("bare")
            time.sleep(30)  # until the server has loaded its index
        figures["recall@10"] = _recall(collection, documents, queries)
        for name, where, theirs_where in (
            ("search", None, ""),
            ("search among a tenth", F.group == "g3", 'group == "g3"'),
        ):
            bare = partial(
                client.search,
                "bare",
                limit=K,
                filter=theirs_where,
                output_fields=["text", "n", "group", "source"],
                search_params={"params": {"ef": _DEPTH}},
            )
            same = partial(
                client.search,
                handle.name,
                anns_field="vector",
                limit=K + 5,
                filter=expression(where),
                output_fields=columns(Include(), scored=True),
                search_params={"params": {"nprobe": store._tuning.plan().probes}},  # noqa: SLF001
                consistency_level="Session",
            )
            calls: dict[str, Callable[[int], object]] = {
                name: lambda i, where=where: collection.search(queries[i], where=where),
                name + _BARE: lambda i, bare=bare: _read(bare(data=[queries[i]])),
                name + _SAME: lambda i, same=same: _read(same(data=[queries[i]])),
            }
            if SearchMode.KEYWORD in collection.modes:
                for mode in ("keyword", "hybrid"):
                    calls[f"{name}, {mode}"] = lambda i, where=where, mode=mode: collection.search(
                        "kettle 77", vector=queries[i], mode=mode, where=where
                    )
            times_s = in_turn(calls, len(queries), rounds)
            figures |= medians_ms(times_s)
            over = over_us(times_s[name], times_s[name + _SAME])
            figures[f"{name} over the same by the bare client, us"] = over
        return figures


def _row(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "vector": document.embedding,
        "text": document.text,
        **document.metadata,
    }


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the client takes it: the fields of its dynamic part beside the others."""
    fields = msgspec.json.decode(row[DYNAMIC])
    return {**fields, **{name: value for name, value in row.items() if name != DYNAMIC}}


def _read(answers: Any) -> list[list[Any]]:
    """Read what was found, which the client leaves as it came until then."""
    return [list(answer) for answer in answers]


def _recall(
    collection: nearfield.Collection, documents: list[Document], queries: np.ndarray[Any, Any]
) -> float:
    vectors = np.stack([document.embedding for document in documents])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    recalls = []
    for query in queries:
        best = np.argsort(-(vectors @ query))[:K]
        hits = collection.search(query)
        recalls.append(len({f"document-{i}" for i in best} & {hit.id for hit in hits}) / K)
    return float(np.mean(recalls))


if __name__ == "__main__":
    main()
