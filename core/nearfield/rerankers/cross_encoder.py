"""Any cross-encoder that sentence-transformers runs, from a model hub or a local folder."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InvalidInputError, MissingDependencyError, RerankingError
from nearfield.validation import check_positive, check_text, check_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

__all__ = ["CrossEncoderReranker"]

_DTYPES = ("float32", "float16", "bfloat16")


class CrossEncoderReranker:
    """Judges with a cross-encoder, a model that reads the query and a text as one sequence.

    The model is loaded at the first use. Calls from several threads take turns, since PyTorch uses
    all processors for each. Rerank nothing before the process forks.

    Args:
        model: A model's name on the hub, a local folder, or a ``CrossEncoder`` loaded with options
            of your own. It has to give one number, its logit, for a query and a text.
        device: Such as ``"cpu"`` or ``"cuda"``; None takes the best there is.
        dtype: The weights' type: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None takes what
            sentence-transformers takes.
        batch_size: Texts that go through the model together.
        max_length: Tokens of a query and a text together that reach the model; None for as many as
            the model reads.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        InvalidInputError: An option is out of range, or would change a model that was passed in.
    """

    def __init__(
        self,
        model: str | Path | CrossEncoder,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> None:
        if find_spec("sentence_transformers") is None:
            raise MissingDependencyError(
                "sentence-transformers",
                extra="sentence-transformers",
                purpose="CrossEncoderReranker",
            )
        if dtype is not None and dtype not in _DTYPES:
            raise InvalidInputError(f"dtype is {dtype!r}, expected one of: {', '.join(_DTYPES)}")
        by_name = isinstance(model, str | Path)
        if not by_name and (device, dtype, max_length) != (None, None, None):
            raise InvalidInputError(
                "device, dtype and max_length are for a model that is loaded by its name; the one "
                "passed in has its own"
            )
        self.name = f"cross-encoder:{model if by_name else _hub_name(model)}"
        self._source = model
        self._device = device
        self._dtype = dtype
        self._batch_size = check_positive(batch_size, "batch_size")
        self._max_length = None if max_length is None else check_positive(max_length, "max_length")
        self._lock = threading.Lock()
        self._model: Any = None

    def __repr__(self) -> str:
        return f"CrossEncoderReranker({self.name!r})"

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Judge texts by the logistic function of the model's logits.

        Returns:
            Relevances in [0, 1], shape (len(texts),). A text's relevance may vary with its batch
            by about 1e-6, since PyTorch sums in another order.

        Raises:
            InvalidDocumentError: A text is no ``str`` or has a lone surrogate.
            RerankingError: The model could not be loaded, or has more than one label.
        """
        query = check_text(query, what="query")
        pairs = [(query, text) for text in check_texts(texts)]
        if not pairs:
            return np.empty(0)
        with self._lock:
            model = self._load()
            from torch import nn

            logits = model.predict(
                pairs,
                batch_size=self._batch_size,
                show_progress_bar=False,
                activation_fn=nn.Identity(),  # what the model declares may be no relevance
                convert_to_numpy=True,
            )
        # In float64, so that logits beyond 17 stay apart.
        return np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64).reshape(-1)))

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import CrossEncoder

            if isinstance(self._source, CrossEncoder):
                model = self._source
            else:
                model = self._load_by_name(CrossEncoder)
            labels = getattr(model, "num_labels", 1)
            if labels != 1:
                raise RerankingError(
                    f"{self.name!r} has {labels} labels, expected one: a model that was trained "
                    "to rank, not to classify"
                )
            self._model = model
        return self._model

    def _load_by_name(self, kind: Any) -> Any:
        import torch

        options = {} if self._dtype is None else {"torch_dtype": getattr(torch, self._dtype)}
        try:
            return kind(
                str(self._source),
                device=self._device,
                max_length=self._max_length,
                model_kwargs=options,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise RerankingError(
                f"sentence-transformers could not load {str(self._source)!r}: {error}; give a "
                "model's name, reachable or already downloaded, or the folder of one"
            ) from error


def _hub_name(model: Any) -> str:
    return str(getattr(model.model_card_data, "base_model", None) or type(model).__name__)
