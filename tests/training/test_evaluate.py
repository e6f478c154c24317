"""The figures of an evaluation against counts made by hand."""

import numpy as np
import pytest

from insource.risk.bounds import binomial_upper_bound
from insource.training.evaluate import Evaluation, evaluate


def measured(labels, references, scores, threshold=0.5, answers=("a", "b", "c")):
    return Evaluation(
        answers, np.array(labels), np.array(references), np.array(scores), threshold, 0.95, (1.0, 2.0), 9.0
    )


def test_counts_by_hand():
    found = measured(["a", "a", "b", "b", "a"], ["a", "b", "b", "", "c"], [0.9, 0.8, 0.5, 0.4, 0.1])
    figures = found.figures()
    assert figures["rows"] == 5 and figures["accuracy"] == pytest.approx(2 / 5)
    assert figures["coverage"] == pytest.approx(3 / 5) and figures["selective_risk"] == pytest.approx(1 / 3)
    a, b, c = figures["per_answer"]
    assert (a["rows"], a["given"], a["precision"], a["recall"]) == (1, 3, pytest.approx(1 / 3), 1.0)
    assert (b["rows"], b["given"], b["accepted"], b["missed"]) == (2, 2, 2, 1)
    assert b["missed_upper_bound"] == binomial_upper_bound(1, 2, 0.95)
    assert (c["rows"], c["given"], c["f1"], c["accepted"]) == (1, 0, 0.0, 0)
    assert figures["macro_f1"] == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert found.confused() == [("b", "a", 1), ("", "b", 1), ("c", "a", 1)]


def test_an_answer_that_neither_occurs_nor_is_given_does_not_count():
    assert measured(["a", "b"], ["a", "b"], [0.9, 0.9]).macro_f1 == 1.0


def test_without_a_threshold_nothing_is_accepted():
    figures = measured(["a", "b"], ["a", "a"], [0.9, 0.9], threshold=None).figures()
    assert (figures["coverage"], figures["selective_risk"], figures["threshold"]) == (0.0, None, None)
    assert [row["accepted"] for row in figures["per_answer"]] == [0, 0, 0]


def test_it_asks_the_specialist_that_serves(trained, examples, home, say):
    from insource.backends.specialist import open_specialist
    from insource.store.artifacts import ArtifactStore

    done = trained(examples(200))
    artifact = ArtifactStore(home).open(done.version.digest)
    specialist = open_specialist(artifact.folder, artifact.manifest, name="x", digest=None, trunk=None)
    texts = ["my card was stolen", "refund my money", "?"]
    found = evaluate(specialist, texts, ["card", "refund", None], threshold=0.0, confidence_level=0.9)
    assert [(label, score) for label, score in zip(found.labels, found.scores, strict=True)] == [
        specialist.answer_text(text) for text in texts
    ]
    assert found.wrong.tolist() == [False, False, True]
    assert found.latency_ms[0] <= found.latency_ms[1] and found.texts_per_second > 0
