"""The exported page reads and answers as Python does: its JavaScript under node, the whole in a browser, offline."""

import json
import shutil
import subprocess
import time
import unicodedata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

import insource.training.exporting
from insource.backends.ngrams import ngrams
from insource.backends.onnx import Reader, Trunks
from insource.backends.specialist import open_specialist
from insource.errors import FetchError
from insource.inputs import InputSettings
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.export import export
from insource.training.exporting.contents import Contents, seal
from insource.training.exporting.web_runtime import web_runtime
from insource.training.run import Recipe, train
from insource.types import Task
from tests.conftest import make_tickets
from tests.training import chromium
from tests.training.conftest import NOON, as_examples, silent
from tests.training.random_static import random_static

READING = Path(insource.training.exporting.__file__).parent / "folder" / "reading.js"
NODE = shutil.which("node")
MAX_TOKENS = 24
TEXTS = [
    "",
    " ",
    "Where is my card?",
    "It's the U.S.A.'s $5.00 bill (50 % off!)",
    "a_b__c d-e—f",
    "naïve café Ångström Ñandú",
    "ΑΣ ΟΔΟΣ ΣΑΣ Σ",
    "İstanbul ISTANBUL ıi",
    "Straße ﬁne ǅ Ǆ",
    "Приве́т, как дела?",
    "שָׁלוֹם עולם",
    "السَّلامُ عليكم",
    "हिन्दी में लिखा",
    "ภาษาไทย",
    "你好，世界",
    "カタカナ ひらがな 한국어",
    "𠀀𫝀 𝔘𝔫𝔦 ℌ ①②½ ٣४",
    "🙂👍🏽👨‍👩‍👧 🇩🇪",
    "tab\tline\nbreak\r\nfeed\f\v",
    "a\x1cb\x1fc\x85d\xa0e\u2028f",
    "zero\u200bwidth\u200djoin\ufeffmark\u00adsoft",
    "nul\0 \ufffd \ue000 \u0378",
    "[CLS] my [MASK]card[SEP] [sep] [UNK",
    "\ud800 lone \udfff",
    "x" * 101,
    "word " * 40,
    "e\u0301\u0323 o\u0308 \u0301start",
    "—–-‐ “q” ‘s’ « » … ·•",
    "1,234.56 +49-30/12 a@b.c #tag",
]


def node(code: str, *given: Any) -> Any:
    """Run JavaScript with everything of reading.js at hand; `given` are its values, and it prints what `told` is."""
    if NODE is None:
        pytest.skip("node is not on the PATH; it runs the page's JavaScript here")
    whole = f"""
        import * as reading from {json.dumps(READING.as_uri())};
        import {{ readFileSync }} from "node:fs";
        const given = JSON.parse(readFileSync(0, "utf8"));
        const plain = (fed) => Object.fromEntries(Object.entries(fed).map(([name, ids]) => [name, [...ids]]));
        let told;
        {code}
        process.stdout.write(JSON.stringify(told));
    """
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", whole], input=json.dumps(given), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rich_tokenizer(tiny_base: Path, texts: list[str]) -> dict[str, Any]:
    """A tokenizer of BERT's kind that knows nearly every piece of these texts, so that no difference hides in [UNK]."""
    told = json.loads((tiny_base / "tokenizer.json").read_text())
    told["padding"] = told["truncation"] = None
    normalise = Tokenizer.from_str(json.dumps(told)).normalizer.normalize_str
    words = " ".join(normalise(text.encode("utf-8", "replace").decode()) for text in texts).split()
    pieces = {piece for word in words for piece in (word[:3], *word, *(f"##{letter}" for letter in word))}
    known = dict(told["model"]["vocab"])
    for piece in sorted(pieces - known.keys()):
        known[piece] = len(known)
    told["model"]["vocab"] = known
    return told


def fed(folder: Path, told: dict[str, Any], texts: list[str], windows: int = 1) -> list[dict[str, list[int]]]:
    """What a graph is fed with, by the reader that serves."""
    (folder / "tokenizer.json").write_text(json.dumps(told))
    reader = Reader(folder / "tokenizer.json", MAX_TOKENS)
    if windows == 1:
        return [{"input_ids": list(reader.tokens(text).ids)} for text in texts]
    found = [reader.windows(text, windows) for text in texts]
    return [{"all_ids": list(chain(*ids)), "windows": list(map(len, ids))} for ids in found]


