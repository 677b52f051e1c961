"""What every embedder of images promises, on every one there is."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.figures import colour_histograms, draw_scene

from nearfield import EmbeddingKind
from nearfield.embedders import (
    CachedEmbedder,
    CallableImageEmbedder,
    ImageEmbedder,
    MultimodalEmbedder,
    SentenceTransformerEmbedder,
    contract,
)
from nearfield.errors import InvalidDocumentError

pytest.importorskip("PIL", reason="Pillow is not installed")

SIZES = [160, 33, 200, 160, 64]
IMAGES = [draw_scene(seed, size) for seed, size in enumerate(SIZES)]
IMAGES[3] = IMAGES[0].copy()


def histograms():
    return CallableImageEmbedder(
        colour_histograms, name="histograms", dimension=64, normalize=True, batch_size=4
    )


@pytest.fixture(
    scope="module", params=["callable", "multimodal", "cached", "efficientnet", "clip", "truncated"]
)
def embedder(request, tmp_path_factory):
    if request.param == "callable":
        yield histograms()
    elif request.param == "multimodal":
        yield MultimodalEmbedder(text=HashingEmbedder(), image=histograms())
    elif request.param == "cached":
        fused = MultimodalEmbedder(text=HashingEmbedder(), image=histograms())
        with CachedEmbedder(fused, tmp_path_factory.mktemp("cache") / "cache.db") as cached:
            yield cached
    elif request.param == "efficientnet":
        from tests.efficientnet import DIMENSION, EfficientNetLite0

        network = EfficientNetLite0(side=64)
        yield CallableImageEmbedder(network, name="network", dimension=DIMENSION, batch_size=4)
    else:
        options = {"truncate_dim": 20, "normalize": True} if request.param == "truncated" else {}
        folder = request.getfixturevalue("clip_folder")
        yield SentenceTransformerEmbedder(folder, device="cpu", batch_size=4, **options)


@pytest.fixture
def close(embedder):
    """Bit for bit, but for PyTorch, which sums in another order for another batch."""
    scale = np.abs(embedder.embed_images(IMAGES[:1])).max()
    learned = embedder.info.dimension in {20, 32, 1280}

    def check(got, expected):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale if learned else 0)

    return check


def files(images):
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        yield file.getvalue()


def test_it_is_an_embedder_of_images(embedder):
    assert isinstance(embedder, ImageEmbedder)
    assert embedder.info.kind in {EmbeddingKind.IMAGE, EmbeddingKind.MULTIMODAL}


def test_vectors_have_the_shape_and_type_that_the_info_promises(embedder):
    vectors = embedder.embed_images(IMAGES)
    assert vectors.shape == (len(IMAGES), embedder.info.dimension)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.isfinite(vectors).all()


def test_no_images_give_no_vectors_of_the_right_dimension(embedder):
    vectors = embedder.embed_images([])
    assert vectors.shape == (0, embedder.info.dimension)
    assert vectors.dtype == np.float32


def test_a_normalised_embedder_gives_vectors_of_length_one(embedder):
    if not embedder.info.normalized:
        pytest.skip("this embedder does not normalise")
    lengths = np.linalg.norm(embedder.embed_images(IMAGES), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_a_vector_does_not_depend_on_its_neighbours_or_its_place(embedder, close):
    together = embedder.embed_images(IMAGES)
    close(np.concatenate([embedder.embed_images([image]) for image in IMAGES]), together)
    close(embedder.embed_images(tuple(IMAGES[::-1]))[::-1], together)


def test_the_same_image_gives_the_same_vector_and_another_image_another(embedder, close):
    first, again = embedder.embed_images(IMAGES), embedder.embed_images(IMAGES)
    close(first, again)
    close(first[0], first[3])
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_bytes_a_path_and_a_pillow_image_give_the_same_vector(embedder, close, tmp_path):
    expected = embedder.embed_images(IMAGES)
    contents = list(files(IMAGES))
    close(embedder.embed_images(contents), expected)
    paths = [tmp_path / f"{number}.png" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    close(embedder.embed_images(paths), expected)
    close(embedder.embed_images([str(path) for path in paths]), expected)


def test_eight_threads_at_once_get_what_one_gets(embedder, close):
    expected = embedder.embed_images(IMAGES)
    orders = [np.random.default_rng(seed).permutation(len(IMAGES)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(lambda order: embedder.embed_images([IMAGES[i] for i in order]), orders)
    for order, vectors in zip(orders, asked, strict=True):
        close(vectors, expected[order])


@pytest.mark.parametrize("bad", [b"", b"no image", "absent.png", None, 3])
def test_what_is_no_image_is_refused_with_its_place(embedder, bad):
    with pytest.raises(InvalidDocumentError) as refusal:
        embedder.embed_images([*IMAGES, bad])
    assert refusal.value.position == len(IMAGES)


def test_an_image_that_ends_too_early_is_refused(embedder):
    content = next(files(IMAGES[:1]))
    with pytest.raises(InvalidDocumentError, match="damaged or truncated"):
        embedder.embed_images([content[: len(content) // 2]])


def test_the_info_is_stable_and_has_a_fingerprint(embedder):
    before = embedder.info
    embedder.embed_images(IMAGES[:1])
    assert embedder.info == before
    assert before.fingerprint


async def test_the_vectors_pass_the_contract_in_both_ways(embedder, close):
    told = []
    vectors = contract.embed_images(embedder, IMAGES, progress=lambda *done: told.append(done))
    assert vectors.shape == (len(IMAGES), embedder.info.dimension)
    assert told[-1] == (len(IMAGES), len(IMAGES))
    close(await contract.aembed_images(embedder, IMAGES), vectors)
