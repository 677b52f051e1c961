"""Ask a collection judged queries, and measure what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from nearfield.documents import SearchMode
from nearfield.embedders import contract
from nearfield.errors import InvalidInputError
from nearfield.evaluation.coverage import count_missing, judged_id
from nearfield.evaluation.measures import is_answerable, measure
from nearfield.evaluation.report import EvaluationReport, ModeResult
from nearfield.queries import SearchOptions
from nearfield.rerankers.contract import rerank as rerank_texts
from nearfield.threads import run_on_thread
from nearfield.validation import check_positive, check_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.collection import Collection
    from nearfield.documents import Hit
    from nearfield.rerankers import Reranker

__all__ = ["aevaluate", "evaluate"]

Judgements: TypeAlias = Mapping[str, Mapping[str, int]]

_QUERIES_AT_ONCE = 64
_WIDENING = 4


@dataclass(frozen=True, slots=True)
class _Setting:
    """What is asked of the collection for each query, but for the mode.

    Attributes:
        ks: The depths to measure at.
        id_field: The metadata field with the judged ids; None for the documents' own.
        pool: How many candidates a reranker sees; None without one.
        options: What else a search takes.
    """

    ks: tuple[int, ...]
    id_field: str | None
    pool: int | None
    options: Mapping[str, Any]


def evaluate(
    collection: Collection,
    queries: Mapping[str, str],
    judgements: Judgements,
    *,
    modes: SearchMode | str | Sequence[SearchMode | str] = tuple(SearchMode),
    k: int | Sequence[int] = 10,
    where: Any = None,
    alpha: float = 0.5,
    rerank: Reranker | None = None,
    candidates: int | None = None,
    id_field: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Measure how well a collection retrieves: nDCG@k, Recall@k, MRR@k and MAP@k of each mode.

    The measures are those of trec_eval; see :mod:`nearfield.evaluation.measures`. A document that
    is not judged counts as not relevant. A query is left out if no document is relevant to it; the
    report says how many were.

    Args:
        collection: What to ask.
        queries: The text of each query by its id; those that are not judged are not asked.
        judgements: For each query's id, the relevance of documents by their ids.
        modes: The search modes to measure.
        k: How deep to measure; of several depths the deepest is asked for.
        where: As for ``Collection.search``, as the two that follow.
        alpha: In a hybrid search, the weight of the vectors.
        rerank: What puts the candidates in order.
        candidates: With ``rerank``, how many of the best hits it is given.
        id_field: The metadata field with the ids that were judged, where they are not the
            documents' own. Of several documents with the same one, such as the chunks of a file,
            the best counts.
        seed: What the bootstrap follows from.
        on_progress: Called with the number of searches done and of all.

    Raises:
        InvalidInputError: An argument is out of range, no query is judged, or the collection holds
            none of the relevant documents.
        EmbedderRequiredError: The queries have to be embedded and no embedder is at hand.
        RerankingError: The reranker failed.
    """
    ks, checked_seed = _read_depths(k), check_seed(seed)
    options = {"where": where, "alpha": alpha, "rerank": rerank}
    checked = [
        SearchOptions.checked(k=max(ks), mode=mode, candidates=candidates, **options)
        for mode in ([modes] if isinstance(modes, str) else modes)
    ]
    if not checked:
        raise InvalidInputError(f"modes is empty, expected some of: {', '.join(SearchMode)}")
    answerable = {query for query, judged in judgements.items() if is_answerable(judged)}
    asked = {query: text for query, text in queries.items() if query in answerable}
    if not asked:
        raise InvalidInputError(
            f"none of the {len(queries)} queries is judged to have a relevant document: the ids in "
            f"the judgements are such as {', '.join(map(repr, islice(judgements, 3)))}, and those "
            f"of the queries {', '.join(map(repr, islice(queries, 3)))}"
        )
    relevant = {
        document
        for query in asked
        for document, relevance in judgements[query].items()
        if relevance > 0
    }
    missing = count_missing(collection, relevant, id_field)
    wanted = list(dict.fromkeys(each.mode for each in checked))
    _load_models(collection, wanted, rerank, next(iter(asked.values())))
    return EvaluationReport(
        collection=collection.info.name,
        model=collection.info.embedding.model,
        reranker=None if rerank is None else rerank.name,
        queries=len(asked),
        unanswerable=len(judgements) - len(answerable),
        textless=len(answerable) - len(asked),
        documents=len(relevant),
        missing=missing,
        results=_measured(
            collection,
            asked,
            judgements,
            modes=wanted,
            setting=_Setting(
                ks, id_field, None if rerank is None else checked[0].candidates, options
            ),
            seed=checked_seed,
            on_progress=on_progress,
        ),
    )


