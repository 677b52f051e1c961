"""Several processes of several threads read and write one collection at once."""

from __future__ import annotations

import json
from pathlib import Path

from tests.concurrency import mixture
from tests.concurrency.processes import finish, start

import nearfield

SECONDS = 20
PROCESSES = 2
THREADS = mixture.OWNERS // PROCESSES


def test_concurrent_readers_and_writers_see_whole_writes_and_lose_none(tmp_path, soak):
    with nearfield.open(tmp_path, dimension=mixture.DIMENSION) as collection:
        mixture.prepare(collection)
    program = Path(mixture.__file__)
    processes = [
        start(program, tmp_path, number * THREADS, THREADS, SECONDS * soak, soak)
        for number in range(PROCESSES)
    ]
    results = [json.loads(finish(process, SECONDS * soak + 60)) for process in processes]
    errors = [error for result in results for error in result["errors"]]
    assert not errors, errors[0]

    expected = {f"stable-{number}": 0 for number in range(mixture.STABLE)}
    for owner in range(mixture.OWNERS):
        expected |= {item.id: 0 for item in mixture.pair(owner, 0)}
    written = {name: version for result in results for name, version in result["state"].items()}
    expected |= written
    with nearfield.open(tmp_path) as collection:
        found = {}
        for read in collection.scan(include=("text", "metadata", "embedding")):
            found[read.id] = read.metadata["version"]
            assert (read.embedding == mixture.vector_of(read)).all()
        for owner in range(mixture.OWNERS):  # one that never replaced its first triple
            if f"triple-{owner}-0-0" in found:
                expected |= {item.id: 0 for item in mixture.triple(owner, 0)}
        assert found == expected
        assert collection.check().ok
    assert min(result["calls"] for result in results) > 0
