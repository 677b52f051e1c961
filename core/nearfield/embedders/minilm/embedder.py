"""all-MiniLM-L6-v2 on onnxruntime: the embedder that works right after the installation.

The model file is built from the official weights by ``tools/build_minilm.py``.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import CorruptionError, EmbeddingError
from nearfield.validation import check_positive, check_text, check_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MiniLMEmbedder"]

MODEL_SHA256 = "3e3a80dfff0934f0fc0e2545e2016742c71b374ddd785763ba1eb0a2683ec9e6"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_DIMENSION = 384
_MAX_TOKENS = 256
_POOLING = "mean+l2/1"
"""How tokens become a vector; part of the fingerprint, so it changes with the output."""
_INFO = EmbeddingInfo(
    model="minilm",
    dimension=_DIMENSION,
    normalized=True,
    metric=Metric.COSINE,
    max_tokens=_MAX_TOKENS,
    fingerprint=f"minilm/{MODEL_SHA256[:16]}/{TOKENIZER_SHA256[:16]}/{_MAX_TOKENS}/{_POOLING}",
)
_MOST_THREADS = 8
_LONG_CHARACTERS = 4096
"""Of a longer text the beginning is tokenized first: 256 tokens are rarely more than 1,500."""
_WORD_BOUNDARY = re.compile("[ \\t\\r\\n\u4e00-\u9fff]")
"""Where a text can be cut without changing the tokens before: white space and Chinese."""


class MiniLMEmbedder:
    """Embeds English text with all-MiniLM-L6-v2, which comes with nearfield.

    Vectors have 384 components and length 1. A text's first 256 tokens count, some 200 words; the
    empty text has a vector too. The weights have 7 bits, and the vectors a cosine of about .994
    with those of the float model, which retrieves no better. Queries and documents are embedded
    alike.

    The model is loaded at the first use, once for all embedders of the process, and again in a
    forked child. Any number of threads may use one embedder.

    Args:
        threads: Texts embedded at once by one call; by default one for each processor the process
            may use, and at most 8.

    Raises:
        InvalidInputError: ``threads`` is below 1.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = _processors() if threads is None else check_positive(threads, "threads")

    def __repr__(self) -> str:
        return f"MiniLMEmbedder(threads={self._threads})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in."""
        return _INFO

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns:
            C-contiguous float32 array of shape (len(texts), 384), each row of length 1 and the
            same, to the bit, in every batch.

        Raises:
            InvalidDocumentError: A text is no ``str`` or has a lone surrogate.
            EmbeddingError: The model could not be loaded.
            CorruptionError: The model's files are not those that nearfield was released with.
        """
        import numpy as np

        texts = check_texts(texts)
        vectors = np.empty((len(texts), _DIMENSION), dtype=np.float32)
        workers = min(self._threads, len(texts))
        if not workers:
            return vectors
        model = _load()
        waiting = deque(range(len(texts)))

        def work() -> None:
            while True:
                try:
                    position = waiting.popleft()
                except IndexError:
                    return
                vectors[position] = model.embed(texts[position])

        if workers == 1:
            work()
            return vectors
        with ThreadPoolExecutor(workers, thread_name_prefix="nearfield-minilm") as pool:
            try:
                for done in [pool.submit(work) for _ in range(workers)]:
                    done.result()
            finally:
                waiting.clear()  # after an interrupt, the threads end with their current text
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, as :meth:`embed_documents` does."""
        return self.embed_documents(texts)

    def count_tokens(self, text: str) -> int:
        """Count a text's tokens, with the two that mark its ends; beyond 256 they are cut off."""
        return len(_load().tokenize(check_text(text)))


class _Model:
    """The tokenizer and the session; both are safe to use from several threads."""

    def __init__(self) -> None:
        import numpy as np

        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EmbeddingError(
                f"the default embedder could not import onnxruntime and tokenizers ({error}); "
                "install them with: pip install onnxruntime tokenizers"
            ) from error
        tokenizer = _read("tokenizer.json", TOKENIZER_SHA256)
        model = _read("model.onnx", MODEL_SHA256)
        self._array = np.array
        self._int64 = np.int64
        self._tokenizer: Any = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._session: Any = _session(onnxruntime, model)

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def embed(self, text: str) -> NDArray[np.float32]:
        ids = self._first_tokens(text)
        [vectors] = self._session.run(None, {"input_ids": self._array([ids], self._int64)})
        vector: NDArray[np.float32] = vectors[0]
        return vector

    def _first_tokens(self, text: str) -> list[int]:
        size = _LONG_CHARACTERS
        while size < len(text) and (boundary := _WORD_BOUNDARY.search(text, size)):
            ids = self.tokenize(text[: boundary.start()])
            if len(ids) >= _MAX_TOKENS:
                break
            size = 4 * boundary.start()
        else:
            ids = self.tokenize(text)
        if len(ids) > _MAX_TOKENS:
            ids[_MAX_TOKENS - 1 :] = ids[-1:]  # the last one marks the end
        return ids


_lock = threading.Lock()
_loaded: _Model | None = None
_abandoned: list[_Model] = []


def _load() -> _Model:
    global _loaded
    if (model := _loaded) is not None:
        return model
    with _lock:
        if _loaded is None:
            model = _Model()
            _forget_after_fork()
            _loaded = model
        return _loaded


@cache
def _forget_after_fork() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    # Another thread may have been inside the session, or held the lock, when the process forked.
    global _loaded, _lock
    if _loaded is not None:
        _abandoned.append(_loaded)  # and its destructor might wait for that thread
    _loaded = None
    _lock = threading.Lock()


def _session(onnxruntime: Any, model: bytes) -> Any:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    # One thread for each text: a dynamically quantized vector depends on its batch, and texts in
    # parallel are faster than one text on several threads.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings about hardware go to stderr
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _read(name: str, sha256: str) -> bytes:
    path = files("nearfield.embedders.minilm") / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmbeddingError(
            f"the default embedder's file {path} could not be read ({error}); install nearfield "
            "again with: pip install --force-reinstall nearfield"
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise CorruptionError(
            f"the default embedder's file {path} has sha256 {found}, expected {sha256}; install "
            "nearfield again with: pip install --force-reinstall nearfield",
            path=str(path),
        )
    return content


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return min(os.cpu_count() or 1, _MOST_THREADS)
