"""The printed guide: what a stranger runs, what each line means, where the answers stand, how to count by hand.

It knows the answers; every command in it, indented by four spaces, is run by a test in the folder that it lies in.
"""

from __future__ import annotations

from typing import Any

_GUIDE = """\
HOW TO CHECK WHAT LIES IN THIS FOLDER

You need Python 3.9 or newer, and nothing else: no network, nothing to install, nothing of insource. verify_ledger.py is
plain text; read it, or write your own checker after the forms described in insource's docs/reference/proofs.md.

WHAT IS HERE

  {file:<17} {what}
  answers.json      the answers to six questions; each names the rows that it rests on, or who only tells it
  answers.txt       the same, for reading
  public-key.txt    the key that signed; compare it with the one that you were given by another way, such as on paper
  checkpoint.txt    the signed size and root of the whole ledger; keep it: it shows later if anything was replaced
  verify_ledger.py  the verifier

1. CHECK

In this folder (where Python is called python3, write that):

    python verify_ledger.py {file} --answers answers.json

The last word counts: exit code 0 and no line that begins with WRONG. To trust your own copy of the key instead of the
one in this folder, add --key and the line that you were given (NAME+ID+KEY); to compare with a checkpoint that you kept
from an earlier time, add --checkpoint FILE.

{lines}
  "Established: ... statements of answers.json follow from these rows, and answers.txt says the same": the verifier
      computed them anew from the rows, words included. A number, a name or a word that was altered is told as WRONG.
      Where "of task ... alone" stands there, nothing is said of other requests.
  "Not established: ... statements that registry, configuration, ... tell": these are marked "(told by the ...)" in
      answers.txt. They are no part of the ledger: believe them as you believe whoever gave you this folder. One thing
      is checked: a version that they describe has the digest that the rows name.
  "Not established: whose key this is": gone once you pass --key.
  "WRONG: ...": something does not hold; what, and at which row, stands there. Nothing else in this folder is worth
      anything until that is explained.

2. WHERE THE ANSWERS ARE (answers.txt, by its numbers)

  Which model answered?    1 (who answered, how often, at which threshold) and 2 (its artifact, what it learned from)
  Who approved it?         3 (the act that put each version to serve: who, when, why; a steward is no person)
  What left the house?     4 (to which upstream or tier, how many, rated how, with which key; failed attempts count)
  What was changed?        5 (every act in these rows, in their order: who, when, why)
  Is it complete?          6, and the first line of the verifier

A statement ends with the rows that it rests on, [rows 5, 6, 9 ... 70; 23 in all]: at most twelve numbers, the last
one, and how many there are. An artifact's digest is the SHA-256 that the house keeps its folder under; a snapshot's
names the rows that a version learned from. Ask for them if you want to see either.

{by_hand}WHAT THIS DOES NOT SAY

{not_established}
"""
_EXPORT_LINES = """\
  "Established: rows A to B (N) are whole, in their order and unchanged": no row in between was altered, left out, added
      or moved since the checkpoint was signed; "earlier checkpoints are prefixes": nor at those earlier times.
  "N texts are those recorded": texts lie here only where they were asked for (--texts).
  "Not established: what the rows before and after say": the export is a part; ask for more rows to see more.
"""
_PROOF_LINES = """\
  "row N (KIND): ...": a row about the request, as it was recorded.
  "Established: these N rows are among the ... rows of the signed checkpoint, unchanged".
  "Not established: that these are all rows about the request": a proof shows that rows are there, not that others are
      not; an export of a span of time does.
"""
_BY_HAND = """\
3. COUNT BY HAND

{file} is one row a line. Without the verifier, with Python alone:

How many requests were accepted (the sum of the statements "... answered ... here" or "... as the tier ..." in 1)?

    {accepted}
    prints {accepted_is}

How many were kept, not answered and sent to nobody but tiers?

    {kept}
    prints {kept_is}

Which rows are promotions (in 5)?

    {promoted}
    prints {promoted_is}

"""
_LINE = 'python -c "import json; rows = map(json.loads, open({file!r}, encoding={utf!r})); print({what})"'


def guide(answers: dict[str, Any], file: str) -> str:
    """Return the guide to answers and the file that they rest on, an export or (for a request) a proof."""
    proof = answers["request"] is not None
    return _GUIDE.format(
        file=file,
        what="the rows about one request, each with its proof" if proof else
        f"rows {answers['first']:,} to {answers['last']:,} of the ledger, with what proves them",
        lines=_PROOF_LINES if proof else _EXPORT_LINES,
        by_hand="" if proof else _by_hand(answers, file),
        not_established="\n".join(f"  - {text}" for text in answers["not_established"]),
    )  # fmt: skip


def _by_hand(answers: dict[str, Any], file: str) -> str:
    task = answers["task"]
    own = "" if task is None else f" and r['row'].get('task') == {task!r}"

    def line(what: str) -> str:
        return _LINE.format(file=file, utf="utf-8", what=what)

    def count(outcome: str) -> str:
        return line(f"sum(r['row']['outcome'] == {outcome!r} for r in rows if r.get('kind') == 'decisions'{own})")

    def total(kind: str) -> int:
        return sum(each["facts"]["requests"] for each in answers["statements"] if each["kind"] == kind)

    about = "" if task is None else f" and r['row']['subject'].startswith(({task + '@'!r}, {task + '/'!r}))"
    acts = [each["facts"] for each in answers["statements"] if each["kind"] == "act"]
    return _BY_HAND.format(
        file=file,
        accepted=count("accepted"),
        accepted_is=total("accepted"),
        kept=count("kept"),
        kept_is=total("kept"),
        promoted=line("[r['row']['seq'] for r in rows if r.get('kind') == 'acts' and r['row']['what'] == 'promote'"
                      f"{about}]"),
        promoted_is=[act["row"] for act in acts if act["what"] == "promote"],
    )  # fmt: skip
