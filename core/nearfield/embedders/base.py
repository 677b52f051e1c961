"""What an embedder is: the one contract between models and collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearfield.documents import EmbeddingInfo

__all__ = ["AsyncEmbedder", "Embedder"]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Safe to call from several threads at once.

    Documents and queries are embedded by separate methods, since many models are trained with a
    different prompt for each.
    """

    @property
    def info(self) -> EmbeddingInfo:
        """The space the vectors live in. Cheap: no model is loaded to answer."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored.

        Returns:
            C-contiguous float32 array of shape (len(texts), dimension), in the order given;
            shape (0, dimension) for no texts. A text's vector does not depend on its neighbours
            in the batch.
        """
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with; shapes as in :meth:`embed_documents`."""
        ...


@runtime_checkable
class AsyncEmbedder(Embedder, Protocol):
    """An embedder whose work is awaited natively, such as one behind a network service.

    Any other embedder is run on a worker thread by the collection's ``a…`` methods.
    """

    async def aembed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored without blocking the event loop."""
        ...

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to search with, without blocking the event loop."""
        ...
