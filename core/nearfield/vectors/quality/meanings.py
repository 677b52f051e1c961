"""What each measure says, in words: the table of the report, the page and the documentation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEANINGS", "Meaning"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """One measure, explained.

    Attributes:
        title: Its name for a reader.
        what: What it says.
        scale: Its range, and what is usual.
        advice: What to do about a bad value.
    """

    title: str
    what: str
    scale: str
    advice: str


MEANINGS: dict[str, Meaning] = {
    "duplicates.exact_share": Meaning(
        "Exact duplicates",
        "The share of rows that repeat an earlier one, component by component.",
        "0 to 1; 0 is best.",
        "Give the same text the same id, so that writing it again replaces it; delete the copies.",
    ),
    "duplicates.near_share": Meaning(
        "Near-duplicates",
        "The share of rows that have a nearly, but not exactly, equal one.",
        "0 to 1; below .02 is usual for edited text.",
        "Look at the groups: boilerplate, versions and overlapping chunks fill the hits with one "
        "answer. Clean the source, overlap chunks less, or search with diversity=.",
    ),
    "intrinsic_dimension.two_nn": Meaning(
        "Intrinsic dimension, TwoNN",
        "In how many directions rows vary near each other, from their two nearest neighbours.",
        "0 to the dimension; 5 to 20 for text. Above 10 or so it is too low.",
        "Below 5, texts may be variations of a few. A high one makes nearest "
        "neighbours hard to tell apart and indexes slower: try another model.",
    ),
    "intrinsic_dimension.correlation": Meaning(
        "Intrinsic dimension, correlation",
        "How fast the number of near pairs grows with the distance.",
        "0 to the dimension; about as TwoNN, lower where rows lie in tight groups.",
        "Far below TwoNN, the rows lie in tight groups: look at clusters and duplicates.",
    ),
    "dimension_efficiency.efficiency": Meaning(
        "Dimension efficiency",
        "The share of the dimension that is used: the effective rank over it.",
        "0 to 1; .2 to .6 is usual for text.",
        "A low one means that a shorter embedding would do: keep as many principal components as "
        "hold 99 % of the variance, or use a smaller model, and measure the retrieval again.",
    ),
    "isotropy.mean_cosine": Meaning(
        "Mean cosine of random pairs",
        "Whether rows point in all directions or into a cone.",
        "−1 to 1; 0 to .3 is usual, near 0 is best.",
        "Above .5 all scores are high and near each other: a min_score means little. Subtract the "
        "mean row from documents and queries, or use a model trained by contrast.",
    ),
    "isotropy.iso_score": Meaning(
        "IsoScore",
        "How evenly the variance is spread over the directions.",
        "0 to 1; .1 to .5 is usual for text.",
        "Near 0, a few directions decide every comparison: often length, language or format. Look "
        "at the map by such a field, and clean the text.",
    ),
    "hubness.skewness": Meaning(
        "Hubness",
        "How unevenly rows occur among the nearest neighbours of others: the skewness of their "
        "counts.",
        "0 is even, .3 is chance, 1 to 2 is usual, above 2.5 is strong. Grows with the rows.",
        "Hubs show up for unrelated queries. Read the largest: very short or generic texts are "
        "better deleted or merged; subtracting the mean row helps too.",
    ),
    "hubness.anti_hubs": Meaning(
        "Anti-hubs",
        "The share of rows that are among the k nearest of no other row.",
        "0 to 1; below .05 is usual for text.",
        "Such texts are hardly ever found by their meaning: search with mode='hybrid', and chunk "
        "long texts smaller.",
    ),
    "coherence.score": Meaning(
        "Coherence",
        "How much more alike neighbours are than random rows, of the most they could be.",
        "0 to 1; .3 to .7 is usual for text. Near-duplicates raise it.",
        "Below .15, neighbours are hardly related: the model does not know the domain or the "
        "language, or chunks mix topics.",
    ),
    "label_coherence.adjusted": Meaning(
        "Agreement in the label",
        "How often neighbours have the same label, beyond chance.",
        "0 is chance, 1 is always; about what a neighbour classifier would reach.",
        "If the label should follow from the text, look at the weakest labels: they overlap, or "
        "the model does not tell them apart.",
    ),
    "distances.relative_contrast": Meaning(
        "Relative contrast",
        "The mean distance to a random row over that to the nearest.",
        "At least 1; 1.5 to 2.5 is usual for text.",
        "Near 1, the nearest row is hardly nearer than any other: the same remedies as for "
        "coherence.",
    ),
    "distances.density_ratio": Meaning(
        "Density ratio",
        "How much farther the neighbours of lonely rows are than those of crowded ones.",
        "At least 1; 1.2 to 2 is usual for text.",
        "A large one makes one min_score wrong for some topics: rank, rather than cut off by "
        "score.",
    ),
    "outliers.share": Meaning(
        "Outliers",
        "The share of rows that are unusually far from all others.",
        "0 to 1; below .01 is usual.",
        "Read them: broken extraction, another language, empty pages. Delete or repair these.",
    ),
    "clusters.silhouette": Meaning(
        "Silhouette of the clusters",
        "How clearly the rows fall into groups.",
        "−1 to 1; above .5 clear, 0 to .15 is usual for text.",
        "A low one is no fault: there are no sharp groups to route queries by. Clear groups that "
        "no metadata field names are worth a field.",
    ),
    "drift.auc": Meaning(
        "Drift: classifier AUC",
        "How well the other set can be told from this one.",
        ".5 not at all, 1 always.",
        "Questions differ from documents in form, so a high one alone is usual there. Between two "
        "times or versions: look at what changed, and measure the retrieval again.",
    ),
    "drift.energy": Meaning(
        "Drift: energy distance",
        "How far apart the two distributions are, as a share of twice the mean distance between "
        "their rows.",
        "0 to 1; its p-value says whether more than chance.",
        "As for the AUC.",
    ),
    "drift.far_share": Meaning(
        "Drift: far rows",
        "The share of the other set's rows that are farther from everything here than 99 % of the "
        "rows here are from their nearest.",
        "0 to 1; .01 without drift, up to .1 and more for questions that are answered.",
        "Far documents bring something new. Questions are often far only because they are short: "
        "go by the share of unrelated rows.",
    ),
    "drift.unrelated_share": Meaning(
        "Drift: unrelated rows",
        "The share of the other set's rows that are no nearer to anything here than the nearest "
        "tenth of random pairs are to each other.",
        "0 to 1; below .03 where questions are answered.",
        "Read the farthest: questions that no document answers. Add documents, or answer that "
        "nothing was found.",
    ),
}
"""By the measure's place in the report, in the order they are shown."""
