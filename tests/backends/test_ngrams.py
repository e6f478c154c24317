"""The n-grams that training and serving share."""

from hypothesis import given
from hypothesis import strategies as st

from insource.backends.ngrams import CHARACTER_ORDERS, VERSION, ngrams


def test_by_hand():
    """A change here changes every stored model: raise VERSION with it."""
    words, characters = ngrams("Hi,  YOU")
    assert words == ["hi", ",", "you", "hi ,", ", you"]
    assert characters[:8] == [" h", "hi", "i,", ", ", " y", "yo", "ou", "u "]
    assert " hi, " in characters and "hi, y" in characters and len(characters) == 8 + 7 + 6 + 5
    assert VERSION == 1


def test_nothing_has_one_bigram_of_blanks():
    assert ngrams("") == ngrams(" \n\t ") == ([], ["  "])


@given(st.text(max_size=60))
def test_blanks_and_case_make_no_difference_and_no_n_gram_breaks_a_line(text):
    words, characters = ngrams(text)
    assert ngrams("\n " + "\t\n".join(text.split(" ")) + "  ") == (words, characters)
    assert not any("\n" in name or not name for name in [*words, *characters])
    assert {len(name) for name in characters} <= set(CHARACTER_ORDERS)
    line = f" {' '.join(text.lower().split())} "
    assert len(characters) == sum(max(len(line) - order + 1, 0) for order in CHARACTER_ORDERS)
