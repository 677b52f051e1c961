"""Any model that sentence-transformers runs, from a model hub or a local folder."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nearfield.documents import EmbeddingInfo, Metric
from nearfield.errors import EmbeddingError, InvalidInputError, MissingDependencyError
from nearfield.validation import check_positive, check_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

__all__ = ["SentenceTransformerEmbedder"]

_SAMPLE_COMPONENTS = 1 << 28
"""Of a larger tensor the fingerprint reads every n-th component, so that it stays quick."""
_METRICS = {"cosine": Metric.COSINE, "dot": Metric.DOT, "euclidean": Metric.EUCLIDEAN}


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model, with the prompts the model declares.

    The model is loaded at the first use; ``info`` needs it too. Calls from several threads take
    turns, since PyTorch uses all processors for each. Embed nothing before the process forks.

    Args:
        model: A model's name on the hub, a local folder, or a ``SentenceTransformer`` loaded with
            options of your own.
        device: Such as ``"cpu"`` or ``"cuda"``; None takes the best there is.
        truncate_dim: Keep only the first components, for models trained for it (Matryoshka). A
            normalised vector is normalised again.
        normalize: Scale vectors to length 1; None does as the model does.
        query_prompt: Put before every query instead of the model's own prompt.
        document_prompt: Put before every document instead of the model's own prompt.
        batch_size: Texts that go through the model together.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        InvalidInputError: ``truncate_dim`` or ``batch_size`` is below 1.
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
    ) -> None:
        if find_spec("sentence_transformers") is None:
            raise MissingDependencyError(
                "sentence-transformers",
                extra="sentence-transformers",
                purpose="SentenceTransformerEmbedder",
            )
        self._source = model
        self._device = device
        self._truncate_dim = (
            None if truncate_dim is None else check_positive(truncate_dim, "truncate_dim")
        )
        self._normalize = normalize
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._batch_size = check_positive(batch_size, "batch_size")
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
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; shapes as in :meth:`embed_documents`."""
        return self._embed(texts, "query")

    def count_tokens(self, text: str) -> int:
        """Count a document's tokens, its prompt and the special ones included."""
        text = (self._prompts["document"] or "") + check_text(text)
        with self._lock:
            tokenizer = self._load().tokenizer
            if hasattr(tokenizer, "encode_batch"):  # the bare tokenizer of a static model
                return len(tokenizer.encode(text).ids)
            return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _embed(self, texts: Sequence[str], role: str) -> NDArray[np.float32]:
        import numpy as np

        texts = [check_text(text, position=position) for position, text in enumerate(texts)]
        info = self.info
        if not texts:
            return np.empty((0, info.dimension), dtype=np.float32)
        with self._lock:
            model = self._load()
            encode = model.encode_query if role == "query" else model.encode_document
            prompt = self._prompts[role]
            vectors = encode(
                texts,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                **({} if prompt is None else {"prompt": prompt}),
            )
        vectors = np.array(vectors[:, : info.dimension], dtype=np.float32, order="C")
        if info.normalized:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, lengths, out=vectors, where=lengths > 0)  # 0 has no direction
        return vectors

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            if isinstance(self._source, SentenceTransformer):
                self._model = self._source
            else:
                try:
                    self._model = SentenceTransformer(str(self._source), device=self._device)
                except (OSError, ValueError, RuntimeError) as error:
                    raise EmbeddingError(
                        f"sentence-transformers could not load {str(self._source)!r}: {error}; "
                        "give a model's name, reachable or already downloaded, or the folder of "
                        "one"
                    ) from error
        return self._model

    def _describe(self, model: Any) -> EmbeddingInfo:
        full = _dimension(model)
        dimension = full if self._truncate_dim is None else self._truncate_dim
        if dimension > full:
            raise InvalidInputError(
                f"truncate_dim is {dimension}, but the vectors of {self._name()!r} have {full} "
                "components; give that or less"
            )
        names = [type(module).__name__ for module in model.children()]
        length = model.max_seq_length
        return EmbeddingInfo(
            model=self._name(),
            dimension=dimension,
            normalized=names[-1] == "Normalize" if self._normalize is None else self._normalize,
            metric=_METRICS.get(str(model.similarity_fn_name), Metric.COSINE),
            max_tokens=length if isinstance(length, int) else None,
            fingerprint=self._fingerprint(model, names),
        )

    def _fingerprint(self, model: Any, module_names: list[str]) -> str:
        # Only what every version of sentence-transformers 5 and 6 says alike: an upgrade must not
        # lock anyone out of a collection.
        parts = {
            "modules": module_names,
            "pooling": _pooling(model),
            "prompts": {name: prompt for name, prompt in model.prompts.items() if prompt},
            "default_prompt": model.default_prompt_name,
            "own_prompts": self._prompts,
            "max_tokens": str(model.max_seq_length),
            "truncate_dim": self._truncate_dim,
            "normalize": self._normalize,
            "weights": _digest_weights(model),
            "vocabulary": _digest_vocabulary(model.tokenizer),
        }
        text = json.dumps(parts, sort_keys=True)
        return f"sentence-transformers/{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def _name(self) -> str:
        """Return a name that :func:`nearfield.embedders.load` makes the same embedder from."""
        given = isinstance(self._source, str | Path)
        name = str(self._source) if given else _hub_name(self._source)
        options = {
            "truncate_dim": self._truncate_dim,
            "normalize": None if self._normalize is None else str(self._normalize).lower(),
            "query_prompt": self._prompts["query"],
            "document_prompt": self._prompts["document"],
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


def _pooling(model: Any) -> list[str]:
    modes: list[str] = []
    for module in model.children():
        if type(module).__name__ == "Pooling":
            config = module.get_config_dict()
            modes += (
                [str(config["pooling_mode"])]
                if "pooling_mode" in config  # sentence-transformers 6; 5 has one flag per mode
                else [
                    re.sub("_tokens?$", "", name.removeprefix("pooling_mode_"))
                    for name, value in config.items()
                    if name.startswith("pooling_mode_") and value
                ]
            )
    return sorted(modes)


def _digest_weights(model: Any) -> list[str]:
    """Digest each tensor's values; names are left out, as they vary between versions."""
    digests = []
    for parameter in model.parameters():
        values = parameter.detach().flatten()
        step = -(-values.numel() // _SAMPLE_COMPONENTS)
        sample = values[:: max(step, 1)].float().cpu().numpy()
        head = f"{tuple(parameter.shape)} {parameter.dtype} ".encode()
        digests.append(hashlib.sha256(head + sample.tobytes()).hexdigest())
    return sorted(digests)


def _digest_vocabulary(tokenizer: Any) -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()
