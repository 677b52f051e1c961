"""Whether the recall that tune predicts is the recall of queries it never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.scale.report import Bar, Result, Table
from benchmarks.scale.unfiltered import DEFAULT_TARGET

if TYPE_CHECKING:
    from benchmarks.scale.catalog import Catalog

_TARGETS: dict[int | None, tuple[float, ...]] = {
    25_000: (0.9, 0.95, 0.97, 0.99),
    50_000: (0.9, 0.95, 0.97, 0.99),
    None: (0.95, 0.99),
}
"""By size; a whole set takes a minute to tune, and 'search' does so too."""
_OFF = 0.02
_SHARE = 0.95


def run(catalog: Catalog) -> Result:
    """Tune collections of several sizes for several targets; compare with held-out queries."""
    result = Result()
    rows, close, kept = [], [], []
    for name in catalog.names:
        for size, targets in _TARGETS.items():
            loaded = catalog.loaded(name, size)
            shelf = loaded.shelf
            for target in targets:
                report = loaded.collection.tune(target_recall=target)
                held_out = float(shelf.truth.recalls(loaded.find(shelf.queries)).mean())
                predicted = report.recall
                close.append(abs(predicted.mean - held_out) <= _OFF)
                kept.append(held_out >= target or not report.met)
                chosen = "; ".join(point.plan for point in report.front if point.chosen)
                rows.append(
                    [
                        shelf.title,
                        f"{target:g}",
                        f"{predicted.mean:.4f} ({predicted.low:.4f} to {predicted.high:.4f})",
                        f"{held_out:.4f}",
                        f"{held_out - predicted.mean:+.4f}",
                        chosen,
                        "yes" if report.met else "; ".join(report.shortfalls),
                        "" if close[-1] and kept[-1] else "**MISSED**",
                    ]
                )
                result.raw[f"{shelf.title} {target}"] = {
                    "predicted": predicted.mean,
                    "low": predicted.low,
                    "high": predicted.high,
                    "p5": predicted.p5,
                    "held_out": held_out,
                    "met": report.met,
                    "cost_us": report.cost_us,
                    "memory_bytes": report.memory_bytes,
                    "chosen": chosen,
                }
            loaded.collection.tune(target_recall=DEFAULT_TARGET)
    columns = ["", "target", "predicted", "held out", "off by", "plan", "met, by tune", ""]
    result.tables.append(Table("Predicted and held-out recall@10", columns, rows))
    result.bars += [
        Bar(
            f"predicted recall within {_OFF:g} of held-out recall",
            f"{sum(close)} of {len(close)} tunings",
            f"≥ {_SHARE:.0%}",
            sum(close) >= _SHARE * len(close),
        ),
        Bar(
            "held-out recall at the target, or tune says that it is not met",
            f"{sum(kept)} of {len(kept)} tunings",
            "all",
            all(kept),
        ),
    ]
    return result
