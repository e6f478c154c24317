"""Answers that look wrong: flips are found, models must agree, and nothing that is trained depends on the list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.training.suspects import find_suspects, noise_rate

GIVEN = np.array([0, 0, 0, 1, 1, 1])
SURE = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
"""Thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.7 + 0.6) / 3 = 0.7; so only row 2 is a suspect."""


def test_a_row_by_hand():
    found, suggested, sure = find_suspects([SURE], GIVEN)
    assert found.tolist() == [2] and suggested[2] == 1 and sure[2] == pytest.approx(0.9)
    assert noise_rate(SURE, GIVEN) == pytest.approx(3 / 6 * 1 / 3)


def test_all_models_must_suspect_a_row_and_suggest_the_same():
    given = np.array([0, 0, 0, 1, 1, 2, 2])
    first = np.full((7, 3), 0.05)
    first[np.arange(7), [0, 0, 1, 1, 1, 2, 2]] = 0.9
    second = first.copy()
    assert find_suspects([first, second], given)[0].tolist() == [2]
    second[2] = [0.05, 0.05, 0.9]
    assert find_suspects([second], given)[0].tolist() == [2]
    assert find_suspects([first, second], given)[0].tolist() == []
    second[2] = [0.9, 0.05, 0.05]
    assert find_suspects([first, second], given)[0].tolist() == []


def test_an_answer_that_is_given_to_no_row_is_never_suggested():
    probabilities = np.column_stack([SURE * 0.1, np.full(6, 0.9)])
    found, suggested, _ = find_suspects([probabilities], GIVEN)
    assert 2 not in suggested[found] and noise_rate(probabilities, GIVEN) <= 0.5


def noisy(rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A model that is right nine times in ten, sure or not; the answers given it, and which of these were flipped."""
    chance = np.random.default_rng(seed)
    right = chance.integers(0, 4, rows)
    flipped = chance.random(rows) < share
    given = np.where(flipped, (right + chance.integers(1, 4, rows)) % 4, right)
    scores = chance.normal(0.0, 1.0, (rows, 4))
    scores[np.arange(rows), right] += 4.0
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return probabilities, given, flipped


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_flips_are_found_and_counted(share):
    probabilities, given, flipped = noisy(4_000, share, 1)
    found, _, sure = find_suspects([probabilities], given)
    assert abs(noise_rate(probabilities, given) - share) < 0.02
    assert flipped[found].sum() >= 0.7 * flipped.sum()
    assert len(found) - flipped[found].sum() < 0.02 * len(given)
    assert (np.diff(sure[found]) <= 0).all() and (sure[found] > 0.5).all()


def test_control_a_model_that_learned_the_rows_by_heart_suspects_nothing():
    _, given, flipped = noisy(4_000, 0.2, 1)
    assert flipped.any() and not len(find_suspects([np.eye(4)[given]], given)[0])
    assert noise_rate(np.eye(4)[given], given) == 0.0


@given(seed=st.integers(0, 1_000), order=st.permutations(range(4)))
@settings(max_examples=30)
def test_the_names_of_the_answers_do_not_matter(seed, order):
    probabilities, given, _ = noisy(200, 0.1, seed)
    place = np.argsort(order)
    assert (find_suspects([probabilities], given)[0] == find_suspects([probabilities[:, order]], place[given])[0]).all()


def test_a_run_names_the_wrong_examples_and_keeps_no_text_of_them(trained, examples, tickets):
    lines = tickets(500, noise=0.1, told=0.8)
    wrong = {f"may:{number}" for number, line in enumerate(lines, 1) if line["answer"] != line["gold"]}
    done = trained(examples(lines=lines))
    noise = done.figures.noise
    named = {suspect.request for suspect in noise.suspects}
    assert noise.families == ("linear",) and noise.rows == done.figures.rows[0]
    assert len(named & wrong) >= 0.6 * len(wrong) and len(named & wrong) >= 0.9 * len(named)
    assert abs(noise.rate - len(wrong) / 500) < 0.03
    first = noise.suspects[0]
    line = lines[int(first.request.removeprefix("may:")) - 1]
    assert (first.text, first.given, first.suggested) == (line["text"], line["answer"], line["gold"])
    kept = done.version.lineage["label_noise"]
    assert kept == {"families": ["linear"], "rows": noise.rows, "rate": noise.rate, "suspects": len(noise.suspects)}
    assert done.to_json()["label_noise"] == kept


def test_with_auto_both_families_must_agree(trained, examples, tiny_base):
    done = trained(examples(300, noise=0.2), family="auto", base=str(tiny_base), precision="int8")
    alone = trained(examples(300, noise=0.2))
    assert done.figures.noise.families == ("linear", "encoder-frozen") and alone.figures.noise.families == ("linear",)
    requests = {suspect.request for suspect in done.figures.noise.suspects}
    assert requests < {suspect.request for suspect in alone.figures.noise.suspects}


def test_without_cross_fitting_there_is_no_opinion(trained, examples):
    done = trained(examples(100), method="none")
    assert done.figures.noise is None and done.to_json()["label_noise"] is None
