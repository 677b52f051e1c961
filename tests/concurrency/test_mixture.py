"""Several processes of several threads read and write one collection at once."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from tests import segments
from tests.concurrency import mixture
from tests.concurrency.processes import finish, start

import nearfield

SECONDS = 20
SECONDS_OF_SEGMENTS = 6
PROCESSES = 2
THREADS = mixture.OWNERS // PROCESSES


def test_concurrent_readers_and_writers_see_whole_writes_and_lose_none(tmp_path, soak):
    mix(tmp_path, THREADS, SECONDS * soak, soak)


def test_segments_come_and_go_meanwhile_built_by_one_process_at_a_time(tmp_path, soak):
    results = mix(tmp_path, 3, SECONDS_OF_SEGMENTS * soak, soak, "tiny segments")
    spans = sorted(tuple(span) for result in results for span in result["spans"])
    assert spans
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    with segments.reopen(tmp_path, "default") as collection:
        segments.maintain(collection)
        known = sorted(record.folder for record in segments.records(collection))
        assert segments.folders(collection) == known


def mix(tmp_path, threads, seconds, seed, *options):
    """Run the mixture in several processes, verify what is left, and return what they say."""
    with nearfield.open(tmp_path, dimension=mixture.DIMENSION) as collection:
        mixture.prepare(collection)
    program = Path(mixture.__file__)
    processes = [
        start(program, tmp_path, number * threads, threads, seconds, seed, *options)
        for number in range(PROCESSES)
    ]
    results = [json.loads(finish(process, seconds + 60)) for process in processes]
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
    return results