PAGE_TOKENS = """
    const [tokenizer, texts, most, windows] = given;
    const limits = { max_tokens: most, windows, overlap: Math.floor(most / 8), max_characters: windows * 20 * most };
    const read = reading.tokenReader(tokenizer, limits);
    told = texts.map((text) => plain(read(text)));
"""


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_the_page_cuts_tokens_as_python_does(tiny_base, tmp_path, windows):
    told, texts = rich_tokenizer(tiny_base, TEXTS), [*TEXTS, *("a " * count for count in range(15, 70))]
    found = node(PAGE_TOKENS, told, texts, MAX_TOKENS, windows)
    wanted = fed(tmp_path, told, texts, windows)
    assert dict(zip(texts, found, strict=True)) == dict(zip(texts, wanted, strict=True))
    ids = [id for each in wanted for id in next(iter(each.values()))]
    assert ids.count(told["model"]["vocab"]["[UNK]"]) < 8 * windows and len(set(ids)) > 100


@pytest.mark.parametrize("change", [
    {"lowercase": False}, {"strip_accents": False}, {"strip_accents": True, "lowercase": False}, {"clean_text": False},
    {"handle_chinese_chars": False},
])  # fmt: skip
def test_the_page_heeds_the_normalizer(tiny_base, tmp_path, change):
    told = rich_tokenizer(tiny_base, TEXTS)
    before = fed(tmp_path, told, TEXTS)
    told["normalizer"] |= change
    wanted = fed(tmp_path, told, TEXTS)
    assert node(PAGE_TOKENS, told, TEXTS, MAX_TOKENS, 1) == wanted != before


@pytest.mark.slow
def test_every_character_is_read_alike_but_for_some_newer_than_2015(tiny_base, tmp_path):
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = [f"a{character}b" for character in characters]
    told = json.loads((tiny_base / "tokenizer.json").read_text())
    pairs = zip(characters, node(PAGE_TOKENS, told, texts, MAX_TOKENS, 1), fed(tmp_path, told, texts), strict=True)
    other = [character for character, found, wanted in pairs if found != wanted]
    kinds = {unicodedata.category(character) for character in other}
    assert (
        len(other) < 1_000 and min(other) > "\u0600" and kinds <= {"Mn", "Mc", "Po", "Ps", "Pe", "Pd", "Cf", "So", "Cn"}
    )


def test_the_page_cuts_n_grams_as_python_does():
    known = [sorted({gram for text in TEXTS[:-5] for gram in ngrams(text)[kind]}) for kind in (0, 1)]
    found = node(
        "const read = reading.ngramReader(given[0]); told = given[1].map((text) => plain(read(text)));",
        {"words": known[0], "characters": known[1]},
        TEXTS,
    )
    for text, numbers in zip(TEXTS, found, strict=True):
        for kind, name in enumerate(("words", "characters")):
            wanted = sorted(gram for gram in ngrams(text)[kind] if gram in set(known[kind]))
            assert sorted(known[kind][number] for number in numbers[f"grams.{name}"]) == wanted, text


def test_the_page_sees_of_a_text_what_python_sees():
    templates = [["Ticket: ", "\nFrom: ", " (end)"], ["Say: ", ""], ["", "🙂", ""]]
    texts = [
        *TEXTS,
        "Ticket: card\nFrom: me (end)",
        "Ticket: \nFrom: me (end)",
        "Ticket: a\nFrom:  (end)",
        "Say: 🙂",
        "a🙂b🙂c",
        "Ticket: \x1c\nFrom: \x85 (end)",
        "Say: x" + "🙂" * 60,
        "🙂" * 3,
        "Say: ",
        "Ticket: a\nFrom: (end) (end)",
    ]
    for settings in (InputSettings(max_characters=30), InputSettings(templates=tuple(map(tuple, templates)))):
        found = node(
            "told = given[1].map((text) => reading.seen(text, given[0]));",
            {"templates": [], **settings.to_json()},
            texts,
        )
        assert found == [settings.text_of_user(text) for text in texts]


STATIC = """
    const bytes = readFileSync(given[1] + "/static.safetensors");
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    const { open } = await import(given[0]);
    const card = JSON.parse(readFileSync(given[1] + "/specialist.json", "utf8"));
    const engine = await open(card, { "static.safetensors": file });
    told = [];
    for (const text of given[2]) told.push(await engine(text));
"""


