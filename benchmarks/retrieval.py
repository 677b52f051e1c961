"""How well the search modes retrieve, on collections with judged queries.

Run with ``python -m benchmarks.retrieval``; see README.md. The data is a folder with one folder
per collection in the layout of BEIR (Thakur et al., NeurIPS 2021): ``corpus.jsonl``,
``queries.jsonl`` and ``qrels/test.tsv``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nearfield
from nearfield import Document, SearchMode
from nearfield.embedders import CachedEmbedder, load
from nearfield.evaluation import measures, read_judgements, read_queries

_ROOT = Path(__file__).parents[1]
_NAMES = ("cranfield", "scifact")
_DEPTH = 100
_BATCH = 512


@dataclass(frozen=True, slots=True)
class TestCollection:
    """Documents, and queries for which it was judged which documents answer them.

    Attributes:
        name: The folder's name.
        documents: Title and text together; some are empty, some are copies of others.
        queries: Text by id; only those that are judged.
        judgements: For each query, each judged document's relevance.
    """

    name: str
    documents: list[Document]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]

    @classmethod
    def read(cls, folder: Path) -> TestCollection:
        """Read a folder in BEIR's layout."""
        judgements = read_judgements(folder / "qrels" / "test.tsv")
        with (folder / "corpus.jsonl").open(encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        documents = [
            Document(f"{entry['title']} {entry['text']}".strip(), id=entry["_id"])
            for entry in entries
        ]
        queries = {
            query: text
            for query, text in read_queries(folder / "queries.jsonl").items()
            if query in judgements
        }
        return cls(folder.name, documents, queries, judgements)


@dataclass(frozen=True, slots=True)
class Quality:
    """How well one mode retrieves from one test collection, as a mean over its queries.

    Attributes:
        collection: The test collection's name.
        mode: The search mode.
        ndcg_at_10: Normalised discounted cumulative gain of the first 10 (Järvelin and
            Kekäläinen, ACM TOIS 20(4), 2002).
        recall_at_100: The share of the relevant documents among the first 100.
        search_ms: Milliseconds a query, embedding it included.
    """

    collection: str
    mode: str
    ndcg_at_10: float
    recall_at_100: float
    search_ms: float


def evaluate(
    run: dict[str, list[str]], judgements: dict[str, dict[str, int]]
) -> tuple[float, float]:
    """Score rankings as trec_eval does.

    Args:
        run: For each query, ids of documents, best first.
        judgements: For each query, the relevance of judged documents.

    Returns:
        nDCG@10 and Recall@100, means over the judged queries; one without hits counts as 0.
    """
    measured = [
        measures.measure(run.get(query, ()), judged, (10, 100))
        for query, judged in judgements.items()
    ]
    return (
        sum(values["nDCG@10"] for values in measured) / len(measured),
        sum(values["Recall@100"] for values in measured) / len(measured),
    )


def measure(test: TestCollection, embedder: nearfield.embedders.Embedder) -> list[Quality]:
    """Fill a collection and search it in every mode."""
    with (
        tempfile.TemporaryDirectory() as folder,
        nearfield.open(folder, test.name, embedder=embedder, durability="normal") as collection,
    ):
        for start in range(0, len(test.documents), _BATCH):
            collection.upsert(test.documents[start : start + _BATCH])
        return [_measure_mode(test, collection, mode) for mode in SearchMode]


def _measure_mode(
    test: TestCollection, collection: nearfield.Collection, mode: SearchMode
) -> Quality:
    start = time.perf_counter()
    run = {
        identifier: [hit.id for hit in collection.search(text, k=_DEPTH, mode=mode, include=())]
        for identifier, text in test.queries.items()
    }
    search_ms = (time.perf_counter() - start) * 1e3 / len(test.queries)
    return Quality(test.name, mode.value, *evaluate(run, test.judgements), search_ms)


def _means(qualities: list[Quality]) -> dict[str, tuple[float, float]]:
    """Return nDCG@10 and Recall@100 of each mode, means over the test collections."""
    means = {}
    for mode in SearchMode:
        of_mode = [quality for quality in qualities if quality.mode == mode]
        means[mode.value] = (
            sum(quality.ndcg_at_10 for quality in of_mode) / len(of_mode),
            sum(quality.recall_at_100 for quality in of_mode) / len(of_mode),
        )
    return means


def _print_table(qualities: list[Quality], means: dict[str, tuple[float, float]]) -> None:
    print(f"{'':12} {'mode':8} {'nDCG@10':>8} {'Recall@100':>10} {'ms/query':>9}")
    for quality in qualities:
        print(
            f"{quality.collection:12} {quality.mode:8} {100 * quality.ndcg_at_10:8.1f} "
            f"{100 * quality.recall_at_100:10.1f} {quality.search_ms:9.2f}"
        )
    for mode, (ndcg, recall) in means.items():
        print(f"{'mean':12} {mode:8} {100 * ndcg:8.1f} {100 * recall:10.1f}")


def main() -> int:
    """Measure, print the table and say whether hybrid is at least as good as the better mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("NEARFIELD_BENCH_DATA") or _ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="the folder of test collections")
    parser.add_argument("--embedder", default=None, help="a spec; the default embedder without")
    parser.add_argument("--json", type=Path, help="store the results there")
    parser.add_argument(
        "--cache",
        type=Path,
        default=_ROOT / ".nearfield" / "embeddings.sqlite3",
        help="keep the documents' embeddings there, for the next run",
    )
    options = parser.parse_args()
    absent = [name for name in _NAMES if not (options.data / name / "corpus.jsonl").is_file()]
    if absent:
        print(
            f"NOT MEASURED: {options.data} does not hold {', '.join(absent)}; name a folder of "
            "test collections with --data or NEARFIELD_BENCH_DATA"
        )
        return 0
    qualities = []
    with CachedEmbedder(load(options.embedder), options.cache) as embedder:
        for name in _NAMES:
            qualities += measure(TestCollection.read(options.data / name), embedder)
        model = embedder.info.model
    means = _means(qualities)
    _print_table(qualities, means)
    better = tuple(max(means["vector"][i], means["keyword"][i]) for i in range(2))
    verdict = "PASS" if all(map(float.__ge__, means["hybrid"], better)) else "MISS"
    print(f"{verdict}  hybrid is at least as good as the better of vector and keyword, on the mean")
    if options.json:
        content = {
            "embedder": model,
            "results": [asdict(quality) for quality in qualities],
            "means": means,
            "verdict": verdict,
        }
        options.json.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
