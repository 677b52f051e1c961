"""What crosses the pipe to a local worker comes out as it went in."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest

from nearfield import Document
from nearfield.errors import DimensionMismatchError, InvalidDocumentError, WorkerError
from nearfield.ingest import wire
from nearfield.ingest.chunkers import ChunkerSettings
from nearfield.ingest.entries import Entry, Markup, Section
from nearfield.ingest.source_files import FileContent
from nearfield.ingest.worker import Equipment, Part


def crossed(value):
    return wire.receive(io.BytesIO(wire.packed(value)))


SECTIONS = (Section("text", ("a", "b"), 3), Section(""))
METADATA = {"n": 2**70, "deep": [{"x": None}, (1, 2.5)], "when": datetime(2026, 1, 2, tzinfo=UTC)}


@pytest.mark.parametrize(
    "value",
    [
        None,
        -(2**63),
        2**64,
        b"\0\xff",
        ("tuple", ["list"], {"key": {1: True}}),
        ChunkerSettings(256, 32, for_embedder=True),
        Equipment("minilm", "print", None, 1, ChunkerSettings(9, 1, for_embedder=False), "chunks"),
        Part("a.md", FileContent(b"# A", "a.md"), "hash", b"settings", {None: "h", "r": "i"}),
        Part("d", Entry(SECTIONS, "title", "r", Markup.MARKDOWN, METADATA), "hash", b"", {}),
        [("r", "hash", [Document("text", "id", METADATA)]), ("s", "hash", None)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_the_same_on_the_other_side(value):
    there = crossed(value)
    assert there == value
    assert type(there) is type(value)


def test_a_way_of_writing_is_still_one_of_its_kind():
    assert crossed(Entry(SECTIONS, markup=Markup.MARKDOWN)).markup is Markup.MARKDOWN


def test_vectors_keep_their_shape_type_and_bits():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    there = crossed(vectors)
    assert there.dtype == vectors.dtype
    assert there.flags.writeable
    np.testing.assert_array_equal(there, vectors)


def test_an_error_keeps_its_kind_its_words_and_what_it_carries():
    there = crossed(InvalidDocumentError("no text", position=3))
    assert (type(there), str(there), there.position) == (InvalidDocumentError, "no text", 3)


def test_an_error_of_another_kind_keeps_its_words():
    class StrangeError(DimensionMismatchError):
        pass

    there = crossed(StrangeError.__new__(StrangeError, "three, not two"))
    assert type(there) is WorkerError


def test_what_is_not_named_does_not_cross():
    with pytest.raises(TypeError, match="object does not cross"):
        wire.packed([object()])


def test_an_end_that_is_gone_is_noticed():
    with pytest.raises(EOFError):
        wire.receive(io.BytesIO(wire.packed("text")[:-1]))
