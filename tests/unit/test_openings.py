"""Which collections a process has open."""

from __future__ import annotations

import os

import pytest

from nearfield.errors import CollectionInUseError
from nearfield.stores.openings import Openings

KEY = ("place", "name")


def test_no_one_is_alone_with_what_is_open():
    openings = Openings()
    openings.enter(KEY, "the collection")
    openings.enter(KEY, "the collection")
    openings.leave(KEY)
    with pytest.raises(CollectionInUseError, match="the collection is open"):
        openings.alone(KEY, "the collection").__enter__()
    openings.leave(KEY)
    with openings.alone(KEY, "the collection"), openings.alone(("place", "other"), "another"):
        pass


def test_what_someone_is_alone_with_is_opened_after_that():
    openings = Openings()
    with openings.alone(KEY, "the collection"):
        with pytest.raises(CollectionInUseError, match="dropped or renamed"):
            openings.enter(KEY, "the collection")
        with pytest.raises(CollectionInUseError):
            openings.alone(KEY, "the collection").__enter__()
    openings.enter(KEY, "the collection")


def test_a_forked_child_is_not_kept_out_by_who_was_alone_in_its_parent():
    openings = Openings()
    openings.enter(("place", "open"), "what is open")
    with openings.alone(KEY, "the collection"):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                openings.enter(KEY, "the collection")
                with pytest.raises(CollectionInUseError):
                    openings.alone(("place", "open"), "what is open").__enter__()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
