"""Groups of near-duplicates against a comparison of every pair with every other."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.training.duplicates import near_duplicate_groups
from insource.training.splits import FOLDS, folds, places

WORDS = st.sampled_from("where is my card the refund was not sent again please".split())
TEXTS = st.lists(st.lists(WORDS, max_size=14).map(" ".join), min_size=1, max_size=25)


def shingles(text):
    words = text.lower().split()
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def resemble(a, b):
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def edited(chance, words):
    """A text of about sixty words, and one in which a word near the end is another."""
    first = [f"w{number}" for number in chance.integers(0, 3000, words)]
    second = list(first)
    second[int(chance.integers(0, words))] = "changed"
    return " ".join(first), " ".join(second)


def test_near_duplicates_are_found_among_many_others():
    """Similarity 0.8 to 1.0: a band of 4 equal hashes out of 16 misses one pair in 5,000 at worst."""
    chance = np.random.default_rng(0)
    pairs = [edited(chance, int(chance.integers(32, 80))) for _ in range(300)]
    texts = [text for pair in pairs for text in pair]
    groups = near_duplicate_groups(texts)
    wanted = [i for i, (a, b) in enumerate(pairs) if resemble(a, b) >= 0.8]
    found = [i for i in wanted if groups[2 * i] == groups[2 * i + 1]]
    assert len(wanted) > 250
    assert len(found) >= 0.995 * len(wanted)
    assert len(np.unique(groups)) == 600 - len([i for i in range(300) if groups[2 * i] == groups[2 * i + 1]])


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_a_group_holds_what_a_chain_of_similar_pairs_joins_and_nothing_else(texts):
    groups = near_duplicate_groups(texts)
    for number, group in enumerate(groups):
        assert group <= number and groups[group] == group
    chained = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        if resemble(texts[a], texts[b]) >= 0.8:
            low, high = sorted((chained[a], chained[b]))
            chained = [low if each == high else each for each in chained]
    for a, b in combinations(range(len(texts)), 2):
        if groups[a] == groups[b]:
            assert chained[a] == chained[b], "two texts share a group that no chain of similar texts joins"
        if shingles(texts[a]) == shingles(texts[b]):
            assert groups[a] == groups[b], "texts with the same word 3-grams were parted"


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(0, 2**40))
def test_no_group_straddles_a_split_or_a_fold(texts, seed):
    groups = near_duplicate_groups(texts)
    for placed in (places(groups, seed), folds(groups, seed)):
        for group in np.unique(groups):
            assert len(np.unique(placed[groups == group])) == 1


def test_control_places_by_row_would_straddle():
    groups = near_duplicate_groups(["where is my card"] * 50)
    assert len(np.unique(folds(groups, 0))) == 1
    assert len(np.unique(folds(np.arange(50), 0))) == FOLDS


def test_given_groups_join_texts_that_have_nothing_in_common():
    groups = near_duplicate_groups(
        ["where is my card", "a refund please now", "else", "where is my card"], ["x", "y", "x", "y"]
    )
    assert len(np.unique(groups)) == 1
    assert near_duplicate_groups(["one", "two"], [None, None]).tolist() == [0, 1]


def test_blanks_case_and_short_texts():
    assert near_duplicate_groups([]).tolist() == []
    assert near_duplicate_groups(["", " ", "Hi", "hi", "bye"]).tolist() == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("text", ["\ud800 lone", "\x00\x01", "x" * 20_000])
def test_odd_texts_have_a_group_too(text):
    assert near_duplicate_groups([text, "else", text]).tolist() == [0, 1, 0]
