"""One specimen, made once; each test damages a copy."""

from __future__ import annotations

import pytest
from tests.damage import specimen


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The folder of the undamaged specimen, closed."""
    folder = tmp_path_factory.mktemp("specimen") / "database"
    specimen.make(folder)
    return folder


@pytest.fixture(scope="session")
def expected(original, tmp_path_factory):
    """What it answers."""
    folder = specimen.copy(original, tmp_path_factory.mktemp("expected") / "database")
    answers = specimen.answers(folder)
    assert answers
    assert not any(answer.detected for answer in answers.values())
    return answers


@pytest.fixture
def folder(original, tmp_path):
    """A copy to be damaged."""
    return specimen.copy(original, tmp_path / "database")
