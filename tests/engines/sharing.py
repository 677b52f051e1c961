"""What threads and forked children may do with one collection, on every engine."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np

import nearfield
from nearfield import Document, F
from nearfield.errors import ForkedProcessError

__all__ = ["Sharing"]

_WRITERS = 8
_IDS = 20


class Sharing:
    """The tests; a class for an engine has a fixture ``url``."""

    takes_turns: ClassVar[bool] = True
    """Whether of two writes of the same documents at once, one is seen as the later in all."""

    def test_threads_write_the_same_ids_and_no_field_is_left_of_any_other(self, url):
        with nearfield.open(url, dimension=2) as collection:

            def write(writer):
                metadata = {f"w{writer}": 1}
                for _ in range(5):
                    batch = [
                        Document(str(writer), id=str(i), metadata=metadata) for i in range(_IDS)
                    ]
                    collection.upsert(batch, vectors=np.ones((_IDS, 2)))
                    assert len(collection.search([1, 1], k=_IDS)) == _IDS

            with ThreadPoolExecutor(_WRITERS) as pool:
                for written in [pool.submit(write, writer) for writer in range(_WRITERS)]:
                    written.result()
            assert len(collection) == _IDS
            for document in collection.scan():
                assert document.metadata == {f"w{document.text}": 1}
            counts = [collection.count(F[f"w{i}"].exists()) for i in range(_WRITERS)]
            assert sum(counts) == _IDS
            if self.takes_turns:
                assert max(counts) == _IDS

    def test_a_forked_child_connects_anew_or_is_told_that_it_cannot(self, url):
        with nearfield.open(url, dimension=2) as collection:
            collection.upsert(Document("", id="a"), vectors=[1, 0])
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # ends it where it hangs
                code = 1
                try:
                    try:
                        code = 0 if collection.get("a") is not None else 2
                    except ForkedProcessError:
                        code = 3
                    collection.close()  # which leaves the parent's connections alone
                except BaseException:  # noqa: BLE001  the child must not go on as a test
                    code = 4
                finally:
                    os._exit(code)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == (0 if "127.0.0.1" in url else 3)
            assert collection.get("a") is not None
