"""Items with a text, an image or both, fused into one vector."""

from __future__ import annotations

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.figures import CAPTIONS, colour_histograms, draw, draw_scene

import nearfield
from nearfield import Document, EmbeddingKind
from nearfield.embedders import (
    CachedEmbedder,
    CallableImageEmbedder,
    Item,
    MultimodalEmbedder,
    SentenceTransformerEmbedder,
    contract,
)
from nearfield.errors import (
    EmbeddingError,
    InvalidDocumentError,
    InvalidInputError,
)

pytest.importorskip("PIL", reason="Pillow is not installed")

SCENES = [draw_scene(number) for number in range(4)]


def histograms(name="histograms"):
    return CallableImageEmbedder(colour_histograms, name=name, dimension=64)


def multimodal(**options):
    return MultimodalEmbedder(**{"text": HashingEmbedder(), "image": histograms(), **options})


def directions(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (3, 1), (0.2, 0.8)])
def test_the_cosine_of_two_whole_items_is_the_weighted_mean_of_their_parts(weights):
    embedder = multimodal(weights=weights)
    one, other = Item("a blue car", SCENES[0]), Item("a blue boat", SCENES[1])
    vectors = embedder.embed_items([one, other])
    assert vectors.shape == (2, 128)
    texts = HashingEmbedder().embed_documents([one.text, other.text])
    images = directions(histograms().embed_images([one.image, other.image]))
    shares = np.array(weights) / sum(weights)
    expected = shares @ [texts[0] @ texts[1], images[0] @ images[1]]
    assert vectors[0] @ vectors[1] == pytest.approx(expected, abs=1e-6)


def test_an_average_is_the_weighted_mean_of_the_directions():
    embedder = multimodal(fusion="average", weights=(1, 3))
    vector = embedder.embed_items([Item("a blue car", SCENES[0])])[0]
    text = HashingEmbedder().embed_documents(["a blue car"])[0]
    image = directions(histograms().embed_images([SCENES[0]]))[0]
    np.testing.assert_allclose(vector, directions([text / 4 + image * 3 / 4])[0], atol=1e-6)


@pytest.mark.parametrize("fusion", ["concatenate", "average"])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (9, 1), (0, 1), (1, 0)])
def test_what_is_missing_leaves_the_other_alone(fusion, weights):
    embedder = multimodal(fusion=fusion, weights=weights)
    text, image = embedder.embed_items([Item(text="a blue car"), Item(image=SCENES[0])])
    of_text = HashingEmbedder().embed_documents(["a blue car"])[0]
    of_image = directions(histograms().embed_images([SCENES[0]]))[0]
    if fusion == "concatenate":
        of_text, of_image = np.pad(of_text, (0, 64)), np.pad(of_image, (64, 0))
    np.testing.assert_allclose(text, of_text, atol=1e-6)
    np.testing.assert_allclose(image, of_image, atol=1e-6)
    np.testing.assert_array_equal(text, embedder.embed_documents(["a blue car"])[0])
    np.testing.assert_array_equal(text, embedder.embed_queries(["a blue car"])[0])
    np.testing.assert_array_equal(image, embedder.embed_images([SCENES[0]])[0])


def test_items_of_all_sorts_keep_their_order():
    embedder = multimodal()
    items = [
        Item(image=SCENES[0]),
        Item("one"),
        Item("two", SCENES[1]),
        Item(""),
        Item("three", SCENES[2]),
        Item(image=SCENES[3]),
    ]
    together = embedder.embed_items(items)
    alone = np.concatenate([embedder.embed_items([item]) for item in items])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(embedder.embed_items(items[::-1])[::-1], together)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert embedder.embed_items([]).shape == (0, 128)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item(), "neither a text nor an image"),
        (Item("fine", b"no image"), "no image of a format"),
        (Item(3), "must be a str"),
        (Item("bro\ud800ken"), "surrogate"),
        (Item("fine", 3), "image is a int"),
        ("a text", "expected an Item, got str"),
    ],
)
def test_a_bad_item_is_refused_with_its_place(item, reason):
    items = [Item("fine"), Item(image=SCENES[0]), Item("two", SCENES[1]), item]
    with pytest.raises(InvalidDocumentError, match=reason) as refusal:
        multimodal().embed_items(items)
    assert refusal.value.position == 3
    assert "(document 3 of the batch)" in str(refusal.value)


