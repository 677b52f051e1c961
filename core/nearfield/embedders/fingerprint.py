"""Fingerprints of embedders that are made of others, or of options alone."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.documents import EmbeddingInfo

__all__ = ["derived_fingerprint"]


def derived_fingerprint(family: str, parts: Sequence[EmbeddingInfo], **options: object) -> str:
    """Return ``family/…``, which changes with a part's fingerprint and with each option.

    Where a part has no fingerprint, neither has what is made of it: nothing would tell when its
    vectors change.
    """
    fingerprints = [part.fingerprint for part in parts]
    if not all(fingerprints):
        return ""
    text = json.dumps([fingerprints, options], sort_keys=True)
    return f"{family}/{hashlib.sha256(text.encode()).hexdigest()[:32]}"
