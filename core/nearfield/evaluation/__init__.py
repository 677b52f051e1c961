"""Retrieval quality: judged queries, the measures of trec_eval, and comparisons that hold up."""

from __future__ import annotations

from nearfield.evaluation.comparison import Comparison, compare
from nearfield.evaluation.evaluation import aevaluate, evaluate
from nearfield.evaluation.judgements import read_judgements, read_queries
from nearfield.evaluation.measures import measure
from nearfield.evaluation.report import Estimate, EvaluationReport, ModeResult

__all__ = [
    "Comparison",
    "Estimate",
    "EvaluationReport",
    "ModeResult",
    "aevaluate",
    "compare",
    "evaluate",
    "measure",
    "read_judgements",
    "read_queries",
]
