"""OpenAI's tokens, counted where tiktoken and its vocabulary are already there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

__all__ = ["count_tokens", "is_vocabulary_here"]

_VOCABULARY = "cl100k_base"
_URL = f"https://openaipublic.blob.core.windows.net/encodings/{_VOCABULARY}.tiktoken"
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_FOLDER_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")


def is_vocabulary_here() -> bool:
    """Tell whether tokens can be counted without a download.

    tiktoken fetches a vocabulary that it does not find, or finds damaged; so it is only asked
    where the file lies in its cache and is whole.
    """
    if find_spec("tiktoken") is None:
        return False
    folders = [os.environ[name] for name in _FOLDER_VARIABLES if name in os.environ]
    folder = folders[0] if folders else str(Path(tempfile.gettempdir(), "data-gym-cache"))
    if not folder:  # tiktoken's way to say that nothing is to be kept
        return False
    name = hashlib.sha1(_URL.encode(), usedforsecurity=False).hexdigest()
    try:
        vocabulary = Path(folder, name).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(vocabulary).hexdigest() == _SHA256


def count_tokens(text: str) -> int:
    """Count the tokens that OpenAI's embedding models read; see :func:`is_vocabulary_here`."""
    import tiktoken

    return len(tiktoken.get_encoding(_VOCABULARY).encode_ordinary(text))
