"""A row that was changed behind the engine's back is found, never served, and set aside."""

from __future__ import annotations

import zlib

import pytest
from tests.damage.specimen import (
    DOCUMENTS,
    EVERYTHING,
    IDS,
    VECTORS,
    document,
    identifier,
    reopen,
    shown,
    sql,
)

from nearfield import Document, F
from nearfield.errors import CorruptionError

DAMAGED = 17

DOCUMENT_DAMAGE = {
    "text": "UPDATE documents SET text = text || ' and more' WHERE id = ?",
    "text that is no text": "UPDATE documents SET text = x'ff00' WHERE id = ?",
    "text that is not UTF-8": "UPDATE documents SET text = CAST(x'c328' AS TEXT) WHERE id = ?",
    "text checksum": "UPDATE documents SET text_checksum = text_checksum + 1 WHERE id = ?",
    "metadata": "UPDATE documents SET metadata = CAST('{\"group\":3}' AS BLOB) WHERE id = ?",
    "metadata that is no JSON": "UPDATE documents SET metadata = x'00' WHERE id = ?",
    "metadata that is text": "UPDATE documents SET metadata = CAST(metadata AS TEXT) WHERE id = ?",
    "creation time": "UPDATE documents SET created_at = created_at + (1 << 40) WHERE id = ?",
    "creation time that is no time": "UPDATE documents SET created_at = 'now' WHERE id = ?",
    "sequence": "UPDATE documents SET sequence = sequence + 1 WHERE id = ?",
    "checksum": "UPDATE documents SET checksum = 'x' WHERE id = ?",
}

VECTOR_DAMAGE = {
    "vector": "UPDATE vectors SET vector = zeroblob(length(vector)) WHERE slot = {slot}",
    "vector that is too short": "UPDATE vectors SET vector = x'00' WHERE slot = {slot}",
    "vector that is a number": "UPDATE vectors SET vector = 5 WHERE slot = {slot}",
    "vector checksum": "UPDATE vectors SET checksum = checksum + 1 WHERE slot = {slot}",
    "missing vector": "DELETE FROM vectors WHERE slot = {slot}",
    "another document's vector": (
        "UPDATE vectors SET (checksum, vector) = "
        "(SELECT checksum, vector FROM vectors WHERE slot != {slot} LIMIT 1) WHERE slot = {slot}"
    ),
}


def damage(folder, statement):
    """Damage one document, by a statement that names it or its slot."""
    if "{slot}" in statement:
        slot = "(SELECT slot FROM documents WHERE id = ?)"
        repeated = [identifier(DAMAGED)] * statement.count("{slot}")
        sql(folder, statement.format(slot=slot), *repeated)
    else:
        sql(folder, statement, identifier(DAMAGED))


def assert_all_but_the_damaged_are_left(collection):
    left = {read.id: read for read in collection.scan(include=EVERYTHING)}
    assert left.keys() == set(IDS) - {identifier(DAMAGED)}
    for number in set(range(DOCUMENTS)) - {DAMAGED}:
        read = left[identifier(number)]
        assert read == document(number)
        assert (read.embedding == VECTORS[number]).all()
    [hit] = collection.search("word18", mode="keyword", k=1)
    assert hit.id == identifier(18)
    assert collection.search(VECTORS[18], k=1)[0].id == identifier(18)
    assert collection.count(F.group == DAMAGED % 4) == DOCUMENTS // 4 - 1


