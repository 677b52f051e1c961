"""Snippets show the part that fits, and nothing that could steer a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from nearfield.cli.snippets import printable, snippet, words

LOREM = "lorem ipsum dolor sit amet " * 60


def test_a_short_text_is_its_own_snippet_on_one_line():
    assert snippet("one\n  two\tthree", "two") == "one two three"


def test_a_long_text_without_the_querys_words_is_cut_at_a_word_from_the_beginning():
    found = snippet(LOREM, "zebra", size=50)
    assert found.startswith("lorem ipsum")
    assert found.endswith(" …")
    assert len(found) <= 52
    assert set(found.removesuffix(" …").split()) <= set(LOREM.split())


def test_the_snippet_is_taken_where_most_of_the_querys_words_are():
    text = f"{LOREM} a zebra alone {LOREM} parsing a date of a zebra {LOREM}"
    assert "parsing a date of a zebra" in snippet(text, "how do I parse a zebra's date?", size=100)


def test_words_that_are_everywhere_do_not_draw_the_snippet():
    text = f"the how do I the {LOREM} strptime parses {LOREM}"
    assert "strptime" in snippet(text, "how do I the strptime", size=60)


def test_a_query_keeps_its_words_once_and_in_lower_case():
    assert words("How do I Parse a date, a DATE?") == ["parse", "date"]


def test_escape_sequences_never_reach_the_terminal():
    assert "\x1b" not in printable("\x1b[31mred\x1b]0;title\x07")
    assert printable("kept\n\tas it is, é, 日本") == "kept\n\tas it is, é, 日本"


@given(st.text(), st.text(), st.integers(min_value=1, max_value=300))
def test_a_snippet_is_one_printable_line_no_longer_than_asked(text, query, size):
    found = snippet(text, query, size=size)
    assert len(found) <= size + len("… ") + len(" …")
    assert found == printable(found)
    assert "\n" not in found


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), min_size=30, max_size=300))
def test_a_snippet_is_a_stretch_of_the_text(tokens):
    text = " ".join(tokens)
    found = snippet(text, "gamma delta", size=60).removeprefix("… ").removesuffix(" …")
    assert found
    assert found in text
