"""What the sentence-transformers embedder does beyond the plain case: precision, ONNX, statics."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.models import sentence_transformer_folder

from nearfield.embedders import SentenceTransformerEmbedder, load
from nearfield.errors import EmbeddingError, InvalidInputError, MissingDependencyError

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

TEXTS = ["how do I change my password?", "resetting your login credentials", "baking sourdough"]


@pytest.fixture(scope="module")
def folder():
    return sentence_transformer_folder()


@pytest.fixture(scope="module")
def exact(folder):
    return SentenceTransformerEmbedder(folder, device="cpu")


# ── precision ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-4), ("bfloat16", 1e-3)])
def test_half_precision_comes_close_and_is_another_space(folder, exact, dtype, error):
    half = SentenceTransformerEmbedder(folder, device="cpu", dtype=dtype)
    vectors = half.embed_documents(TEXTS)
    assert vectors.dtype == np.float32
    cosines = np.einsum("ij,ij->i", vectors, exact.embed_documents(TEXTS))
    assert 1 - error < cosines.min()
    assert np.abs(vectors - exact.embed_documents(TEXTS)).max() > 1e-6
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert half.info.fingerprint != exact.info.fingerprint
    assert load(half.info.model).info == half.info


def test_the_precision_a_model_has_anyway_changes_nothing(folder, exact):
    same = SentenceTransformerEmbedder(folder, device="cpu", dtype="float32")
    assert same.info.fingerprint == exact.info.fingerprint
    np.testing.assert_array_equal(same.embed_queries(TEXTS), exact.embed_queries(TEXTS))


def test_the_fingerprint_of_the_plain_model_is_what_it_always_was(exact):
    # Whoever changes it locks the owners of collections out.
    assert exact.info.fingerprint == "sentence-transformers/53aa0daaf5b24cee4bf22c36f2e62625"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "int8"}, "dtype is 'int8', expected None or one of float32, float16, bfloat16"),
        ({"backend": "openvino"}, "backend is 'openvino', expected one of torch, onnx"),
        ({"backend": "onnx", "dtype": "float16"}, "dtype is for the torch backend"),
        ({"onnx_file": "model.onnx"}, "onnx_file is for backend='onnx'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, reason):
    with pytest.raises(InvalidInputError, match=reason):
        SentenceTransformerEmbedder("a-model", **options)


@pytest.mark.parametrize("model", [None, 3, dict])
def test_what_is_no_model_is_refused_before_a_hub_is_asked_for_it(model):
    with pytest.raises(InvalidInputError, match="expected a name, a folder or a Sentence"):
        SentenceTransformerEmbedder(model)


def test_a_device_that_is_not_there_is_an_embedding_error(folder):
    import torch

    missing = next(name for name in ("mps", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(EmbeddingError, match="a device that is there"):
        SentenceTransformerEmbedder(folder, device=missing).embed_queries(["a text"])


def test_a_loaded_model_has_its_precision_and_backend_already(exact):
    loaded = exact._load()
    for options in ({"dtype": "float16"}, {"backend": "onnx"}, {"onnx_file": "x"}):
        with pytest.raises(InvalidInputError, match="load yours with them"):
            SentenceTransformerEmbedder(loaded, **options)


def test_a_spec_takes_the_options(folder):
    with pytest.raises(InvalidInputError, match="dtype is 'half'"):
        load(f"sentence-transformers:{folder}?dtype=half")
    assert "dtype=float16" in repr(load(f"sentence-transformers:{folder}?dtype=float16"))


# ── ONNX ─────────────────────────────────────────────────────────────────────────────────────────


def has_optimum():
    return find_spec("optimum") is not None and find_spec("optimum.onnxruntime") is not None


@pytest.mark.skipif(has_optimum(), reason="optimum-onnx is installed")
def test_the_onnx_backend_names_what_it_needs(folder):
    with pytest.raises(MissingDependencyError, match=r"nearfield\[onnx\]"):
        SentenceTransformerEmbedder(folder, backend="onnx")


@pytest.fixture(scope="module")
def onnx_folder(folder, tmp_path_factory):
    """The model with an ONNX file, exported here."""
    if not has_optimum():
        pytest.skip("no ONNX backend: install sentence-transformers[onnx]")
    target = tmp_path_factory.mktemp("models") / "onnx"
    code = (
        "import sys; from sentence_transformers import SentenceTransformer\n"
        "SentenceTransformer(sys.argv[1], device='cpu', backend='onnx').save(sys.argv[2])"
    )
    # In a process of its own: the exporter warns, and leaves a folder to the end of the process.
    subprocess.run([sys.executable, "-c", code, folder, target], check=True, capture_output=True)
    return target


def test_onnx_gives_the_vectors_that_pytorch_gives(onnx_folder, exact):
    embedder = SentenceTransformerEmbedder(onnx_folder, device="cpu", backend="onnx")
    vectors = embedder.embed_documents([*TEXTS, "", "long " * 900])
    expected = exact.embed_documents([*TEXTS, "", "long " * 900])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    named = SentenceTransformerEmbedder(onnx_folder, backend="onnx", onnx_file="onnx/model.onnx")
    assert named.info.fingerprint == embedder.info.fingerprint != exact.info.fingerprint
    assert load(named.info.model).info == named.info
    assert embedder.count_tokens(TEXTS[0]) == exact.count_tokens(TEXTS[0])


def test_an_onnx_file_that_is_not_there_is_not_replaced_by_another(onnx_folder):
    absent = SentenceTransformerEmbedder(onnx_folder, backend="onnx", onnx_file="quantized.onnx")
    with pytest.raises(EmbeddingError, match=r"quantized\.onnx"):
        absent.embed_documents(TEXTS)


# ── static models that come in packages ──────────────────────────────────────────────────────────


def static_embedder(package, weights, tokenizer, sha256):
    """Make a static model from a package's weights; no code of the package is run."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"no weights: install the package that has {package}")
    folder = Path(found.submodule_search_locations[0])
    assert hashlib.sha256((folder / weights).read_bytes()).hexdigest() == sha256
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ImportError:  # sentence-transformers 5.3 and before
        from sentence_transformers.models import StaticEmbedding

    table = token_vectors(load_file(folder / weights))
    module = StaticEmbedding(
        Tokenizer.from_file(str(folder / tokenizer)), embedding_weights=table.astype(np.float32)
    )
    return SentenceTransformerEmbedder(
        SentenceTransformer(modules=[module], device="cpu"), normalize=True
    )


