"""A static specialist of random numbers that knows about half of the words, pairs and parts of some texts."""

import random
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from insource.answers import learn_answers
from insource.backends.specialist import write_specialist
from insource.backends.static import StaticEngine, Table, pair_parts, units, word_parts
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore

ANSWERS = ("card", "refund", "transfer", "other")


def random_static(artifacts: ArtifactStore, texts: Sequence[str], calibrator: str) -> str:
    """Commit one with a scorer of this kind and return its digest."""
    generator = np.random.default_rng(7)
    found = [units(text.encode("utf-8", "replace").decode()) for text in texts]
    words = [word for each, _ in found for word in each]
    pairs = [pair for _, each in found for pair in each]
    parts = [*chain(*map(word_parts, words)), *chain(*map(pair_parts, pairs))]
    tables = [table(names, generator) for names in (words, pairs, parts)]
    engine = StaticEngine(*tables, (3.0, 4.0), generator.normal(0, 0.2, len(ANSWERS)).astype(np.float32))
    shares = generator.dirichlet(np.full(len(ANSWERS), 0.4), size=300)
    scorer = Scorer.fit(shares, generator.uniform(size=300) < shares.max(axis=1), calibrator=calibrator)
    with artifacts.draft() as folder:
        engine.save(folder)
        manifest = write_specialist(
            folder, task="t", family="static", model={}, scorer=scorer, answers=learn_answers(ANSWERS * 9),
            inputs=InputSettings(max_characters=200), trunk=None,
        )  # fmt: skip
        return artifacts.commit(folder, manifest)


def table(names: Iterable[str], generator: np.random.Generator) -> Table:
    different = sorted(set(names))
    kept = sorted(random.Random(1).sample(different, len(different) // 2))
    vectors = generator.normal(0, 2.0, (len(kept), len(ANSWERS))).astype(np.float32)
    return Table.rounded(kept, vectors, generator.uniform(0.5, 6.0, len(kept)))
