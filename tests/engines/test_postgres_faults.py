"""PostgreSQL behind a network that fails, under locks, and with too many callers."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from tests.engines.proxy import Proxy
from tests.postgres_server import psycopg

import nearfield
from nearfield import Document, F
from nearfield.errors import (
    ClosedError,
    CollectionInUseError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
)

CALLS = {
    "get": lambda collection: collection.get("1"),
    "count": lambda collection: collection.count(F.n < 3),
    "search": lambda collection: collection.search([1, 0]),
    "search_many": lambda collection: collection.search_many(np.ones((9, 2))),
    "upsert": lambda collection: collection.upsert(Document("", id="new"), vectors=[1, 1]),
    "delete": lambda collection: collection.delete("1"),
    "scan": lambda collection: list(collection.scan()),
    "stats": lambda collection: collection.stats(),
}

ANSWERS = {
    "get": lambda document: document.id == "1",
    "count": lambda count: count == 3,
    "search": lambda hits: len(hits) == 10,
    "search_many": lambda found: [len(hits) for hits in found] == [10] * 9,
    "upsert": lambda ids: ids == ["new"],
    "delete": lambda count: count == 1,
    "scan": lambda documents: len(documents) == 600,
    "stats": lambda figures: figures["documents"] == 600,
}


@pytest.fixture
def proxy(postgres):
    relay = Proxy(postgres.port)
    yield relay
    relay.close()


@pytest.fixture
def collection(proxy):
    url = f"postgresql://nearfield@127.0.0.1:{proxy.port}/postgres?schema={uuid.uuid4().hex}"
    with nearfield.open(url, dimension=2, durability="normal", timeout_s=1) as made:
        documents = [Document("", id=str(i), metadata={"n": i}) for i in range(600)]
        made.upsert(documents, vectors=np.ones((600, 2)))
        yield made


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_though_no_answer_comes_and_the_next_one_succeeds(collection, proxy, name):
    proxy.withhold_answers()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1.*cannot be reached"):
        CALLS[name](collection)
    proxy.relay_answers()
    CALLS[name](collection)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_not_notice_that_idle_connections_were_cut(collection, proxy, name):
    proxy.cut()
    assert ANSWERS[name](CALLS[name](collection))
    proxy.cut()
    assert collection.count(F.n.in_([2, 3])) == 2


def test_a_delete_whose_count_was_lost_is_an_error_and_not_a_wrong_number(
    postgres, collection, proxy
):
    store = collection._store
    with psycopg.connect(postgres.url()) as other:
        other.execute(f"LOCK TABLE {store._names.documents.as_string(None)}")
        failures = []

        def delete():
            try:
                failures.append(collection.delete(where=F.n < 100))
            except StoreError as error:
                failures.append(error)

        thread = threading.Thread(target=delete)
        thread.start()
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
        proxy.withhold_answers()
        other.rollback()
        thread.join()
    proxy.relay_answers()
    assert isinstance(failures[0], StoreUnavailableError)
    assert collection.count() == 500  # it was done


def test_writes_go_on_while_connections_are_cut_again_and_again(collection, proxy):
    end = threading.Event()

    def cut():
        while not end.wait(0.1):
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        for number in range(150):
            batch = [Document(str(number), id=f"new {i}") for i in range(5)]
            collection.upsert(batch, vectors=np.ones((5, 2)))
    finally:
        end.set()
        thread.join()
    assert collection.count() == 605
    assert {each.text for each in collection.get([f"new {i}" for i in range(5)])} == {"149"}


def test_a_scan_that_is_cut_off_is_an_error(collection, proxy):
    scan = collection.scan()
    next(scan)
    proxy.cut()
    with pytest.raises(StoreUnavailableError):
        list(scan)


def test_scans_that_no_one_ends_use_up_connections_and_say_so(collection):
    scans = [collection.scan() for _ in range(16)]
    for scan in scans:
        next(scan)
    with pytest.raises(StoreBusyError, match=r"16 calls or scans.*end the scans"):
        collection.count()
    for scan in scans:
        scan.close()
    assert collection.count() == 600


def test_a_hundred_threads_share_the_connections(collection):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(len(collection.search([1, 0], k=5))))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [5] * 100


def test_closing_ends_searches_and_scans_with_an_error_and_lets_go_of_the_collection(postgres):
    url = f"{postgres.url()}?schema={uuid.uuid4().hex}"
    collection = nearfield.open(url, "a", dimension=2, durability="normal")
    collection.upsert([Document("", id=str(i)) for i in range(600)], vectors=np.ones((600, 2)))
    scan = collection.scan()
    next(scan)
    ends = []

    def search():
        try:
            for _ in itertools.count():
                collection.search([1, 0])
        except Exception as error:  # noqa: BLE001  reported by the test itself
            ends.append(type(error))

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    collection.close()
    for thread in threads:
        thread.join()
    assert ends == [ClosedError] * 8
    with pytest.raises(CollectionInUseError):
        nearfield.connect(url).drop("a")  # the scan still reads
    with pytest.raises(ClosedError):
        list(scan)
    nearfield.connect(url).drop("a")


@pytest.fixture
def small_disk(postgres):
    """The URL of a database on a file system of 32 MB; skipped where none may be made."""
    with tempfile.TemporaryDirectory(prefix="nearfield-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=777", "tmpfs", folder]
        if (
            sys.platform != "linux"
            or os.geteuid() != 0
            or subprocess.run(mount, capture_output=True, check=False).returncode
        ):
            pytest.skip("only root can make a small file system")
        try:
            name = f"small_{uuid.uuid4().hex}"
            space = Path(folder) / "space"
            space.mkdir()
            shutil.chown(space, "nobody")
            with psycopg.connect(postgres.url(), autocommit=True) as owner:
                owner.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
                owner.execute(f"CREATE DATABASE {name} TABLESPACE {name}")
                yield postgres.url(name)
                owner.execute(f"DROP DATABASE {name}")
                owner.execute(f"DROP TABLESPACE {name}")
        finally:
            subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_that_harms_nothing(small_disk):
    vectors = np.random.default_rng(3).standard_normal((500, 384))
    batches = []
    with nearfield.open(small_disk, dimension=384) as collection:

        def write_on():
            for number in itertools.count():
                batch = [Document("text", id=f"{number}/{i}") for i in range(500)]
                collection.upsert(batch, vectors=vectors)
                batches.append(batch)

        with pytest.raises(StorageFullError, match=r"disk of .* is full; nothing was written"):
            write_on()
        assert len(collection) == 500 * len(batches) > 0
        assert collection.search(vectors[7], k=1)[0].id.endswith("/7")
        assert collection.delete([f"0/{i}" for i in range(500)]) == 500
        with psycopg.connect(small_disk, autocommit=True) as owner:
            owner.execute(f"VACUUM {collection._store._names.documents.as_string(None)}")
        collection.upsert(Document("", id="new"), vectors=vectors[0])
        assert len(collection) == 500 * (len(batches) - 1) + 1
