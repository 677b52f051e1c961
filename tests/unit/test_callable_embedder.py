"""A Python function as an embedder."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nearfield
from nearfield.documents import Metric
from nearfield.embedders import CallableEmbedder, contract
from nearfield.errors import EmbeddingError, InvalidDocumentError, InvalidInputError

TEXTS = ["a", "bb", "ccc"]


def measure(texts):
    return [[len(text), 1] for text in texts]


async def ameasure(texts):
    await asyncio.sleep(0)
    return measure(texts)


class Measure:
    """An object that can be called, asynchronously."""

    async def __call__(self, texts):
        return await ameasure(texts)


class Heir(Measure):
    """Another, that has it from its parent."""


FUNCTIONS = [
    measure,
    ameasure,
    Measure(),
    Heir(),
    functools.partial(ameasure),
    lambda texts: ameasure([*texts]),
]


def embedder(function=measure, **options):
    return CallableEmbedder(function, **{"name": "length", "dimension": 2, **options})


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_of_either_kind_embeds_by_methods_of_either_kind(function):
    made = embedder(function)
    # Called beneath a running event loop, which is how a synchronous method is called here.
    np.testing.assert_array_equal(made.embed_documents(TEXTS), measure(TEXTS))
    np.testing.assert_array_equal(made.embed_queries(TEXTS), measure(TEXTS))
    np.testing.assert_array_equal(await made.aembed_documents(TEXTS), measure(TEXTS))
    np.testing.assert_array_equal(await made.aembed_queries(TEXTS), measure(TEXTS))


def test_an_asynchronous_function_is_run_to_its_end_where_there_is_no_event_loop():
    np.testing.assert_array_equal(embedder(ameasure).embed_documents(TEXTS), measure(TEXTS))


def test_a_collection_is_built_with_it_and_opened_again(tmp_path):
    with nearfield.open(tmp_path, "texts", embedder=embedder()) as collection:
        collection.upsert(TEXTS)
    with nearfield.open(tmp_path, "texts", embedder=embedder(ameasure)) as collection:
        assert collection.search("xxx", k=1)[0].text == "ccc"
        assert collection.info.embedding.model == "callable:length"


def test_the_function_gets_lists_of_at_most_the_batch_size_and_never_an_empty_one():
    asked = []

    def note(texts):
        asked.append(texts)
        return measure(texts)

    made = embedder(note, batch_size=2)
    np.testing.assert_array_equal(made.embed_documents(tuple(TEXTS)), measure(TEXTS))
    assert made.embed_documents([]).shape == (0, 2)
    assert asked == [["a", "bb"], ["ccc"]]
    assert made.slice_size == 2


def test_what_the_function_does_to_its_list_is_no_concern_of_the_caller():
    def clear(texts):
        vectors = measure(texts)
        texts.clear()
        return vectors

    given = list(TEXTS)
    assert len(embedder(clear).embed_documents(given)) == 3
    assert given == TEXTS


def test_queries_may_have_a_function_of_their_own():
    made = embedder(query_function=lambda texts: [[-1, -1] for _ in texts])
    np.testing.assert_array_equal(made.embed_queries(["a"]), [[-1, -1]])
    np.testing.assert_array_equal(made.embed_documents(["a"]), [[1, 1]])


def test_vectors_are_normalised_where_that_is_asked_for():
    made = embedder(
        lambda texts: [[3 * len(text), 4 * len(text)] for text in texts], normalize=True
    )
    np.testing.assert_allclose(made.embed_documents(TEXTS), [[0.6, 0.8]] * 3, rtol=1e-6)
    assert made.info.normalized
    with pytest.raises(EmbeddingError, match="text 2 is zero"):
        made.embed_documents(["a", "b", ""])


def test_the_options_are_in_the_info():
    made = embedder(max_tokens=5, count_tokens=len, metric="dot")
    assert (made.info.max_tokens, made.info.metric) == (5, Metric.DOT)
    assert made.count_tokens("four") == 4
    assert not hasattr(embedder(), "count_tokens")
    assert repr(made) == "CallableEmbedder('length')"


def test_the_name_stands_for_the_function_unless_a_fingerprint_does():
    def fingerprint(**options):
        return embedder(**options).info.fingerprint

    assert fingerprint() == fingerprint(batch_size=1) == fingerprint(concurrent=True)
    assert fingerprint(fingerprint="1") == fingerprint(fingerprint="1", name="another name")
    different = [
        {},
        {"name": "other"},
        {"fingerprint": "length"},
        {"fingerprint": "2"},
        {"normalize": True},
        {"fingerprint": "2", "normalize": True},
        {"dimension": 3},
    ]
    assert len({fingerprint(**options) for options in different}) == len(different)


# ── several at once ──────────────────────────────────────────────────────────────────────────────


def test_calls_take_turns_unless_the_function_can_be_called_at_the_same_time():
    inside = threading.Lock()

    def alone(texts):
        assert inside.acquire(blocking=False), "called twice at once"
        try:
            return measure(texts)
        finally:
            inside.release()

    made = embedder(alone, batch_size=1, query_function=alone)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(made.embed_documents, TEXTS) for _ in range(50)]
        waiting += [pool.submit(made.embed_queries, TEXTS) for _ in range(50)]
        assert all(len(each.result()) == 3 for each in waiting)


def test_a_function_that_can_is_called_at_the_same_time():
    meeting = threading.Barrier(2, timeout=30)

    def meet(texts):
        meeting.wait()
        return measure(texts)

    made = embedder(meet, concurrent=True)
    with ThreadPoolExecutor(2) as pool:
        assert all(len(vectors) == 3 for vectors in pool.map(made.embed_documents, [TEXTS] * 2))


async def test_a_turn_is_passed_on_when_the_task_that_had_it_is_cancelled():
    begun, let_go = threading.Event(), threading.Event()

    def wait(texts):
        begun.set()
        let_go.wait(30)
        return measure(texts)

    made = embedder(wait)
    task = asyncio.create_task(made.aembed_documents(TEXTS))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let_go.set()
    assert len(await made.aembed_documents(TEXTS)) == 3


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda texts: measure(texts)[:-1], r"shape \(2, 2\) for 3 texts"),
        (lambda texts: [[1, 2, 3]] * len(texts), r"shape \(3, 3\)"),
        (lambda texts: [[1.0, float("nan")]] * len(texts), "NaN or infinity for text 0"),
        (lambda texts: [["x", "y"]] * len(texts), "expected a float32 array"),
        (lambda _texts: None, "expected a float32 array"),
    ],
)
def test_what_is_no_embedding_for_each_text_is_refused(function, complaint):
    with pytest.raises(EmbeddingError, match=complaint) as breach:
        embedder(function).embed_documents(TEXTS)
    assert "'callable:length'" in str(breach.value)


def test_a_fault_in_a_later_batch_is_named_by_its_place_among_all_texts():
    made = embedder(
        lambda texts: [[float("inf") if text == "odd" else 1, 1] for text in texts], batch_size=2
    )
    with pytest.raises(EmbeddingError, match="infinity for text 4"):
        made.embed_documents([*TEXTS, "x", "odd"])


async def test_what_the_function_raises_is_an_embedding_error_with_its_cause():
    async def fail(_texts):
        raise ConnectionError("refused")

    with pytest.raises(
        EmbeddingError, match=r"'callable:length' failed on 3 texts.*refused"
    ) as error:
        contract.embed_documents(embedder(fail), TEXTS)
    assert isinstance(error.value.__cause__, ConnectionError)
    with pytest.raises(EmbeddingError, match="refused"):
        await contract.aembed_documents(embedder(fail), TEXTS)


def test_what_is_no_text_is_refused_before_the_function_is_called():
    def refuse(_texts):
        raise NotImplementedError

    with pytest.raises(InvalidDocumentError, match="must be a str, got bytes") as refusal:
        embedder(refuse).embed_documents(["a", b"b"])
    assert refusal.value.position == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": 3}, "name must be a str"),
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"fingerprint": 7}, "fingerprint must be a str"),
        ({"fingerprint": ""}, "fingerprint is empty"),
        ({"metric": "manhattan"}, "metric is 'manhattan', expected one of: cosine"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"function": "measure"}, "function is a str"),
        ({"query_function": 3}, "query_function is a int"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        embedder(**options)
