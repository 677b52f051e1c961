"""What a probe says about a store, and the probes themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

__all__ = ["Answer", "Probe", "Verdict", "counted", "no", "partly", "probe", "probes", "yes"]

_LIMIT_S = 90.0


class Answer(StrEnum):
    """Whether a store has a feature."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out.

    Attributes:
        answer: Whether the store has the feature.
        reason: In a few words, with the figure.
        source: What was read, where nothing was tried; empty where it was tried.
        trace: The end of a traceback, where the probe ended in one.
    """

    answer: Answer
    reason: str
    source: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One row of a table.

    Attributes:
        framework: ``langchain``, ``llama_index`` or ``both``.
        section: The rows it stands with.
        row: What is asked, as the table says it.
        run: Tries a store, in an empty folder.
        limit_s: After which it is killed.
    """

    framework: str
    section: str
    row: str
    run: Callable[[Any, Path], Verdict]
    limit_s: float


_PROBES: list[Probe] = []


def probe(
    section: str, row: str, *, framework: str = "both", limit_s: float = _LIMIT_S
) -> Callable[[Callable[[Any, Path], Verdict]], Callable[[Any, Path], Verdict]]:
    """Make a function a row of the tables; rows stand in the order of their definition."""

    def register(run: Callable[[Any, Path], Verdict]) -> Callable[[Any, Path], Verdict]:
        _PROBES.append(Probe(framework, section, row, run, limit_s))
        return run

    return register


def probes(framework: str) -> list[Probe]:
    """The rows of one framework's table, those of a section together."""
    found = [probe for probe in _PROBES if probe.framework in (framework, "both")]
    sections = list(dict.fromkeys(probe.section for probe in found))
    return sorted(found, key=lambda probe: sections.index(probe.section))


def yes(reason: str = "") -> Verdict:
    """The store has it."""
    return Verdict(Answer.YES, reason)


def partly(reason: str) -> Verdict:
    """The store has some of it."""
    return Verdict(Answer.PARTLY, reason)


def no(reason: str) -> Verdict:
    """The store does not have it."""
    return Verdict(Answer.NO, reason)


def counted(right: Collection[str], wrong: Sequence[str], note: str = "") -> Verdict:
    """Say how many of several things are right, and which are not."""
    total = len(right) + len(wrong)
    parts = [f"{len(right)} of {total}"] if total > 1 else []
    if right and wrong:
        parts.append(f"not: {', '.join(wrong)}")
    reason = "; ".join([*parts, note] if note else parts)
    if not wrong:
        return yes(reason)
    return partly(reason) if right else no(reason)