def test_a_missing_part_can_be_refused_of_what_is_stored():
    embedder = multimodal(missing="refuse")
    assert len(embedder.embed_items([Item("both", SCENES[0])])) == 1
    for item, lacking in ((Item("a text"), "image"), (Item(image=SCENES[0]), "text")):
        with pytest.raises(InvalidDocumentError, match=f"there is no {lacking}"):
            embedder.embed_items([Item("both", SCENES[0]), item])
    with pytest.raises(InvalidDocumentError, match="there is no image"):
        embedder.embed_documents(["a text"])
    assert len(embedder.embed_queries(["a text"])) == len(embedder.embed_images([SCENES[0]])) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"text": HashingEmbedder(32), "fusion": "average"}, "dimension 32 and .* 64"),
        ({"fusion": "sum"}, "fusion"),
        ({"missing": "zero"}, "missing"),
        ({"weights": (1,)}, "expected two numbers"),
        ({"weights": (1, 2, 3)}, "expected two numbers"),
        ({"weights": "ab"}, "expected two numbers"),
        ({"weights": (1, -1)}, "none is negative"),
        ({"weights": (0, 0)}, "one is not 0"),
        ({"weights": (float("nan"), 1)}, "none is negative"),
        ({"weights": (float("inf"), 1)}, "none is negative"),
        ({"text": "minilm"}, "text is a str"),
        ({"image": HashingEmbedder()}, "image is a HashingEmbedder"),
        ({"text": histograms()}, "text is a CallableImageEmbedder"),
    ],
)
def test_what_cannot_be_fused_is_refused_when_it_is_made(options, reason):
    with pytest.raises(InvalidInputError, match=reason):
        multimodal(**options)


def test_the_fingerprint_changes_with_the_parts_and_how_they_are_fused():
    variants = [
        {},
        {"fusion": "average"},
        {"weights": (1, 2)},
        {"text": HashingEmbedder(max_tokens=3)},
        {"image": histograms("other")},
    ]
    infos = [multimodal(**variant).info for variant in variants]
    assert len({info.fingerprint for info in infos}) == len(variants)
    assert {info.kind for info in infos} == {EmbeddingKind.MULTIMODAL}
    assert all(info.normalized for info in infos)
    assert multimodal(weights=(2, 2), missing="refuse").info == multimodal().info
    without = CallableImageEmbedder(colour_histograms, name="n", dimension=64)
    without.info = nearfield.EmbeddingInfo("n", 64, kind=EmbeddingKind.IMAGE)
    assert multimodal(image=without).info.fingerprint == ""


def test_a_vector_without_a_direction_is_not_fused():
    black = CallableImageEmbedder(
        lambda images: np.zeros((len(images), 64)), name="0", dimension=64
    )
    with pytest.raises(EmbeddingError, match="item 1 is zero"):
        multimodal(image=black).embed_items([Item("a"), Item("b", SCENES[0])])


def test_tokens_are_counted_as_the_text_embedder_counts_them():
    assert multimodal().count_tokens("three words here") == 3
    assert not hasattr(multimodal(text=Silent()), "count_tokens")


class Silent:
    """Reads texts and counts no tokens."""

    info = nearfield.EmbeddingInfo("silent", 64, fingerprint="silent/1")

    def embed_documents(self, texts):
        return HashingEmbedder().embed_documents(texts)

    embed_queries = embed_documents