@pytest.mark.parametrize("calibrator", ["logistic", "venn_abers"])
def test_the_page_sums_a_static_model_as_python_does(tmp_path, calibrator):
    artifacts, out = ArtifactStore(tmp_path), tmp_path / "out"
    artifact = artifacts.open(random_static(artifacts, TEXTS[:-4], calibrator))
    contents = Contents(artifact.folder, artifact.manifest, lambda digest: tmp_path)
    out.mkdir()
    (out / "static.safetensors").write_bytes(contents.files["static.safetensors"])
    (out / "specialist.json").write_bytes(seal(contents.reading, {}))
    specialist = open_specialist(artifact.folder, artifact.manifest, name="x", digest=None, trunk=lambda digest: None)
    texts = [*TEXTS, *(line["text"] for line in make_tickets(200, seed=8)), "zyx of no known word"]
    found = node(STATIC, READING.with_name("engine_static.js").as_uri(), str(out), texts)
    served = specialist.answer_texts(texts)
    assert [specialist.answers.answers[each["number"]] for each in found] == [label for label, _ in served]
    assert [each["score"] for each in found] == pytest.approx([score for _, score in served], abs=1e-6)


ASK = """
    const find = (id) => document.getElementById(id);
    const answers = [];
    for (const text of TEXTS) {
      find("text").value = text;
      delete find("result").dataset.answer;
      find("form").requestSubmit();
      const waiting = () => !("answer" in find("result").dataset) || find("ask").disabled;
      while (waiting()) await new Promise((done) => setTimeout(done, 0));
      answers.push({ ...find("result").dataset });
    }
    return answers;
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web, fetched by npm."""
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium is on the PATH; this test opens the exported page in one")
    try:
        return web_runtime(tmp_path_factory.mktemp("cache"))
    except FetchError as error:
        pytest.skip(f"onnxruntime-web could not be had: {error}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "precision", "words"),
    [
        ("static", "int8", 9),
        ("linear", "int8", 9),
        ("two-tier", "fp32", 9),
        ("encoder-frozen", "fp32", 3),
        ("encoder-frozen", "int8", 9),
    ],
)
def test_a_browser_without_a_network_gives_the_answers_of_python(
    tmp_path, tiny_base, runtime, family, precision, words
):
    home, out = tmp_path / "home", tmp_path / "out"
    artifacts = ArtifactStore(home)
    with Registry.open(home) as registry:
        recipe = Recipe(family, "none", base=str(tiny_base), precision=precision)
        examples = as_examples(make_tickets(400, words=words))
        version = train(examples, Task("triage"), recipe, home=home, registry=registry, artifacts=artifacts, say=silent,
                        now=lambda: NOON).version  # fmt: skip
    export(version, out, artifacts=artifacts, runtime=lambda: runtime, say=silent)
    texts = [line["text"] for line in make_tickets(200, seed=6)] + TEXTS[:-6]
    texts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in texts]  # as a text box does
    answers = in_a_browser(tmp_path / "profile", out, texts)
    artifact = artifacts.open(version.digest)
    specialist = open_specialist(artifact.folder, artifact.manifest, name="x", digest=None,
                                 trunk=Trunks(lambda digest: artifacts.open(digest).folder).get)  # fmt: skip
    served = specialist.answer_texts([specialist.inputs.text_of_user(text) or "" for text in texts])
    assert [each["answer"] for each in answers] == [specialist.answers.render(label) for label, _ in served]
    off = max(abs(float(each["score"]) - score) for each, (_, score) in zip(answers, served, strict=True))
    assert off < (0.05 if (family, precision) == ("encoder-frozen", "int8") else 1e-5)  # int8 rounds where bits differ


def in_a_browser(profile: Path, folder: Path, texts: list[str]) -> list[dict[str, str]]:
    """Load the page, take the network and the server away, and ask it everything through its text box."""
    with chromium.Page(profile) as page:
        with chromium.served(folder) as address:
            page.call("Page.navigate", url=address)
            while "loading" in (state := page.run("return document.getElementById('state')?.textContent ?? 'loading'")):
                time.sleep(0.05)
            assert state.startswith("ready"), state
        page.cut_the_network()
        loaded = len(page.requests)
        assert all(each.startswith(address) for each in page.requests)
        answers = page.run(ASK.replace("TEXTS", json.dumps(texts)))
        assert len(page.requests) == loaded and not page.problems
        assert page.run("return fetch('/?' + Math.random()).then(() => 'through', () => 'cut')") == "cut"
    return answers