async def aevaluate(
    collection: Collection,
    queries: Mapping[str, str],
    judgements: Judgements,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> EvaluationReport:
    """Run :func:`evaluate` on a worker thread; ``options`` are its other arguments.

    When the task is cancelled, the evaluation ends after the searches in hand, and only then is
    the cancellation passed on. ``on_progress`` is called on the worker thread.
    """
    work = partial(evaluate, collection, queries, judgements, **options)
    return await run_on_thread(work, on_progress)


def _read_depths(k: int | Sequence[int]) -> tuple[int, ...]:
    given = k if isinstance(k, Sequence) else [k]
    if not given:
        raise InvalidInputError("k is empty, expected one or more depths")
    return tuple(dict.fromkeys(check_positive(each, "k") for each in given))


def _load_models(
    collection: Collection, modes: Sequence[SearchMode], reranker: Reranker | None, text: str
) -> None:
    """Use each model once, so that loading it is not counted as time of a query."""
    if _need_vectors(modes):
        contract.embed_queries(collection.embedder, [text])
    if reranker is not None:
        rerank_texts(reranker, text, [text])


def _need_vectors(modes: Sequence[SearchMode]) -> bool:
    return any(mode is not SearchMode.KEYWORD for mode in modes)


def _measured(
    collection: Collection,
    queries: Mapping[str, str],
    judgements: Judgements,
    *,
    modes: Sequence[SearchMode],
    setting: _Setting,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[ModeResult, ...]:
    per_query: dict[SearchMode, dict[str, dict[str, float]]] = {mode: {} for mode in modes}
    seconds = dict.fromkeys(modes, 0.0)
    done = 0
    for batch in _batches(queries.items()):
        texts = [text for _, text in batch]
        vectors, embedding_s = None, 0.0
        if _need_vectors(modes):  # once for all modes
            start_s = time.perf_counter()
            vectors = contract.embed_queries(collection.embedder, texts)
            embedding_s = time.perf_counter() - start_s
        for mode in modes:
            start_s = time.perf_counter()
            found = _rankings(collection, texts, vectors, mode, setting)
            seconds[mode] += time.perf_counter() - start_s
            seconds[mode] += embedding_s if _need_vectors([mode]) else 0.0
            for (query, _), ranking in zip(batch, found, strict=True):
                per_query[mode][query] = measure(ranking, judgements[query], setting.ks)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(queries) * len(modes))
    return tuple(
        ModeResult.summed_up(
            mode, per_query[mode], search_ms=seconds[mode] * 1e3 / len(queries), seed=seed
        )
        for mode in modes
    )


def _rankings(
    collection: Collection,
    texts: Sequence[str],
    vectors: NDArray[np.float32] | None,
    mode: SearchMode,
    setting: _Setting,
) -> list[list[str]]:
    """Return the judged ids of each query's hits, best first, each once."""

    def search(rows: list[int], k: int) -> list[list[Hit]]:
        return collection.search_many(
            [texts[row] for row in rows],
            vectors=None if vectors is None else vectors[rows],
            k=k,
            mode=mode,
            candidates=setting.pool,
            include=() if setting.id_field is None else ("metadata",),
            **setting.options,
        )

    depth, rows = max(setting.ks), list(range(len(texts)))
    if setting.id_field is None:
        return [[hit.id for hit in hits] for hits in search(rows, depth)]
    rankings: list[list[str]] = [[] for _ in texts]
    k = setting.pool or depth
    while rows:
        found = search(rows, k)
        for row, hits in zip(rows, found, strict=True):
            rankings[row] = list(dict.fromkeys(judged_id(hit, setting.id_field) for hit in hits))
        if setting.pool is not None:  # a reranker sees its candidates and no more
            break
        rows = [
            row
            for row, hits in zip(rows, found, strict=True)
            if len(hits) == k and len(rankings[row]) < depth
        ]
        k *= _WIDENING
    return rankings


def _batches(queries: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    remaining = iter(queries)
    while batch := list(islice(remaining, _QUERIES_AT_ONCE)):
        yield batch