# ── in collections ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["plain", "cached"])
def shop(request, tmp_path):
    embedder = multimodal()
    if request.param == "cached":
        embedder = CachedEmbedder(embedder, tmp_path / "cache.db")
    with nearfield.open(tmp_path / "db", embedder=embedder) as shop:
        yield shop
    if request.param == "cached":
        embedder.close()


def test_documents_are_found_by_text_by_image_and_by_both(shop):
    names = ["red shoes", "blue shoes", "garden chair", "an image alone"]
    texts = [*names[:3], ""]
    told = []
    shop.upsert(
        [Document(text, id=name) for text, name in zip(texts, names, strict=True)],
        images=[SCENES[0], SCENES[1], None, SCENES[3]],
        progress=lambda *done: told.append(done),
    )
    assert told[-1] == (4, 4)
    assert [hit.id for hit in shop.search("blue shoes", k=2)] == ["blue shoes", "red shoes"]
    assert shop.search("a garden", k=1)[0].id == "garden chair"
    assert shop.search(SCENES[0], k=1)[0].id == "red shoes"
    assert shop.search(SCENES[0], k=1)[0].score == pytest.approx(0.5**0.5, abs=1e-6)
    assert shop.search(SCENES[3], k=1)[0].score == pytest.approx(1, abs=1e-6)
    stored = shop.get("red shoes", include=["embedding"]).embedding
    expected = multimodal().embed_items([Item("red shoes", SCENES[0])])[0]
    np.testing.assert_allclose(stored, expected, atol=1e-6)
    assert shop.search("blue shoes", mode="hybrid", k=1)[0].id == "blue shoes"


def test_a_bad_image_among_items_is_named_by_its_place_among_the_documents(shop):
    with pytest.raises(InvalidDocumentError, match="document 2 of the batch"):
        shop.upsert(["a", "b", "c"], images=[None, SCENES[0], b"bad"])
    assert shop.count() == 0


async def test_items_are_written_asynchronously_too(tmp_path):
    async with nearfield.open(tmp_path / "db", embedder=multimodal()) as shop:
        documents = [Document("red shoes", id="a"), Document("a chair", id="b")]
        await shop.aupsert(documents, images=[SCENES[0], None])
        assert (await shop.asearch(SCENES[0], k=1))[0].id == "a"
        with pytest.raises(InvalidDocumentError, match="document 1 of the batch"):
            await shop.aupsert(documents, images=[SCENES[0], b"bad"])


# ── with a real model ────────────────────────────────────────────────────────────────────────────


def test_averaged_in_one_space_a_text_finds_an_image_without_a_text(clip_folder, tmp_path):
    clip = SentenceTransformerEmbedder(clip_folder, device="cpu")
    fused = MultimodalEmbedder(text=clip, image=clip, fusion="average")
    images = [draw(caption, 40_000) for caption in CAPTIONS]
    with nearfield.open(tmp_path / "db", embedder=fused) as album:
        album.upsert([Document("", id=caption) for caption in CAPTIONS], images=images)
        found = [hits[0].id for hits in album.search_many(CAPTIONS, k=1)]
        assert np.mean(np.array(found) == CAPTIONS) >= 0.75
        album.upsert([Document("a red disc", id="both")], images=[draw("a red disc", 1)])
        assert album.search("a red disc", k=1)[0].id == "both"
    separate = MultimodalEmbedder(text=clip, image=clip)
    text, image = separate.embed_queries(["a red disc"])[0], separate.embed_images(images)[0]
    assert text @ image == 0


def test_what_comes_of_it_passes_the_contract():
    embedder = multimodal()
    items = [Item("a", SCENES[0]), Item("b")]
    assert contract.embed_items(embedder, items).shape == (2, 128)
    assert contract.embed_images(embedder, SCENES).shape == (4, 128)
    assert contract.embed_documents(embedder, ["a", "b"]).shape == (2, 128)
