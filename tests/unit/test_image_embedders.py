"""Images: how they are read, what embeds them, and collections of them."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.embedders import HashingEmbedder
from tests.figures import (
    CAPTIONS,
    COLOURS,
    altered,
    colour_histograms,
    draw,
    draw_scene,
)

import nearfield
from nearfield import Document, EmbeddingKind
from nearfield.embedders import CallableImageEmbedder, SentenceTransformerEmbedder
from nearfield.embedders import images as reading
from nearfield.embedders.images import read_batches, read_image
from nearfield.errors import (
    EmbeddingError,
    InvalidDocumentError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedOperationError,
)

PIL = pytest.importorskip("PIL", reason="Pillow is not installed")
from PIL import Image  # noqa: E402

ORIENTATION = 0x0112


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quarters():
    """Four colours, so that every turn of it is another image."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("green", (20, 0, 40, 10))
    image.paste("blue", (0, 10, 20, 20))
    image.paste("white", (20, 10, 40, 20))
    return image


def pixels(image):
    return np.asarray(image)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_bytes_a_path_and_a_pillow_image_are_the_same_image(kind, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(quarters(), kind, **options)
    path = tmp_path / "image with a räther long name"
    path.write_bytes(content)
    expected = pixels(quarters())
    for given in (content, path, str(path), quarters()):
        read = read_image(given)
        assert read.mode == "RGB"
        np.testing.assert_array_equal(pixels(read), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_an_image_is_turned_the_way_it_is_to_be_seen(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    undone = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = quarters() if undone is None else quarters().transpose(undone)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    read = read_image(encoded(stored, kind, exif=exif, **options))
    assert read.size == (40, 20)
    assert np.abs(pixels(read).astype(int) - pixels(quarters())).mean() < 3
    opened = Image.open(io.BytesIO(encoded(stored, kind, exif=exif, **options)))
    np.testing.assert_array_equal(pixels(read_image(opened)), pixels(read))


def test_what_is_transparent_is_seen_over_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    palette = Image.new("P", (4, 4))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for read in (read_image(image), read_image(encoded(image))):
        assert read.getpixel((0, 0)) == (255, 0, 0)
        assert read.getpixel((1, 0)) == pytest.approx((127, 127, 127), abs=1)
        assert read.getpixel((3, 3)) == (255, 255, 255)
    assert read_image(encoded(palette)).getpixel((0, 0)) == (10, 20, 30)
    assert read_image(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_every_mode_becomes_rgb_at_its_brightness():
    half = np.full((4, 4), 128, dtype=np.uint8)
    grey = Image.fromarray(half)
    for image in (grey, grey.convert("LA"), grey.convert("CMYK"), grey.convert("YCbCr")):
        assert np.abs(pixels(read_image(image)).astype(int) - 128).max() <= 1
    deep = Image.fromarray(half.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert (pixels(read_image(deep)) == 128).all()
    assert (pixels(read_image(encoded(deep))) == 128).all()
    assert read_image(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_known_range_are_refused(mode):
    with pytest.raises(InvalidDocumentError, match=f"mode '{mode}'.*convert it to RGB"):
        read_image(Image.new(mode, (4, 4), 1))


def test_of_an_animation_the_first_frame_is_seen():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(content).getpixel((0, 0)) == (255, 0, 0)


def test_what_was_passed_in_stays_as_it_is(tmp_path):
    image = Image.new("RGBA", (6, 4), (10, 20, 30, 40))
    image.getexif()[ORIENTATION] = 6
    before = image.tobytes(), image.mode, image.size, dict(image.getexif())
    read = read_image(image)
    read.paste("black", (0, 0, *read.size))
    assert (image.tobytes(), image.mode, image.size, dict(image.getexif())) == before
    plain = Image.new("RGB", (6, 4), "red")
    read_image(plain).paste("black", (0, 0, 6, 4))
    assert plain.getpixel((0, 0)) == (255, 0, 0)


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def bomb(width=100_000, height=100_000):
    """A PNG file of a few hundred bytes that says it has ten thousand million pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(999))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"\(0 bytes\) is no image of a format that is read"),
        (b"no image at all", r"\(15 bytes\) is no image.*PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image"),
        (bomb(), "too many pixels.*scale it down"),
        (bomb(10_000, 10_000), "too many pixels"),
        (bomb(9_000, 3), "9000 × 3 pixels"),
        (encoded(draw_scene(1))[:300], "damaged or truncated"),
        (encoded(draw_scene(1), "JPEG")[:1500], "damaged or truncated"),
        (encoded(draw_scene(1), "TIFF")[:-3000], "damaged or truncated|is no image"),
    ],
    ids=["empty", "text", "eps", "svg", "bomb", "large", "line", "png", "jpeg", "tiff"],
)
def test_what_is_no_whole_image_is_refused_with_its_place(content, reason):
    with pytest.raises(InvalidDocumentError, match=reason) as refusal:
        list(read_batches([quarters(), content], 1))
    assert refusal.value.position == 1
    assert str(refusal.value).endswith("(document 1 of the batch)")


@pytest.mark.parametrize("given", [None, 3, [1, 2], object(), np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_kind_of_image_is_refused_by_its_type(given):
    with pytest.raises(InvalidDocumentError, match=f"is a {type(given).__name__}; expected"):
        read_image(given)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("absent.png", "folder", "nul\0.png", "http://example.org/a.png"):
        with pytest.raises(InvalidDocumentError, match="cannot be read") as refusal:
            read_image(str(tmp_path / name) if "http" not in name else name)
        assert name.partition("\0")[0] in str(refusal.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its folders")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidDocumentError, match="no regular file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 500)
    path = tmp_path / "large.bmp"
    path.write_bytes(encoded(draw_scene(0), "BMP"))
    for given in (path, path.read_bytes()):
        with pytest.raises(InvalidDocumentError, match="bytes, the most is 500"):
            read_image(given)


def test_images_of_many_pixels_are_decoded_in_smaller_batches(monkeypatch):
    small, large = Image.new("RGB", (10, 10)), Image.new("RGB", (100, 10))
    given = [small] * 5 + [large] * 3 + [small]
    assert [len(batch) for batch in read_batches(given, 4)] == [4, 4, 1]
    monkeypatch.setattr(reading, "_BATCH_PIXELS", 1_000)
    assert [len(batch) for batch in read_batches(given, 4)] == [4, 1, 1, 1, 1, 1]
    assert list(read_batches([], 4)) == []


def test_reading_without_pillow_names_the_command_that_installs_it():
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from nearfield.embedders import CallableImageEmbedder\n"
        "try: CallableImageEmbedder(len, name='n', dimension=2)\n"
        "except ImportError as error: print(error)\n"
        "from nearfield.embedders.images import read_image\n"
        "try: read_image(b'')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(nearfield.__file__).parent.parent)},
    )
    assert done.stdout.count('pip install "nearfield[images]"') == 2
    assert issubclass(MissingDependencyError, ImportError)


# ── a function as an embedder ────────────────────────────────────────────────────────────────────


def histograms(**options):
    options = {"name": "histograms", "dimension": 64, **options}
    return CallableImageEmbedder(colour_histograms, **options)


def test_a_function_gets_upright_rgb_images_in_batches():
    seen = []

    def record(images):
        seen.append([(image.mode, image.size) for image in images])
        return np.ones((len(images), 3))

    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(Image.new("L", (30, 20)), exif=exif)
    embedder = CallableImageEmbedder(record, name="record", dimension=3, batch_size=2)
    assert embedder.embed_images([content] * 5).shape == (5, 3)
    assert seen == [[("RGB", (20, 30))] * 2, [("RGB", (20, 30))] * 2, [("RGB", (20, 30))]]
    assert embedder.embed_images([]).shape == (0, 3)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda images: np.ones((len(images), 4)), r"shape \(1, 4\) for 1 images"),
        (lambda images: np.ones((len(images) + 1, 3)), r"shape \(2, 3\)"),
        (lambda images: np.full((len(images), 3), np.nan), "NaN or infinity for image 1"),
        (lambda images: [None] * len(images), "object"),
    ],
)
def test_a_function_that_returns_something_else_is_told_which_image(answer, reason):
    def function(images):
        return np.ones((1, 3)) if images[0].width == 1 else answer(images)

    embedder = CallableImageEmbedder(function, name="f", dimension=3, batch_size=1)
    with pytest.raises(EmbeddingError, match=reason):
        embedder.embed_images([Image.new("RGB", (1, 1)), Image.new("RGB", (2, 2))])


def test_a_functions_options_are_checked_and_change_the_fingerprint():
    with pytest.raises(InvalidInputError, match="name is empty"):
        histograms(name="")
    with pytest.raises(InvalidInputError, match="dimension"):
        histograms(dimension=0)
    with pytest.raises(InvalidInputError, match="batch_size"):
        histograms(batch_size=0)
    infos = [
        histograms(**options).info
        for options in ({}, {"normalize": True}, {"name": "other"}, {"fingerprint": "histograms"})
    ]
    assert len({info.fingerprint for info in infos}) == 4
    assert infos[0] == histograms(batch_size=1, concurrent=True).info
    assert infos[0].kind is EmbeddingKind.IMAGE


# ── collections of images ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def album(tmp_path):
    with nearfield.open(tmp_path / "db", embedder=histograms()) as album:
        names = [f"scene {number}" for number in range(8)]
        images = [draw_scene(number) for number in range(8)]
        album.upsert([Document(name, id=name) for name in names], images=images)
        yield album


def test_an_image_finds_its_likes(album, tmp_path):
    path = tmp_path / "query.jpg"
    path.write_bytes(altered(draw_scene(3), 1))
    with Image.open(path) as opened:
        queries = [path, path.read_bytes(), opened.copy()]
    answers = [album.search(query, k=2) for query in queries]
    assert answers[0][0].id == "scene 3"
    assert answers[0] == answers[1] == answers[2]
    assert album.search_many(queries, k=2) == answers
    assert album.explain(path, k=2).hits == 2


async def test_the_asynchronous_twins_take_images_too(tmp_path):
    async with nearfield.open(tmp_path / "db", embedder=histograms()) as album:
        told = []
        documents = [Document("", id=str(number)) for number in range(3)]
        images = [draw_scene(number) for number in range(3)]
        await album.aupsert(documents, images=images, progress=lambda *done: told.append(done))
        assert told == [(3, 3)]
        query = encoded(draw_scene(1))
        hits = await album.asearch(query, k=2)
        assert hits[0].id == "1"
        assert await album.asearch_many([query], k=2) == [hits]
        ticks = 0
        writing = asyncio.create_task(album.aupsert(documents, images=images))
        while not writing.done():
            ticks += 1
            await asyncio.sleep(0)
        assert ticks > 1


def test_a_text_is_not_taken_for_the_path_of_an_image(album, tmp_path):
    path = tmp_path / "query.png"
    draw_scene(3).save(path)
    with pytest.raises(UnsupportedOperationError, match="reads images, not texts"):
        album.search(str(path))


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_an_image_has_no_words_to_search_for(album, mode):
    with pytest.raises(InvalidInputError, match=f"a {mode} search matches words"):
        album.search(encoded(draw_scene(0)), mode=mode)
    assert album.search("scene 5", mode="keyword", k=1)[0].id == "scene 5"


def test_queries_of_one_search_are_of_one_kind(album):
    image = encoded(draw_scene(0))
    for queries in (["text", image], [image, np.ones(64)]):
        with pytest.raises(InvalidInputError, match="mixture"):
            album.search_many(queries)
    with pytest.raises(InvalidInputError, match="image, and vector= gives another"):
        album.search(image, vector=np.ones(64))
    with pytest.raises(InvalidInputError, match="like="):
        album.search(image, like="scene 1")


def test_a_bad_image_is_named_by_its_place_and_nothing_is_written(album):
    before = album.count()
    good, bad = encoded(draw_scene(0)), b"bad"
    documents = [Document("a", id="same"), Document("b", id="same"), Document("c"), Document("d")]
    for images, place in [([good, good, bad, good], 2), ([good, good, good, bad], 3)]:
        with pytest.raises(InvalidDocumentError, match=f"document {place} of the batch") as refusal:
            album.upsert(documents, images=images)
        assert refusal.value.position == place
    assert album.count() == before


def test_of_two_documents_of_one_id_the_last_ones_image_counts(album):
    first, last = draw_scene(100), draw_scene(101)
    album.upsert([Document("", id="twice"), Document("", id="twice")], images=[first, last])
    assert album.search(encoded(last), k=1)[0].id == "twice"
    assert album.search(encoded(last), k=1)[0].score == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([b"x"], "1 images were given for 2 documents"),
        ("ab", "images is a str, expected a list"),
        (b"ab", "images is a bytes, expected a list"),
        (3, "images is a int, expected a list"),
        ([None, 4], "image is a int; expected the bytes"),
    ],
)
def test_images_are_one_for_each_document(album, images, reason):
    with pytest.raises(InvalidInputError, match=reason):
        album.upsert(["a", "b"], images=images)


def test_an_image_and_a_vector_of_one_document_contradict_each_other(album):
    image, vector = encoded(draw_scene(0)), np.ones(64, dtype=np.float32)
    with pytest.raises(InvalidInputError, match="vectors= and images="):
        album.upsert(["a"], vectors=[vector], images=[image])
    with pytest.raises(InvalidDocumentError, match="has an embedding") as refusal:
        album.upsert(["a", Document("b", embedding=vector)], images=[image, image])
    assert refusal.value.position == 1
    album.upsert([Document("b", id="given", embedding=vector)], images=[None])
    assert album.get("given") is not None


async def test_an_image_that_cannot_be_read_is_called_a_query_where_it_is_one(album):
    good = encoded(draw_scene(0))
    with pytest.raises(InvalidDocumentError, match=r"\(the query\)"):
        album.search(b"no image")
    with pytest.raises(InvalidDocumentError, match=r"\(the query\)"):
        await album.asearch(b"no image")
    with pytest.raises(InvalidDocumentError, match=r"\(query 1 of 2, from 0\)") as refusal:
        album.search_many([good, b"no image"])
    assert refusal.value.position == 1
    assert "document" not in str(refusal.value)


def test_an_embedder_that_reads_no_images_says_so(tmp_path):
    with nearfield.open(tmp_path / "db", embedder=HashingEmbedder()) as notes:
        notes.upsert("a text")
        for attempt in (
            lambda: notes.search(encoded(draw_scene(0))),
            lambda: notes.search(tmp_path / "absent.png"),
            lambda: notes.upsert(["a"], images=[encoded(draw_scene(0))]),
        ):
            with pytest.raises(UnsupportedOperationError, match="'hashing-64' reads no images"):
                attempt()
        assert notes.upsert(["b"], images=[None])
        assert notes.count() == 2


def test_an_embedder_of_images_alone_says_so_to_texts(album):
    with pytest.raises(UnsupportedOperationError, match="reads images, not texts"):
        album.upsert("a text without an image")
    with pytest.raises(UnsupportedOperationError, match="reads images, not texts"):
        album.search("a text")


# ── real models ──────────────────────────────────────────────────────────────────────────────────


def test_efficientnet_finds_altered_images_better_than_their_colours_do(tmp_path):
    from tests.efficientnet import DIMENSION, EfficientNetLite0

    network = CallableImageEmbedder(
        EfficientNetLite0(), name="efficientnet-lite0", dimension=DIMENSION, batch_size=8
    )
    shares = []
    for name, embedder in (("network", network), ("colours", histograms())):
        with nearfield.open(tmp_path / "db", name, embedder=embedder) as scenes:
            documents = [Document("", id=str(number)) for number in range(16)]
            scenes.upsert(documents, images=[draw_scene(number) for number in range(16)])
            queries = [altered(draw_scene(number), 1000 + number) for number in range(16)]
            found = [hits[0].id for hits in scenes.search_many(queries, k=1)]
        shares.append(np.mean([found[number] == str(number) for number in range(16)]))
    assert shares[0] >= 0.7  # by chance, 1 in 16
    assert shares[0] > shares[1]


@pytest.fixture(scope="module")
def clip(clip_folder):
    return SentenceTransformerEmbedder(clip_folder, device="cpu")


def test_texts_find_images_that_were_never_seen(clip, tmp_path):
    with nearfield.open(tmp_path / "db", embedder=clip) as album:
        paths = []
        for number, caption in enumerate(CAPTIONS):
            paths.append(tmp_path / f"{number}.png")
            draw(caption, 10_000, size=100).save(paths[-1])
        album.upsert([Document("", id=caption) for caption in CAPTIONS], images=paths)
        found = [hits[0].id for hits in album.search_many(CAPTIONS, k=1)]
        assert np.mean(np.array(found) == CAPTIONS) >= 0.8
        by_image = album.search(draw("a red disc", 20_000, size=64), k=1)
        assert by_image[0].id == "a red disc"
        again = album.upsert(
            [Document("", id=f"{caption} again") for caption in CAPTIONS],
            vectors=clip.embed_images([draw(caption, 30_000) for caption in CAPTIONS]),
        )
        assert len(again) == len(CAPTIONS)
        assert {hit.id.removesuffix(" again") for hit in album.search("a blue frame", k=2)} == {
            "a blue frame"
        }


@pytest.mark.skipif(
    "NEARFIELD_TEST_CLIP" not in os.environ,
    reason="no hub: set NEARFIELD_TEST_CLIP to a model of texts and images, such as clip-ViT-B-32",
)
def test_a_downloaded_model_finds_images_by_text(tmp_path):
    captions = [f"a {colour} disc" for colour in COLOURS]
    with nearfield.open(
        tmp_path / "db", embedder=f"sentence-transformers:{os.environ['NEARFIELD_TEST_CLIP']}"
    ) as album:
        images = [draw(caption, 50_000, size=224) for caption in captions]
        album.upsert([Document("", id=caption) for caption in captions], images=images)
        assert [hits[0].id for hits in album.search_many(captions, k=1)] == captions
        assert [hits[0].id for hits in album.search_many(images, k=1)] == captions


def test_a_clip_model_is_told_from_a_model_of_texts(clip):
    assert clip.info.kind is EmbeddingKind.MULTIMODAL
    assert clip.info.dimension == 32


def test_a_text_that_names_an_image_is_embedded_as_a_text(clip, tmp_path):
    path = tmp_path / "red.png"
    texts = [str(path), "http://127.0.0.1:9/red.png", "data:image/png;base64,AAAA"]
    before = clip.embed_documents(texts), clip.embed_queries(texts)
    draw("a red disc", 1).save(path)
    np.testing.assert_array_equal(clip.embed_documents(texts), before[0])
    np.testing.assert_array_equal(clip.embed_queries(texts), before[1])


def test_a_clip_models_fingerprint_covers_how_images_are_prepared(clip, clip_folder, tmp_path):
    copied = shutil.copytree(clip_folder, tmp_path / "clip")
    assert SentenceTransformerEmbedder(copied, device="cpu").info.fingerprint == (
        clip.info.fingerprint
    )
    settings = copied / "0_CLIPModel" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.5,", "0.4,"))
    changed = SentenceTransformerEmbedder(copied, device="cpu").info
    assert changed.fingerprint != clip.info.fingerprint


def test_a_clip_collection_is_found_again_by_the_models_folder(clip, clip_folder, tmp_path):
    with nearfield.open(tmp_path / "db", embedder=f"sentence-transformers:{clip_folder}") as album:
        album.upsert([Document("", id="x")], images=[draw("a red cross", 5)])
    with nearfield.open(tmp_path / "db") as album:
        assert album.search("a red cross")[0].id == "x"
        assert album.info.embedding.kind is EmbeddingKind.MULTIMODAL


def test_a_model_of_texts_refuses_images(tmp_path):
    from tests.models import sentence_transformer_folder

    embedder = SentenceTransformerEmbedder(sentence_transformer_folder(), device="cpu")
    with pytest.raises(UnsupportedOperationError, match="reads no images"):
        embedder.embed_images([draw_scene(0)])
