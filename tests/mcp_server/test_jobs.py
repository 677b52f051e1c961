"""Jobs outlive requests, time-outs and servers; each is run by one server at a time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from mcp.server.mcpserver.exceptions import ToolError

from nearfield.errors import InvalidInputError
from nearfield_mcp.job_runner import JobLimits, JobOutcome, JobRunner
from nearfield_mcp.jobs import (
    JobCounts,
    JobFailure,
    JobFolder,
    JobRecord,
    JobState,
    SourceKind,
    default_job_folder,
    new_job_id,
)
from nearfield_mcp.scope import CURRENT, Right

WAIT_S = 30


def record_of(**changes):
    fields = {
        "id": new_job_id(),
        "collection": "notes",
        "kind": SourceKind.PATHS,
        "sources": ("/docs",),
        "tenant": None,
        "subject": "local",
        "state": JobState.QUEUED,
        "created_at": time.time(),
    }
    return JobRecord(**{**fields, **changes})


def wait_for(condition):
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    folder = JobFolder(tmp_path / "jobs")
    yield folder
    folder.release()


class Gate:
    """Work that goes on step by step until it is let through."""

    def __init__(self):
        self.open = threading.Event()
        self.begun = []
        self.scopes = []

    def __call__(self, record, tell):
        self.begun.append(record.id)
        self.scopes.append(CURRENT.get())
        steps = 0
        while not self.open.wait(0.005):
            steps += 1
            tell(JobCounts(files_done=steps))
        return JobOutcome(JobCounts(files_done=1, added=1))


# ── records ──────────────────────────────────────────────────────────────────────────────────────


def test_a_record_comes_back_as_it_was(folder):
    record = record_of(
        tenant="acme",
        counts=JobCounts(3, 5, 10, 20, 7, 1, 1, 1, 0, 0, {".png": 2}),
        failures=(JobFailure("a.md", "not text"),),
        failures_total=1,
    )
    folder.save(record)
    assert folder.load(record.id) == record
    assert folder.load(new_job_id()) is None


@pytest.mark.parametrize(
    "identifier", ["", "../x", "a" * 19, "A" * 20, "0" * 20 + "\n", "/etc/passwd"]
)
def test_an_id_is_never_a_path(folder, identifier):
    folder.save(record_of())
    assert folder.load(identifier) is None


def test_what_is_no_record_is_passed_over(folder, tmp_path):
    record = record_of()
    folder.save(record)
    (tmp_path / "jobs" / f"{new_job_id()}.job").write_text("{")
    (tmp_path / "jobs" / f"{new_job_id()}.job").write_text('{"id": "x"}')
    (tmp_path / "jobs" / "notes.job").write_text("hello")
    assert list(folder.records()) == [record]


@pytest.mark.skipif(os.name == "nt", reason="modes are a matter of POSIX")
def test_records_and_inputs_are_for_their_owner_only(folder, tmp_path):
    record = record_of()
    folder.save(record)
    folder.save_inputs(record.id, b"secret")
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "jobs").glob(f"{record.id}.*"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_record_that_cannot_be_written_leaves_the_old_one(folder, tmp_path, monkeypatch):
    record = record_of()
    folder.save(record)

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            folder.save(replace(record, state=JobState.DONE))
    assert folder.load(record.id) == record
    assert [p.name for p in (tmp_path / "jobs").iterdir()] == [f"{record.id}.job"]


def test_old_records_are_removed_and_running_jobs_stay(folder, tmp_path):
    long_ago = time.time() - 90 * 86_400
    old = record_of(created_at=long_ago, state=JobState.DONE)
    stuck = record_of(created_at=long_ago, state=JobState.RUNNING, owner=folder.owner)
    new = record_of(state=JobState.DONE)
    for record in (old, stuck, new):
        folder.save(record)
    for _ in range(250):
        folder.save(record_of(state=JobState.DONE))
    dead = tmp_path / "jobs" / "0123456789abcdef.owner"
    dead.touch()
    os.utime(dead, (long_ago, long_ago))
    folder.prune()
    kept = {record.id for record in folder.records()}
    assert old.id not in kept
    assert stuck.id in kept
    assert 200 <= len(kept) <= 201
    assert not dead.exists()
    assert (tmp_path / "jobs" / f"{folder.owner}.owner").exists()


def test_servers_of_other_databases_keep_their_jobs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    one = default_job_folder({"a": "./data"})
    assert one == default_job_folder({"a": str(Path("data").absolute())})
    assert one != default_job_folder({"a": "./other"})
    assert one.is_relative_to(tmp_path)


# ── taking over ──────────────────────────────────────────────────────────────────────────────────


def test_a_job_of_a_living_server_is_left_alone(folder, tmp_path):
    folder.save(record_of(owner=folder.owner, state=JobState.RUNNING))
    other = JobFolder(tmp_path / "jobs")
    assert other.adopt() == []
    other.release()


def test_a_job_of_a_server_that_is_gone_is_taken_over_once(folder, tmp_path):
    record = record_of(owner="f" * 16, state=JobState.RUNNING)
    folder.save(record)
    other = JobFolder(tmp_path / "jobs")
    taken = [*folder.adopt(), *other.adopt(), *folder.adopt()]
    assert taken == [replace(record, owner=folder.owner, state=JobState.QUEUED, resumes=1)]
    other.release()


def test_of_many_servers_that_start_at_once_one_takes_a_job_over(folder, tmp_path):
    jobs = [record_of(owner="f" * 16, state=JobState.RUNNING) for _ in range(10)]
    for record in jobs:
        folder.save(record)
    others = [JobFolder(tmp_path / "jobs") for _ in range(6)]
    taken = []
    start = threading.Barrier(len(others))

    def adopt(other):
        other.owner  # noqa: B018  # it lives from here on
        start.wait()
        for _ in range(20):
            taken.extend(other.adopt())

    threads = [threading.Thread(target=adopt, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.id for record in taken) == sorted(record.id for record in jobs)
    for other in others:
        other.release()


def test_a_job_that_two_servers_died_of_is_given_up(folder):
    record = record_of(owner="f" * 16, state=JobState.RUNNING, resumes=1)
    folder.save(record)
    folder.save_inputs(record.id, b"secret")
    assert folder.adopt() == []
    left = folder.load(record.id)
    assert left.state is JobState.FAILED
    assert "twice" in left.error
    with pytest.raises(FileNotFoundError):
        folder.load_inputs(record.id)


def test_a_job_that_only_waited_may_be_taken_over_any_number_of_times(folder):
    record = record_of(owner="f" * 16, state=JobState.INTERRUPTED, resumes=1)
    folder.save(record)
    assert [each.resumes for each in folder.adopt()] == [1]


DYING = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from nearfield_mcp.jobs import JobFolder, JobRecord, JobState, SourceKind, new_job_id
folder = JobFolder(Path(sys.argv[1]))
folder.save(JobRecord(new_job_id(), "notes", SourceKind.PATHS, (), None, "local",
                      JobState.RUNNING, 0.0, owner=folder.owner))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_lets_go_of_its_jobs(folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(tmp_path / "jobs"), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        assert folder.adopt() == []
        process.kill()
    assert len(folder.adopt()) == 1


# ── running ──────────────────────────────────────────────────────────────────────────────────────


def test_a_job_runs_in_the_scope_of_its_caller_and_no_more(folder):
    gate = Gate()
    gate.open.set()
    runner = JobRunner(folder, gate)
    record = runner.submit(record_of(tenant="acme", subject="ann"))
    wait_for(lambda: runner.get(record.id).state is JobState.DONE)
    (scope,) = gate.scopes
    assert (scope.tenant, scope.subject) == ("acme", "ann")
    assert scope.collections == {"notes"}
    assert Right.ADMIN not in scope.rights
    assert runner.get(record.id).counts.added == 1
    assert CURRENT.get().tenant is None


def test_a_collection_has_one_job_at_a_time(folder):
    gate = Gate()
    runner = JobRunner(folder, gate)
    jobs = [runner.submit(record_of()) for _ in range(2)]
    other = runner.submit(record_of(collection="other"))
    wait_for(lambda: len(gate.begun) == 2)
    assert gate.begun == [jobs[0].id, other.id]
    assert runner.get(jobs[1].id).state is JobState.QUEUED
    gate.open.set()
    wait_for(lambda: all(record.state is JobState.DONE for record in runner.latest()))
    assert gate.begun[-1] == jobs[1].id


def test_the_same_name_of_two_tenants_is_two_collections(folder):
    gate = Gate()
    runner = JobRunner(folder, gate)
    for tenant in ("acme", "zeta"):
        runner.submit(record_of(tenant=tenant))
    wait_for(lambda: len(gate.begun) == 2)
    gate.open.set()
    wait_for(lambda: all(record.state is JobState.DONE for record in runner.latest()))


def test_too_many_jobs_are_refused_and_leave_no_trace(folder):
    gate = Gate()
    runner = JobRunner(folder, gate, limits=JobLimits(running=1, waiting=3, per_caller=2))
    for _ in range(2):
        runner.submit(record_of(subject="ann"))
    with pytest.raises(ToolError, match="too many"):
        runner.submit(record_of(subject="ann"), b"inputs")
    runner.submit(record_of(subject="bob"))
    wait_for(lambda: len(gate.begun) == 1)
    runner.submit(record_of(subject="bob"))
    with pytest.raises(ToolError, match="too many"):
        runner.submit(record_of(subject="cleo"))
    assert len(runner.latest()) == 4
    gate.open.set()
    wait_for(lambda: all(record.state is JobState.DONE for record in runner.latest()))


def test_a_running_job_is_cancelled_at_its_next_step(folder):
    gate = Gate()
    runner = JobRunner(folder, gate)
    record = runner.submit(record_of(), b"inputs")
    wait_for(lambda: runner.get(record.id).counts.files_done > 0)
    runner.cancel(record)
    wait_for(lambda: runner.get(record.id).state is JobState.CANCELLED)
    with pytest.raises(FileNotFoundError):
        folder.load_inputs(record.id)


def test_a_waiting_job_is_cancelled_at_once(folder):
    gate = Gate()
    runner = JobRunner(folder, gate, limits=JobLimits(running=1))
    first, second = runner.submit(record_of()), runner.submit(record_of())
    runner.cancel(second)
    assert runner.get(second.id).state is JobState.CANCELLED
    gate.open.set()
    wait_for(lambda: runner.get(first.id).state is JobState.DONE)
    assert gate.begun == [first.id]


def test_a_job_of_another_server_is_cancelled_by_asking_it(folder, tmp_path):
    gate = Gate()
    runner = JobRunner(folder, gate)
    record = runner.submit(record_of())
    wait_for(lambda: gate.begun)
    other = JobRunner(JobFolder(tmp_path / "jobs"), gate)
    other.cancel(other.get(record.id))
    wait_for(lambda: other.get(record.id).state is JobState.CANCELLED)


def test_a_server_that_ends_leaves_its_jobs_to_the_next(folder, tmp_path):
    gate = Gate()
    runner = JobRunner(folder, gate, limits=JobLimits(running=1))
    jobs = [runner.submit(record_of(), b"inputs") for _ in range(2)]
    wait_for(lambda: gate.begun)
    runner.close()
    assert {folder.load(job.id).state for job in jobs} == {JobState.INTERRUPTED}
    assert folder.load_inputs(jobs[0].id) == b"inputs"
    gate.open.set()
    following = JobRunner(JobFolder(tmp_path / "jobs"), gate)
    following.resume()
    wait_for(lambda: all(following.get(job.id).state is JobState.DONE for job in jobs))
    assert {following.get(job.id).resumes for job in jobs} == {0}


def test_a_runner_that_was_closed_takes_jobs_again(folder):
    gate = Gate()
    gate.open.set()
    runner = JobRunner(folder, gate)
    runner.close()
    record = runner.submit(record_of())
    wait_for(lambda: runner.get(record.id).state is JobState.DONE)


def test_a_server_that_never_ends_keeps_no_more_records_than_another(folder):
    gate = Gate()
    gate.open.set()
    for _ in range(230):
        folder.save(record_of(state=JobState.DONE))
    runner = JobRunner(folder, gate)
    record = runner.submit(record_of())
    wait_for(lambda: len(list(folder.records())) <= 200)
    assert runner.get(record.id).state is JobState.DONE


def test_an_expected_error_is_told_and_an_unexpected_one_only_named(folder, caplog):
    def refuse(record, tell):
        raise InvalidInputError("say it otherwise")

    def crash(record, tell):
        raise ValueError("the text was: hunter2")

    for work, told in ((refuse, "say it otherwise"), (crash, "ValueError")):
        runner = JobRunner(folder, work)
        with caplog.at_level(logging.DEBUG):
            record = runner.submit(record_of())
            wait_for(lambda: runner.get(record.id).state.is_final)  # noqa: B023
        record = runner.get(record.id)
        assert record.state is JobState.FAILED
        assert told in record.error
        assert "hunter2" not in record.error
    assert "hunter2" not in caplog.text


def test_a_job_of_which_nothing_was_taken_in_has_failed(folder):
    outcomes = iter(
        [
            JobOutcome(JobCounts(), (JobFailure("a", "gone"),), 1),
            JobOutcome(JobCounts(unchanged=1), (JobFailure("a", "gone"),), 1),
            JobOutcome(JobCounts()),
        ]
    )
    runner = JobRunner(folder, lambda *_: next(outcomes))
    states = []
    for _ in range(3):
        record = runner.submit(record_of())
        wait_for(lambda: runner.get(record.id).state.is_final)  # noqa: B023
        states.append(runner.get(record.id).state)
    assert states == [JobState.FAILED, JobState.DONE, JobState.DONE]
