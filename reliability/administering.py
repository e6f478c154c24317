"""A person's acts beside a gateway, in a process of their own: `python -m reliability.administering HOME SEED`.

For each line of standard input, a request's id, one act: a key made or revoked, a version registered and promoted, an
answer posted for that request. What a call has confirmed is printed as a line of JSON, and nothing else is.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from insource.store.columns import Feedback, Source
from insource.store.registry import Registry
from insource.types import Key

TASK = "triage"


def main(home: Path, seed: int) -> None:
    """Act until there are no more lines."""
    chance, made, number = Random(seed), list[str](), 0
    for line in sys.stdin:
        number += 1
        with Registry.open(home) as registry:
            act = chance.choices(("make", "revoke", "promote", "answer"), (3, 2, 1, 3))[0]
            if act == "make" or (act == "revoke" and not made):
                key = Key("", f"job {seed} {number}", datetime.now(UTC), "job")
                made.append(registry.create_key(key, "a promise")[0].id)
                told = ("key made", made[-1])
            elif act == "revoke":
                told = ("key revoked", registry.revoke_key(made.pop(), "job", "a promise", datetime.now(UTC))[0].id)
            elif act == "promote":
                active = registry.get(TASK)
                version = registry.register(
                    TASK, active.family, active.digest, active.calibration, active.lineage, datetime.now(UTC)
                )
                registry.promote(TASK, version.version, "job", "a promise", datetime.now(UTC))
                told = ("version", str(version.version))
            else:
                who = f"job {seed} {number}"
                registry.post_feedback(Feedback(line.strip(), datetime.now(UTC), TASK, "card", who, Source.LABEL))
                told = (f"answer by {who}", line.strip())
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