def token_vectors(tensors):
    """Return one vector for each token; some models share them among tokens, weighted."""
    if "mapping" not in tensors:
        return tensors["embedding.weight"]
    return tensors["embeddings"][tensors["mapping"]] * tensors["weights"][:, np.newaxis]


STATIC = {
    "wordllama": (
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "tokenizers/l2_supercat_tokenizer_config.json",
        "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    ),
    "tokenlearn": (
        "static_model",
        "model/model.safetensors",
        "model/tokenizer.json",
        "6be5d2830b76c27312e7870df0f7d3c55803fbc6817dfaee0783de319d457c6c",
    ),
}


@pytest.fixture(scope="module", params=STATIC)
def static(request):
    return static_embedder(*STATIC[request.param])


def test_a_static_model_tells_related_texts_from_unrelated_ones(static):
    assert static.info.dimension in {64, 256}
    assert static.info.max_tokens is None
    password, login, bread = static.embed_documents(TEXTS)
    assert password @ login > password @ bread + 0.2
    np.testing.assert_array_equal(static.embed_queries(TEXTS)[0], password)
    assert static.count_tokens(TEXTS[0]) > 5


def test_a_text_without_words_has_no_direction_in_a_static_model(static):
    with pytest.raises(EmbeddingError, match=r"text 1 is zero.*leave it out"):
        static.embed_documents(["a text", ""])
