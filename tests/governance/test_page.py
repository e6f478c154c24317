import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.governance import markup
from insource.governance.drawing import latency_lines, share_bar, stacked_bar
from insource.governance.figures import Share
from insource.governance.page import render_page
from insource.store.totals import Latency
from insource.types import Reason

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&\x1b[31m\u202e\ud800"
VOID = {"meta"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "h1", "h2", "h3", "p",
    "span", "ul", "li", "dl", "div", "dt", "dd", "b", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure",
    "figcaption", "svg", "rect", "path", "circle", "text",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page strictly: elements nest, and each stands in the list; keeps attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.attributes, self.texts, self.faults = [], [], [], [], []
        self.feed(text)
        self.close()
        self.faults += [f"{name} is not closed" for name in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ALLOWED:
            self.faults.append(f"{tag} does not belong on the page")
        self.faults += [f"{tag} has {name}" for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} ends what is not open")

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture
def hostile(house):
    """A house in which every text that comes from outside is hostile."""
    plain = "".join(c for c in HOSTILE if not 0xD800 <= ord(c) < 0xE000)
    house.task(plain, guard={plain: 0.1})
    answers = {"test": {"per_answer": [{"answer": plain, "rows": 3}]}}
    house.version(plain, lineage=answers, who=plain, why=plain, notes=(plain,))
    house.accepted(30, plain, audits=(True, False))
    house.escalated(5, plain, reason=Reason.ARTIFACT_DAMAGED)
    return house


def test_hostile_texts_stay_texts(hostile):
    page = Page(render_page(hostile.report(currency_of=lambda task: HOSTILE)))
    assert page.faults == []
    assert "script" not in page.elements and "img" not in page.elements
    assert page.text.count("<script>alert('x')</script>") >= 8
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", page.text)


def test_the_reader_finds_what_was_not_escaped():
    """The guard broken on purpose: the same text, put on a page as it is."""
    assert Page(f"<p>{HOSTILE}</p>").faults


def test_the_page_is_self_contained_and_accessible(house):
    house.task("triage")
    house.version("triage")
    house.accepted(60, audits=(True,) * 20)
    house.escalated(9)
    text = render_page(house.report())
    page = Page(text)
    assert page.faults == []
    assert text.startswith('<!doctype html><html lang="en">')
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    assert "default-src 'none'" in text and "prefers-color-scheme:dark" in text and "@media print" in text
    assert [name for name in page.elements if name in ("h1", "h2", "h3")][:4] == ["h1", "h2", "h2", "h3"]
    assert page.elements.count("table") == page.elements.count("caption") == 4
    assert all(("th", "scope", scope) in page.attributes for scope in ("col", "row"))
    drawings = [name for tag, name, _ in page.attributes if tag == "svg" and name in ("role", "aria-hidden")]
    assert len(drawings) == page.elements.count("svg")


def test_the_page_says_what_the_figures_say(house):
    house.task("triage", guard={"no": 0.1})
    house.version("triage")
    house.accepted(80, audits=(False,) * 12 + (True,) * 60)
    house.escalated(20)
    house.escalated(3, None, reason=Reason.NO_TASK)
    said = Page(render_page(house.report())).text
    for words in (
        "3 of no task", "77.7 %", "1 broken, 0 held", "Promise: broken", "breaks its promise",
        "80.0 % (70.8 to 87.3 %)",
        "Of requests whose reference is no, at most 10.0 % may be missed.", "Certified on 400 requests",
        "above threshold 80 (80.0 %)", "accepted median 2.0 ms", "2026-11-13 12:00 UTC by anna: guard held",
        "modelled", "2 to 15 W", "Answers of triage@1 on its test rows",
    ):  # fmt: skip
        assert words in said, words


def test_a_page_of_nothing_says_so(house):
    said = Page(render_page(house.report()))
    assert said.faults == []
    assert "Nothing has been served here yet" in said.text and "No task is configured" in said.text


def test_a_page_of_a_registry_alone_has_no_drawings(house):
    house.version("triage")
    page = Page(render_page(house.report()))
    assert page.faults == [] and "svg" not in page.elements and "triage@1" in page.text


def coordinates(drawing):
    return [float(found) for found in re.findall(r' (?:x|cx|width)="(-?[\d.]+)"|[MH](-?[\d.]+)', drawing) for found in
            found if found]  # fmt: skip


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_bar_stays_in_its_drawing(count, of, top, mark, end):
    low, high = sorted((end, min(count / of, 1.0)))
    share = Share(count, of, min(count / of, 1.0), low, high)
    drawing = share_bar(share, [(mark, "promised"), (None, "absent")], top, "t", "k0")
    assert Page(drawing).faults == [] and "absent" not in drawing
    assert all(0 <= x <= 440 for x in coordinates(drawing))


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(1, 10**9)), min_size=1, max_size=9))
def test_reasons_fill_one_bar(parts):
    drawing = stacked_bar(parts, "t")
    assert Page(drawing).faults == []
    assert all(0 <= x <= 640 for x in coordinates(drawing))


def test_a_bar_of_nothing_is_not_drawn():
    assert stacked_bar([], "t") == stacked_bar([("a", 0)], "t") == latency_lines({"accepted": None}, "t") == ""


@given(st.lists(st.floats(0, 1e5), min_size=3, max_size=3).map(sorted))
def test_latencies_of_any_size_stay_in_their_drawing(ends):
    drawing = latency_lines({"accepted": Latency(9, *ends), "escalated": None}, "t")
    assert Page(drawing).faults == []
    assert all(0 <= x <= 640 for x in coordinates(drawing))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_coordinate_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        markup.number(value)
