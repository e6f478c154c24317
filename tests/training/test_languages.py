"""Text in other scripts than Latin, and from right to left: from the tokenizer to the answer, unharmed."""

import json
import random
import unicodedata

import pytest
from tokenizers import Tokenizer

import insource
from insource.backends.model_files import check_tokenizer
from insource.backends.onnx import Trunk
from insource.backends.refused_file import RefusedFile
from insource.training.base_models import from_folder
from insource.training.encoder_graph import build_trunk
from tests.training.other_architectures import write_checkpoint

SAID = {
    "退款": "我的退款还没有到账 为什么看不到退款 钱退回来了吗",
    "بطاقة": "فقدت بطاقتي سُرقت البطاقة أوقفوا بطاقتي",
    "खाता": "मेरा खाता बंद है खाते का पासवर्ड बदलना है",
}
FILL = "да και של ที่ 그리고 và ñ ß 🏦".split()
ODD = ["\u202eكارت\u202c", "क्\u200dष", "e\u0301\u0300\u0302", "👩‍👩‍👧", "\ufeff退款", "한국어", "\u200f\u200f", "𝕏 𐍈"]


def tokenizer(texts):
    """A tokenizer.json as sentencepiece's are converted: pieces, runs of spaces folded by a pattern, a word mark."""
    normal = {unicodedata.normalize("NFKC", text) for text in texts}
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted({letter for text in normal for letter in text if not letter.isspace()})
    whole = sorted({f"▁{word}" for text in normal for word in text.split()} - set(letters))
    pieces = [[mark, 0.0] for mark in marks] + [["▁", -5.0]] + [[letter, -8.0] for letter in letters]
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template += [{"SpecialToken": {"id": "</s>", "type_id": 0}}]
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    special = {mark: {"id": mark, "ids": [number], "tokens": [mark]} for mark, number in (("<s>", 0), ("</s>", 2))}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, spaces]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": special,
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces + [[word, -9.0] for word in whole]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny random XLM-RoBERTa that knows the words above."""
    folder = tmp_path_factory.mktemp("multilingual")
    told = tokenizer([*SAID.values(), " ".join(FILL)])
    write_checkpoint(folder, "xlm-roberta", len(told["model"]["vocab"]))
    (folder / "tokenizer.json").write_text(json.dumps(told, ensure_ascii=False), "utf-8")
    return folder


def lines(rows, seed=0):
    chance = random.Random(seed)
    for _ in range(rows):
        answer = chance.choice(list(SAID))
        words = [*chance.choices(SAID[answer].split(), k=3), chance.choice(FILL)]
        yield {"text": " ".join(words), "answer": answer}


def test_a_trunk_reads_what_the_tokenizer_makes_of_any_script(base, tmp_path):
    build_trunk(from_folder(base), tmp_path / "trunk", "int8")
    trunk = Trunk.load(tmp_path / "trunk")
    own = Tokenizer.from_file(str(base / "tokenizer.json"))
    for text in [*SAID.values(), *ODD, "退款   退款"]:
        assert list(trunk.tokens(text).ids) == own.encode(text).ids[: trunk.info.max_tokens], text
    known = {text: trunk.tokens(text).ids for text in SAID.values()}
    assert all(3 not in ids and len(ids) > 3 for ids in known.values()), "no word of it is unknown"


def test_answers_in_any_script_are_learned_and_given(base, tmp_path, write_traffic, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_traffic(list(lines(200)))
    loaded = insource.train(path, "billets", home=tmp_path / "home", family="encoder-frozen", base=str(base))
    asked = list(lines(60, seed=1))
    found = loaded.many([line["text"] for line in asked])
    assert {each.answer for each in found} == set(SAID)
    assert sum(each.answer == line["answer"] for each, line in zip(found, asked, strict=True)) >= 54
    composed, apart = (unicodedata.normalize(form, "मेरा खाता बंद है") for form in ("NFC", "NFD"))
    assert loaded(composed) == loaded(apart)
    assert {each.answer for each in loaded.many(ODD)} <= set(SAID)


def test_a_pattern_of_another_s_is_still_refused(base):
    told = json.loads((base / "tokenizer.json").read_bytes())
    check_tokenizer(json.dumps(told).encode())
    told["normalizer"]["normalizers"][1]["pattern"] = {"Regex": "(a+)+$"}
    with pytest.raises(RefusedFile, match="pattern"):
        check_tokenizer(json.dumps(told).encode())
