"""Which requests of a budget go up: what neighbours say is learned out of fold, from what was known and no more."""

import numpy as np
import pytest
import scipy.sparse

from insource.lifecycle.neighbours import NEAREST, WIDTH, Agreement, by_embedding, by_words, views_of, votes
from insource.training.develop import RowSet
from insource.training.families import Material
from insource.training.trunks import TrunkRoom
from tests.lifecycle.test_backtest import silent

EVIDENCE, ALSO, ASKED = 300, 100, 200


def refused() -> TrunkRoom:
    raise AssertionError("no encoder was asked for")


def clustered(seed=0):
    """Return embeddings whose neighbours share a class, the classes, and a version's coin-like probabilities."""
    random = np.random.default_rng(seed)
    classes = random.integers(2, size=EVIDENCE + ALSO + ASKED)
    points = random.normal(scale=0.2, size=(len(classes), 5)).astype(np.float32)
    points[np.arange(len(classes)), classes] += 1.0
    said = random.integers(2, size=len(classes))
    top = random.uniform(0.55, 0.95, size=len(classes))
    probabilities = np.column_stack([np.where(said == 0, top, 1 - top), np.where(said == 1, top, 1 - top)])
    return points, classes, probabilities


def learned(classes, folds=None):
    folds = np.arange(EVIDENCE) % 5 if folds is None else folds
    return RowSet(np.arange(EVIDENCE), folds, np.arange(EVIDENCE, EVIDENCE + ALSO), classes, ("no", "yes"))


def test_votes_are_the_log_odds_of_weighed_references():
    likeness = np.array([[0.9, 0.9 - WIDTH, 0.9 - 2 * WIDTH]])
    weights = np.exp([0.0, -1.0, -2.0])
    found = votes(likeness, np.array([1, 0, 1]), np.array([1]))
    assert found == pytest.approx(np.log(weights[0] + weights[2] + 0.5) - np.log(weights[1] + 0.5))
    assert votes(likeness, np.array([1, 0, 1]), np.array([2])) == pytest.approx(np.log(0.5 / (weights.sum() + 0.5)))


def test_hidden_references_have_no_vote_and_none_says_nothing():
    likeness = np.array([[0.9, -np.inf], [-np.inf, -np.inf]])
    found = votes(likeness, np.array([1, 0]), np.array([1, 1]))
    assert found == pytest.approx([np.log(1.5 / 0.5), 0.0])


def test_only_the_nearest_vote():
    likeness = np.concatenate([np.full(NEAREST, 0.5), np.full(900, 0.49)])[None, :]
    references = np.concatenate([np.ones(NEAREST, np.intp), np.zeros(900, np.intp)])
    assert votes(likeness, references, np.array([1])) == pytest.approx(np.log((NEAREST + 0.5) / 0.5))


def test_neighbours_tell_right_from_wrong_where_the_version_cannot():
    points, classes, probabilities = clustered()
    asked = np.arange(EVIDENCE + ALSO, len(classes))
    agrees = probabilities[asked].argmax(axis=1) == classes[asked]
    agreement = Agreement(lambda: [by_embedding(points)]).fit(learned(classes), probabilities[:EVIDENCE])
    sure = agreement(asked, probabilities[asked])
    assert sure[agrees].min() > sure[~agrees].max()
    blind = Agreement(lambda: [by_embedding(np.ones_like(points))]).fit(learned(classes), probabilities[:EVIDENCE])
    found = blind(asked, probabilities[asked])
    assert found[agrees].min() < found[~agrees].max()
    assert np.isfinite(found).all()


def test_a_references_own_fold_has_no_vote_on_it():
    """Every text occurs twice in one fold, with a reference that means nothing: its twin may not give it away."""
    random = np.random.default_rng(1)
    points = np.repeat(random.normal(size=(EVIDENCE // 2, 50)), 2, axis=0).astype(np.float32)
    classes = np.repeat(random.integers(2, size=EVIDENCE // 2), 2)
    top = np.tile(random.uniform(0.5, 1.0, size=EVIDENCE), (2, 1)).T
    probabilities = np.where(random.integers(2, size=(EVIDENCE, 1)) == [0, 1], top, 1 - top)
    everything = np.arange(EVIDENCE)

    def spread(folds):
        rows = RowSet(everything, folds, everything[:0], classes, ("no", "yes"))
        sure = Agreement(lambda: [by_embedding(points)]).fit(rows, probabilities)(everything, probabilities)
        agrees = probabilities.argmax(axis=1) == classes
        return sure[agrees].mean() - sure[~agrees].mean()

    assert abs(spread(np.repeat(np.arange(EVIDENCE // 2) % 5, 2))) < 1.0
    assert spread(everything % 2) > 4.0, "the guard broken on purpose: twins in different folds are believed"


def test_references_that_only_teach_vote_and_are_not_learned_from():
    points, classes, probabilities = clustered()
    rows, asked = learned(classes), np.arange(EVIDENCE + ALSO, len(classes))
    found = Agreement(lambda: [by_embedding(points)]).fit(rows, probabilities[:EVIDENCE])(asked, probabilities[asked])
    turned = classes.copy()
    turned[rows.also] = 1 - turned[rows.also]
    other = Agreement(lambda: [by_embedding(points)]).fit(learned(turned), probabilities[:EVIDENCE])
    assert not np.allclose(other(asked, probabilities[asked]), found)
    unseen = classes.copy()
    unseen[asked] = 1 - unseen[asked]
    same = Agreement(lambda: [by_embedding(points)]).fit(learned(unseen), probabilities[:EVIDENCE])
    assert np.array_equal(same(asked, probabilities[asked]), found)


def test_each_row_is_judged_by_itself():
    points, classes, probabilities = clustered()
    asked = np.arange(EVIDENCE + ALSO, len(classes))
    agreement = Agreement(lambda: [by_embedding(points)]).fit(learned(classes), probabilities[:EVIDENCE])
    together = agreement(asked, probabilities[asked])
    alone = [agreement(asked[[at]], probabilities[asked[[at]]])[0] for at in range(20)]
    assert together[:20] == pytest.approx(alone, rel=1e-5)


def test_with_few_mistakes_the_top_probability_stands():
    points, classes, probabilities = clustered()
    classes[:EVIDENCE] = probabilities[:EVIDENCE].argmax(axis=1)
    asked = np.arange(EVIDENCE + ALSO, len(classes))
    found = Agreement(lambda: [by_embedding(points)]).fit(learned(classes), probabilities[:EVIDENCE])
    logit = -np.log(1.0 / probabilities[asked].max(axis=1) - 1.0)
    assert found(asked, probabilities[asked]) == pytest.approx(logit)


def test_words_are_weighed_by_what_is_known_alone():
    counts = scipy.sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [0, 2, 0], [0, 0, 0], [5, 5, 5]], np.float32))
    kept = counts.copy()
    found = by_words(counts)(np.array([0, 3]), np.array([1, 2]))
    assert found == pytest.approx(np.array([[2**-0.5, 2**-0.5], [0.0, 0.0]]))
    assert (counts != kept).nnz == 0
    alike = by_words(counts)(np.array([0]), np.array([0, 1, 1, 1]))[0]
    assert alike[0] == pytest.approx(1.0) and alike[1] < 2**-0.5, "a word in most known texts tells less"


def test_without_an_encoder_only_words_are_compared():
    material = Material(["where is my card", "my card is lost", "refund me"], refused, silent, "none")
    (words,) = views_of(material)
    found = words(np.arange(3), np.arange(3))
    assert found.diagonal() == pytest.approx(1.0) and found[0, 1] > found[0, 2]
