"""Any model that sentence-transformers runs, from a model hub or a local folder."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nearfield.documents import EmbeddingInfo, EmbeddingKind, Metric
from nearfield.embedders.images import read_batches
from nearfield.embedders.model_identity import (
    digest_model,
    module_names,
    read_kind,
    read_tokenizer,
)
from nearfield.embedders.unit import unit_vectors
from nearfield.errors import (
    EmbeddingError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedOperationError,
)
from nearfield.validation import check_positive, check_text, check_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    from nearfield.embedders.base import ImageLike

__all__ = ["SentenceTransformerEmbedder"]

_METRICS = {"cosine": Metric.COSINE, "dot": Metric.DOT, "euclidean": Metric.EUCLIDEAN}
_DTYPES = {"float32": "float", "float16": "half", "bfloat16": "bfloat16"}
"""And the method of a PyTorch module that casts it."""
_BACKENDS = ("torch", "onnx")


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model, with the prompts the model declares.

    A model that reads images, such as ``clip-ViT-B-32``, embeds them into the same space as texts;
    ``info.kind`` tells. The model is loaded at the first use; ``info`` needs it too. Calls from
    several threads take turns, since PyTorch uses all processors for each. Embed nothing before
    the process forks.

    Args:
        model: A model's name on the hub, a local folder, or a ``SentenceTransformer`` loaded with
            options of your own.
        device: Such as ``"cpu"``, ``"cuda"`` or ``"mps"``; None takes the best there is.
        truncate_dim: Keep only the first components, for models trained for it (Matryoshka). A
            normalised vector is normalised again.
        normalize: Scale vectors to length 1; None does as the model does.
        query_prompt: Put before every query instead of the model's own prompt.
        document_prompt: Put before every document instead of the model's own prompt.
        batch_size: Texts or images that go through the model together.
        dtype: ``"float16"`` or ``"bfloat16"`` takes half the memory, and on most GPUs half the
            time or less; ``"float32"`` is exact. None does as the library does, which is
            ``"float32"`` or, in later versions, what the model was saved in.
        backend: ``"onnx"`` runs the text model with ONNX Runtime, which is often faster on a CPU;
            it needs ``sentence-transformers[onnx]``. A model that has no ONNX file is exported at
            each start: save it once instead. Half precision is a matter of the file then.
        onnx_file: Which of the model's ONNX files, such as ``"model_qint8_avx512.onnx"``.

    Raises:
        MissingDependencyError: sentence-transformers is not installed, or what ``backend`` needs.
        InvalidInputError: An option is out of range, or one excludes another.
    """

    def __init__(
        self,
        model: str | Path | SentenceTransformer,
        *,
        device: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        batch_size: int = 32,
        dtype: str | None = None,
        backend: str = "torch",
        onnx_file: str | None = None,
    ) -> None:
        if find_spec("sentence_transformers") is None:
            raise MissingDependencyError(
                "sentence-transformers",
                extra="sentence-transformers",
                purpose="SentenceTransformerEmbedder",
            )
        _check_choices(model, dtype, backend, onnx_file)
        self._source = model
        self._device = device
        self._truncate_dim = (
            None if truncate_dim is None else check_positive(truncate_dim, "truncate_dim")
        )
        self._normalize = normalize
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._batch_size = check_positive(batch_size, "batch_size")
        self._dtype = dtype
        self._backend = backend
        self._onnx_file = onnx_file
        self._lock = threading.RLock()
        self._model: Any = None
        self._info: EmbeddingInfo | None = None

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self._name()!r})"

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in; the first use loads the model.

        The fingerprint covers the weights, the vocabulary, the pooling, the prompts and the
        options, and not where the model lies.
        """
        with self._lock:
            if self._info is None:
                self._info = self._describe(self._load())
            return self._info

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored.

        Returns:
            C-contiguous float32 array of shape (len(texts), dimension). A text's vector may vary
            with its batch by about 1e-6, since PyTorch sums in another order.

        Raises:
            InvalidDocumentError: A text is no ``str`` or has a lone surrogate.
            EmbeddingError: The model could not be loaded.
            UnsupportedOperationError: The model reads images alone.
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; shapes as in :meth:`embed_documents`."""
        return self._embed(texts, "query")

    def embed_images(self, images: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Embed images, to be stored or to search with; shapes as in :meth:`embed_documents`.

        Args:
            images: Bytes of image files, paths of them, or Pillow images; see
                :func:`nearfield.embedders.images.read_image`.

        Raises:
            InvalidDocumentError: Something is no image that can be read; the error has its place.
            UnsupportedOperationError: The model reads no images.
        """
        import numpy as np

        info = self.info
        if info.kind is EmbeddingKind.TEXT:
            raise UnsupportedOperationError(
                f"{info.model!r} reads no images; take a model that does, such as "
                "'sentence-transformers:clip-ViT-B-32'"
            )
        parts = [
            self._encode(batch, "document") for batch in read_batches(images, self._batch_size)
        ]
        return self._finished(np.concatenate(parts)) if parts else self._finished(None)

    def count_tokens(self, text: str) -> int:
        """Count a document's tokens, its prompt and the special ones included."""
        text = (self._prompts["document"] or "") + check_text(text)
        with self._lock:
            tokenizer = read_tokenizer(self._load())
            if hasattr(tokenizer, "encode_batch"):  # the bare tokenizer of a static model
                return len(tokenizer.encode(text).ids)
            return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _embed(self, texts: Sequence[str], role: str) -> NDArray[np.float32]:
        texts = check_texts(texts)
        kind = self.info.kind
        if kind is EmbeddingKind.IMAGE:
            raise UnsupportedOperationError(
                f"{self._name()!r} reads images, not texts; search with an image, or take a model "
                "that reads both"
            )
        if not texts:
            return self._finished(None)
        if kind is EmbeddingKind.MULTIMODAL and hasattr(self._load(), "modalities"):
            # Left to itself, the library fetches a text that is the address of an image.
            return self._finished(self._encode([{"text": text} for text in texts], role))
        return self._finished(self._encode(texts, role))

    def _encode(self, inputs: Sequence[object], role: str) -> NDArray[Any]:
        with self._lock:
            model = self._load()
            encode = model.encode_query if role == "query" else model.encode_document
            prompt = self._prompts[role]
            if not isinstance(inputs[0], str) and not hasattr(model, "modalities"):
                prompt = None  # before sentence-transformers 5.4 only texts have prompts
            vectors: NDArray[Any] = encode(
                inputs,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                **({} if prompt is None else {"prompt": prompt}),
            )
        return vectors

    def _finished(self, vectors: NDArray[Any] | None) -> NDArray[np.float32]:
        import numpy as np

        info = self.info
        if vectors is None:
            return np.empty((0, info.dimension), dtype=np.float32)
        vectors = np.array(vectors[:, : info.dimension], dtype=np.float32, order="C")
        if not info.normalized:
            return vectors
        return unit_vectors(vectors, reason="the model knows nothing in it; leave it out")

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            if isinstance(self._source, SentenceTransformer):
                self._model = self._source
            else:
                self._model = self._load_named(str(self._source))
        return self._model

    def _load_named(self, name: str) -> Any:
        from sentence_transformers import SentenceTransformer

        options: dict[str, Any] = {}
        if self._backend == "onnx":
            options = {"backend": "onnx", "model_kwargs": self._onnx_options()}
        try:
            model = SentenceTransformer(name, device=self._device, **options)
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            # AssertionError: PyTorch's, for a device that it was not built for.
            raise EmbeddingError(
                f"sentence-transformers could not load {name!r}: {error}; give a model's name, "
                "reachable or already downloaded, or the folder of one, and a device that is there"
            ) from error
        if self._backend == "onnx" and read_kind(model) is not EmbeddingKind.TEXT:
            raise InvalidInputError(
                f"backend='onnx' is for models that read texts alone, and {name!r} reads images"
            )
        if self._dtype is not None:
            cast = _DTYPES[self._dtype]
            model = getattr(model, cast)()
            _refuse_impossible(model, self._dtype)
        return model

    def _onnx_options(self) -> dict[str, object]:
        import onnxruntime

        # Left to itself, the library takes the first of the list, which may be one that needs a
        # service.
        gpu = "CUDAExecutionProvider"
        can = gpu in onnxruntime.get_available_providers() and self._device != "cpu"
        options: dict[str, object] = {"provider": gpu if can else "CPUExecutionProvider"}
        if self._onnx_file is not None:  # and no other, should it not be there
            options |= {"file_name": self._onnx_file, "export": False}
        return options

    def _describe(self, model: Any) -> EmbeddingInfo:
        full = _dimension(model)
        dimension = full if self._truncate_dim is None else self._truncate_dim
        if dimension > full:
            raise InvalidInputError(
                f"truncate_dim is {dimension}, but the vectors of {self._name()!r} have {full} "
                "components; give that or less"
            )
        names = module_names(model)
        length = model.max_seq_length
        return EmbeddingInfo(
            model=self._name(),
            dimension=dimension,
            kind=read_kind(model),
            normalized=names[-1] == "Normalize" if self._normalize is None else self._normalize,
            metric=_METRICS.get(str(model.similarity_fn_name), Metric.COSINE),
            max_tokens=length if isinstance(length, int) else None,
            fingerprint=self._fingerprint(model),
        )

    def _fingerprint(self, model: Any) -> str:
        options = {
            "own_prompts": self._prompts,
            "truncate_dim": self._truncate_dim,
            "normalize": self._normalize,
        }
        return f"sentence-transformers/{digest_model(model, options)}"

    def _name(self) -> str:
        """Return a name that :func:`nearfield.embedders.load` makes the same embedder from."""
        given = isinstance(self._source, str | Path)
        name = str(self._source) if given else _hub_name(self._source)
        options = {
            "truncate_dim": self._truncate_dim,
            "normalize": None if self._normalize is None else str(self._normalize).lower(),
            "query_prompt": self._prompts["query"],
            "document_prompt": self._prompts["document"],
            "dtype": self._dtype,
            "backend": None if self._backend == "torch" else self._backend,
            "onnx_file": self._onnx_file,
        }
        query = urlencode({key: value for key, value in options.items() if value is not None})
        return f"sentence-transformers:{name}" + (f"?{query}" if query else "")


def _dimension(model: Any) -> int:
    # Renamed in sentence-transformers 6, where the old name warns.
    new = getattr(model, "get_embedding_dimension", None)
    dimension = model.get_sentence_embedding_dimension() if new is None else new()
    if dimension is None:
        return int(model.encode_document([""], show_progress_bar=False).shape[1])
    return int(dimension)


def _hub_name(model: Any) -> str:
    return str(getattr(model.model_card_data, "base_model", None) or type(model).__name__)


def _check_choices(model: object, dtype: object, backend: object, onnx_file: object) -> None:
    if not isinstance(model, str | Path) and not hasattr(model, "encode_document"):
        raise InvalidInputError(
            f"model is a {type(model).__name__}, expected a name, a folder or a SentenceTransformer"
        )
    if dtype is not None and dtype not in _DTYPES:
        raise InvalidInputError(f"dtype is {dtype!r}, expected None or one of {', '.join(_DTYPES)}")
    if backend not in _BACKENDS:
        raise InvalidInputError(f"backend is {backend!r}, expected one of {', '.join(_BACKENDS)}")
    if not isinstance(model, str | Path) and (dtype, backend, onnx_file) != (None, "torch", None):
        raise InvalidInputError(
            "dtype, backend and onnx_file are for a model that is loaded here, by its name or "
            "folder; load yours with them"
        )
    if backend == "onnx":
        if dtype is not None:
            raise InvalidInputError("dtype is for the torch backend; choose an ONNX file instead")
        if find_spec("optimum") is None or find_spec("optimum.onnxruntime") is None:
            raise MissingDependencyError(
                "optimum-onnx", extra="onnx", purpose="SentenceTransformerEmbedder(backend='onnx')"
            )
    elif onnx_file is not None:
        raise InvalidInputError("onnx_file is for backend='onnx'; give both")


def _refuse_impossible(model: Any, dtype: str) -> None:
    """Try a half-precision model once: which devices can do what, only PyTorch knows."""
    if read_kind(model) is EmbeddingKind.IMAGE:
        return
    try:
        model.encode(["try"], show_progress_bar=False)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f"the device {model.device} cannot run this model in {dtype} ({error}); leave dtype "
            "out, or name another device"
        ) from error
