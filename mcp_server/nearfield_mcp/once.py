"""What takes long to make, made by whoever asks first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Once"]

_T = TypeVar("_T")


class Once:
    """Keeps several threads from making the same thing at the same time; it keeps nothing made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[Any]] = {}

    def make(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Make a thing, or wait for the thread that is making it.

        Args:
            key: Which thing it is; others are made meanwhile.
            make: Makes it and puts it where it is looked for before this is called again. What it
                raises, those who waited are told too; the next one tries anew.
        """
        with self._lock:
            future = self._under_way.get(key)
            is_first = future is None
            if future is None:
                future = self._under_way[key] = Future()
        if is_first:
            try:
                future.set_result(make())
            except BaseException as error:  # noqa: BLE001  # raised below, here and to all who wait
                future.set_exception(error)
            finally:
                with self._lock:
                    del self._under_way[key]
        made: _T = future.result()
        return made
