"""What a client promises while its server dies and comes back, on every engine that has one."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest

import nearfield
from nearfield import Document, F
from nearfield.errors import StoreUnavailableError

__all__ = ["WRITER", "Restarts"]

WRITER = """
import sys
import nearfield
from nearfield import Document
with nearfield.open(sys.argv[1], dimension=2, timeout_s=60) as collection:
    for number in range(100_000):
        batch = [Document("", id=f"{number}/{i}", metadata={"n": number}) for i in range(3)]
        collection.upsert(batch, vectors=[[1, 0]] * 3)
        print(number, flush=True)
"""
"""Writes three documents at a time, and says so, until it is killed."""


class Restarts:
    """The tests; a class for an engine has a fixture ``own_server`` with url, start and kill."""

    atomic_writes: ClassVar[bool] = True
    rounds: ClassVar[int] = 2

    def test_acknowledged_writes_survive_the_death_of_the_server_and_clients_go_on(
        self, own_server, soak
    ):
        url = own_server.url()
        with nearfield.open(url, dimension=2, timeout_s=30) as reader:
            for _ in range(self.rounds * soak):
                command = [sys.executable, "-c", WRITER, url]
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                    acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
                    own_server.kill()
                    own_server.start()
                    # The writer does not notice but for the wait.
                    acknowledged += [int(writer.stdout.readline()) for _ in range(20)]
                    writer.kill()
                there = {document.id for document in reader.scan()}
                assert {f"{number}/{i}" for number in acknowledged for i in range(3)} <= there
                if self.atomic_writes:
                    assert len(there) % 3 == 0  # no half batch
                assert reader.count(F.n == acknowledged[-1]) == 3
                assert reader.search([1, 0], k=1)

    def test_a_server_that_stays_away_is_an_error_and_one_that_returns_is_not(self, own_server):
        with nearfield.open(own_server.url(), dimension=2, timeout_s=1) as collection:
            collection.upsert(Document("", id="a"), vectors=[1, 0])
            own_server.kill()
            for call in (
                lambda: collection.search([1, 0]),
                lambda: collection.delete("a"),
                lambda: collection.upsert(Document("", id="b"), vectors=[1, 0]),
                lambda: list(collection.scan()),
                collection.stats,
            ):
                with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                    call()
            own_server.start()
            assert collection.get("a") is not None
            collection.upsert(Document("", id="b"), vectors=[1, 0])
            assert len(collection) == 2