@pytest.mark.parametrize("statement", DOCUMENT_DAMAGE.values(), ids=DOCUMENT_DAMAGE)
def test_a_damaged_document_is_found_never_served_and_set_aside(folder, statement):
    damage(folder, statement)
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError, match="repair"):
            collection.get(identifier(DAMAGED))
        with pytest.raises(CorruptionError):
            list(collection.scan())
        with pytest.raises(CorruptionError):
            collection.search(VECTORS[DAMAGED], k=3)
        with pytest.raises(CorruptionError):
            collection.search(f"word{DAMAGED}", mode="keyword")
        # Others are read and written as ever.
        assert shown(collection.get(identifier(5)))[:3] == shown(document(5))[:3]
        report = collection.check()
        assert {(p.kind, p.id) for p in report.problems if p.kind == "document"} == {
            ("document", identifier(DAMAGED))
        }
        assert report.documents == DOCUMENTS - 1
        repaired = collection.repair()
        assert repaired.quarantined == (identifier(DAMAGED),)
        assert repaired.documents == DOCUMENTS - 1
        assert collection.check().ok
        assert_all_but_the_damaged_are_left(collection)
        assert collection.stats()["quarantined"] == 1


@pytest.mark.parametrize("statement", VECTOR_DAMAGE.values(), ids=VECTOR_DAMAGE)
def test_a_damaged_vector_is_found_never_served_and_set_aside(folder, statement):
    damage(folder, statement)
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            collection.search(VECTORS[3], k=1)
        with pytest.raises(CorruptionError):
            collection.get(identifier(DAMAGED), include=EVERYTHING)
        assert collection.get(identifier(DAMAGED)) == document(DAMAGED)
        assert [(p.kind, p.id) for p in collection.check().problems] == [
            ("vector", identifier(DAMAGED))
        ]
        assert collection.repair().quarantined == (identifier(DAMAGED),)
        assert collection.check().ok
        assert_all_but_the_damaged_are_left(collection)


@pytest.mark.parametrize("statement", DOCUMENT_DAMAGE.values(), ids=DOCUMENT_DAMAGE)
def test_a_damaged_document_is_not_overwritten_before_it_is_repaired(folder, statement):
    damage(folder, statement)
    again = [Document("new text", id=identifier(DAMAGED))]
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            collection.upsert(again, vectors=VECTORS[:1])
        with pytest.raises(CorruptionError):
            collection.delete(identifier(DAMAGED))
        collection.repair()
        collection.upsert(again, vectors=VECTORS[:1])
        assert collection.get(identifier(DAMAGED)).text == "new text"
        assert collection.check().ok


def test_damaged_metadata_does_not_decide_what_a_filter_deletes(folder):
    damage(folder, DOCUMENT_DAMAGE["metadata"])
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            collection.delete(where=F.group == 3)
        with pytest.raises(CorruptionError):
            collection.count(F.group == 3)
        with pytest.raises(CorruptionError):
            list(collection.scan(where=F.group == 1))
        assert len(collection) == DOCUMENTS


def test_a_vector_without_a_document_is_found_and_deleted(folder):
    slot, blob = 10_000, VECTORS[0].tobytes()
    sql(folder, "INSERT INTO vectors VALUES (?, ?, ?)", slot, zlib.crc32(blob, slot), blob)
    with reopen(folder) as collection:
        with pytest.raises(CorruptionError):
            collection.search(VECTORS[0])
        assert [p.kind for p in collection.check().problems] == ["vector"]
        report = collection.repair()
        assert report.quarantined == ()
        assert report.documents == DOCUMENTS
        assert collection.check().ok
        assert collection.search(VECTORS[0], k=1)[0].id == identifier(0)


def test_documents_that_vanished_are_noticed(folder):
    sql(folder, "DELETE FROM documents WHERE id = ?", identifier(DAMAGED))
    sql(folder, "DELETE FROM vectors WHERE slot NOT IN (SELECT slot FROM documents)")
    with reopen(folder) as collection:
        for read in (
            lambda: collection.search(VECTORS[0]),
            lambda: collection.count(F.group == 1),
            lambda: len(collection),
            lambda: list(collection.scan()),
        ):
            with pytest.raises(CorruptionError):
                read()
        assert {p.kind for p in collection.check().problems} == {"record", "keyword_index"}
        assert collection.repair().documents == DOCUMENTS - 1
        assert collection.check().ok
        assert_all_but_the_damaged_are_left(collection)


