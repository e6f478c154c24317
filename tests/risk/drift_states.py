"""Small makings of the tests about drift."""

import json

from insource.risk.drift_scores import Cuts, ScoreDrift


def stored(state):
    """Return a state as it comes back from where it was stored."""
    return json.loads(json.dumps(state))


def drift_of(values, length=1e5) -> ScoreDrift:
    return ScoreDrift(Cuts.of(values), average_run_length=length)
