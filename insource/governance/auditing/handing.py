"""What is handed over: a folder with rows, answers, key, checkpoint, verifier and guide, for a stranger to check.

It fills a draft; that the folder appears as a whole is its caller's business.
"""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from insource.errors import StoreError
from insource.governance.auditing.answers import Sources, answers_of_request, answers_of_span
from insource.governance.auditing.guide import guide
from insource.governance.verifier.verify_ledger import main, page
from insource.store.proof.proving import Report, Span
from insource.store.sync import write_synced

EXPORT, PROOF = "export.jsonl", "proof.json"
VERIFIER = "verify_ledger.py"


def fill_with_span(
    draft: Path, sources: Sources, span: Span, task: str | None, *, contents: bool, report: Report
) -> dict[str, Any]:
    """Write rows and answers (of one task, where it is named) into a new folder, and return the answers.

    Texts only with `contents`. Raises StoreError where the rows are not whole, or where the verifier finds anything
    wrong with what was written.
    """
    draft.chmod(0o700)
    write_synced(draft / EXPORT, b"")
    with (draft / EXPORT).open("r+b") as file:
        answers = answers_of_span(sources, span, task, report=report, contents=contents, write=file.write)
        file.flush()
        os.fsync(file.fileno())
    _finish(draft, sources, answers, EXPORT)
    return answers


def fill_with_request(draft: Path, sources: Sources, request_id: str) -> dict[str, Any]:
    """Do the same with the rows about one request, without its text."""
    draft.chmod(0o700)
    answers, proof = answers_of_request(sources, request_id)
    answers["statements"] = [each for each in answers["statements"] if each["kind"] != "text"]
    write_synced(draft / PROOF, _json(proof))
    _finish(draft, sources, answers, PROOF)
    return answers


def _finish(draft: Path, sources: Sources, answers: dict[str, Any], file: str) -> None:
    written = {
        "answers.json": _json(answers),
        "answers.txt": page(answers).encode(),
        "public-key.txt": f"{answers['key']}\n".encode(),
        "checkpoint.txt": sources.prover.note.encode(),
        VERIFIER: (files("insource.governance.verifier") / VERIFIER).read_bytes(),
        "GUIDE.txt": guide(answers, file).encode(),
    }
    for name, data in written.items():
        write_synced(draft / name, data)
    told: list[str] = []
    if main([str(draft / file), "--answers", str(draft / "answers.json")], told.append):
        raise StoreError(f"What was written cannot be verified, so nothing is handed over. {''.join(told[-2:])}")


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"