KEYWORD_DAMAGE = {
    "a text that was never indexed": "INSERT INTO documents_fts (documents_fts, rowid, text) "
    "SELECT 'delete', slot, text FROM documents WHERE id = 'document-17'",
    "a text of nothing": "INSERT INTO documents_fts (rowid, text) VALUES (99999, 'word17 ghost')",
    "an empty index": "INSERT INTO documents_fts (documents_fts) VALUES ('delete-all')",
    "a missing structure record": "DELETE FROM documents_fts_data WHERE id = 10",
    "an index without configuration": "UPDATE documents_fts_config SET v = 99",
}


@pytest.mark.parametrize("statement", KEYWORD_DAMAGE.values(), ids=KEYWORD_DAMAGE)
def test_a_keyword_index_that_disagrees_with_the_texts_is_found_and_made_anew(folder, statement):
    sql(folder, statement)
    with reopen(folder) as collection:
        assert [p.kind for p in collection.check().problems] == ["keyword_index"]
        report = collection.repair()
        assert report.quarantined == ()
        assert collection.check().ok
        assert [hit.id for hit in collection.search("word17", mode="keyword")] == [identifier(17)]
        assert collection.search("ghost", mode="keyword") == []


def test_a_keyword_hit_without_a_document_is_an_error(folder):
    sql(folder, KEYWORD_DAMAGE["a text of nothing"])
    with reopen(folder) as collection, pytest.raises(CorruptionError):
        collection.search("ghost", mode="keyword")


RECORD_DAMAGE = {
    "a sequence below zero": "UPDATE state SET sequence = -5",
    "a sequence that is no number": "UPDATE state SET sequence = 'x'",
    "a wrong count": "UPDATE state SET documents = documents + 1",
    "a last slot that is too low": "UPDATE sqlite_sequence SET seq = 5 WHERE name = 'documents'",
}


@pytest.mark.parametrize("statement", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_damage_to_the_record_of_the_last_write_is_found_and_mended(folder, statement):
    sql(folder, statement)
    with reopen(folder) as collection:
        if "sqlite_sequence" not in statement:
            with pytest.raises(CorruptionError):
                collection.search(VECTORS[0])
        else:
            with pytest.raises(CorruptionError):
                collection.upsert([Document("new")], vectors=VECTORS[:1])
        assert [p.kind for p in collection.check().problems] == ["record"]
        assert collection.repair().quarantined == ()
        assert collection.check().ok
        collection.upsert([Document("new", id="new")], vectors=VECTORS[:1])
        assert len(collection) == DOCUMENTS + 1


BIRTH_DAMAGE = {
    "embedding": "UPDATE state SET embedding = replace(embedding, '24', '25')",
    "metric": "UPDATE state SET metric = 'dot'",
    "metric that there is not": "UPDATE state SET metric = 'nearness'",
    "identity": "UPDATE state SET collection_id = 'another'",
    "checksum": "UPDATE state SET checksum = checksum + 1",
    "everything": "DELETE FROM state",
}


@pytest.mark.parametrize("statement", BIRTH_DAMAGE.values(), ids=BIRTH_DAMAGE)
def test_a_damaged_birth_record_is_refused_at_opening(folder, statement):
    sql(folder, statement)
    with pytest.raises(CorruptionError, match="backup"):
        reopen(folder)


def test_damage_after_opening_is_found_by_every_handle(folder):
    with reopen(folder) as collection:
        assert collection.search(VECTORS[DAMAGED], k=1)[0].id == identifier(DAMAGED)
        damage(folder, DOCUMENT_DAMAGE["text"])
        with pytest.raises(CorruptionError):
            collection.search(VECTORS[DAMAGED], k=1)


def test_a_repair_is_seen_by_others_at_their_next_call(folder):
    damage(folder, DOCUMENT_DAMAGE["text"])
    with reopen(folder) as collection, reopen(folder) as other:
        assert other.count(F.group == DAMAGED % 4) == DOCUMENTS // 4
        collection.repair()
        assert other.count(F.group == DAMAGED % 4) == DOCUMENTS // 4 - 1
        assert_all_but_the_damaged_are_left(other)
