"""The tables of docs/comparison.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.features import trial
from benchmarks.features.sources import SOURCES
from benchmarks.features.verdict import Answer, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.features.record import Record

__all__ = ["markdown", "write"]

_BEGIN = "<!-- begin: written by python -m benchmarks.features -->"
_END = "<!-- end -->"
_MARKS = {Answer.YES: "✓", Answer.PARTLY: "◐", Answer.NO: "✗"}
_FRAMEWORK_TITLES = {"langchain": "LangChain", "llama_index": "LlamaIndex"}


def markdown(record: Record) -> str:
    """Both tables, with versions and counts."""
    parts = [_table(record, framework) for framework in trial.FRAMEWORKS]
    beside = ", ".join(f"{name} {version}" for name, version in record.beside.items())
    return "\n\n".join([*parts, f"Beside them: {beside}."] if beside else parts)


def write(document: Path, tables: str) -> None:
    """Replace the generated part of a document."""
    text = document.read_text(encoding="utf-8") if document.exists() else f"{_BEGIN}\n{_END}\n"
    head, _, rest = text.partition(_BEGIN)
    tail = rest.partition(_END)[2]
    document.write_text(f"{head}{_BEGIN}\n\n{tables}\n\n{_END}{tail}", encoding="utf-8")


def _table(record: Record, framework: str) -> str:
    stores = record.stores(framework)
    title = _FRAMEWORK_TITLES[framework]
    if not stores:
        return f"## {title}\n\nNo store was tried."
    names = [door.name for door in trial.doors(framework) if door.name in stores]
    lines = [f"## {title}", "", *_versions(record, framework, names), ""]
    lines.append("| | " + " | ".join(f"**{stores[name]['title']}**" for name in names) + " |")
    lines.append("|---|" + "---|" * len(names))
    section = ""
    for probe in trial.rows(framework):
        verdicts = [record.verdict(framework, name, probe.row) for name in names]
        if all(verdict is None for verdict in verdicts):
            continue
        if probe.section != section:
            section = probe.section
            lines.append(f"| **{section}** |" + " |" * len(names))
        lines.append(_line(probe.row, verdicts))
    lines.append("| **Read from the sources, not tried** |" + " |" * len(names))
    for row, cells in SOURCES[framework].items():
        lines.append(_line(row, [cells.get(name) for name in names]))
    lines += ["", *_evidence(framework, names)]
    return "\n".join(lines)


def _line(row: str, verdicts: list[Verdict | None]) -> str:
    return f"| {row} | " + " | ".join(_cell(verdict) for verdict in verdicts) + " |"


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    reason = _plain(verdict.reason)
    if verdict.source:
        return f"*{verdict.answer} (read){': ' + reason if reason else ''}*"
    return f"{_MARKS[verdict.answer]} {reason}".rstrip()


def _plain(text: str) -> str:
    """Text that neither ends a cell nor reads as markup."""
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    for character in "|*_`":
        text = text.replace(character, f"\\{character}")
    return text


def _versions(record: Record, framework: str, names: list[str]) -> list[str]:
    rows = [probe.row for probe in trial.rows(framework)]
    lines = ["| store | versions | tried on | ✓ | ◐ | ✗ |", "|---|---|---|---|---|---|"]
    for name in names:
        store = record.stores(framework)[name]
        versions = ", ".join(f"{package} {v}" for package, v in store["versions"].items())
        verdicts = [record.verdict(framework, name, row) for row in rows]
        counts = [sum(v is not None and v.answer is answer for v in verdicts) for answer in Answer]
        lines.append(
            f"| {store['title']} | {versions} | {store['at']} | "
            + " | ".join(str(count) for count in counts)
            + " |"
        )
    return lines


def _evidence(framework: str, names: list[str]) -> list[str]:
    lines = ["What was read, by row:", ""]
    for row, cells in SOURCES[framework].items():
        read = dict.fromkeys(cells[name].source for name in names if name in cells)
        lines.append(f"- {row}: {'; '.join(read)}.")
    return lines
