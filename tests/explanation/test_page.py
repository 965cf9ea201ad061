"""The page: what goes in comes out as text, and nothing of it is markup."""

import html
import re

from dpo_lab.explanation.learning import Histories, History
from dpo_lab.explanation.page import Table, learning_page, tokens_page
from dpo_lab.explanation.pieces import Piece
from dpo_lab.explanation.shown import (
    AttributionMethod,
    Measure,
    ShownAttribution,
    ShownClass,
    ShownResponse,
    Teller,
    Told,
)

EVIL = "<script>alert('x')</script>\" onload=\"&amp;"


def teller(measure: Measure, told: Told | None, name: str = "run") -> Teller:
    return Teller(name, measure, (told,))


def told(*texts: str) -> Told:
    pieces = tuple(Piece(text, (0.5, -1.5) if place else (0.25,)) for place, text in enumerate(texts))
    return Told(EVIL, (ShownResponse("chosen", "ab" * 16, pieces), ShownResponse("rejected", "cd" * 16, pieces[:1])))


def test_every_text_is_text_and_every_number_stands_there():
    page = tokens_page(EVIL, [EVIL], [EVIL], [teller(Measure(True, 0.1), told("a <b>\n", EVIL), EVIL)])
    assert "<script" not in page and "http" not in page.replace("http-equiv", "") and EVIL not in page
    (response, _) = re.findall(r'<div class="response">(.*?)</div></div>', page, re.DOTALL)
    assert html.unescape(re.sub(r"<[^>]*>", "", response)) == "a <b>\n" + EVIL
    assert re.findall(r'data-value="([^"]*)"', response) == ["+0.250", "-1.000"]
    assert 'title="-1.000, of 2 tokens: +0.500, -1.500"' in response
    assert "chosen less rejected: -1.000" in page and "sum -0.750 over 3 tokens" in page
    assert "with β = 0.1" in page and "prefers-color-scheme: dark" in page


def test_two_runs_stand_beside_each_other_and_one_may_lack_a_row():
    page = tokens_page(
        "t", [], ["row 1"], [teller(Measure(False, None), told("x"), "A"), teller(Measure(True, None), None, "B")]
    )
    assert re.search(r'<div class="runs">\s*<section><h3>A</h3>.*<section><h3>B</h3>', page, re.DOTALL)
    assert "Where there is no reference, all is orange" in page
    assert "no reference, so this is the log-probability itself" in page and "the loss has no β" in page
    assert "<h3>A</h3>" in page and "This run cannot read the row whole." in page


def test_classes_are_bars():
    classes = (ShownClass("sport & co", "chosen", 1.0, 0.75, 0.25), ShownClass("news", "", -0.5, 0.25, None))
    page = tokens_page("t", [], ["row 1"], [teller(Measure(True, 1.0), Told("text", (), classes, 3))])
    assert "sport &amp; co" in page and page.count('class="bar"') == 2 and "3 more classes" in page
    assert 'class="up" style="--a:1.00"' in page and "0.750" in page


def test_without_a_reference_nothing_is_said_of_one():
    classes = (ShownClass("sport", "chosen", -0.25, 0.75, None), ShownClass("news", "rejected", -1.5, 0.25, None))
    page = tokens_page("t", [], ["row 1"], [teller(Measure(False, None), Told("text", (), classes))])
    assert "than under the reference" not in page and "π_ref" not in page
    assert "the paler and the shorter, the likelier" in page


def test_what_is_hardly_there_has_hardly_a_colour():
    """0.0001 of the smallest scale, 0.01."""
    response = ShownResponse("chosen", "ab" * 16, (Piece("a", (1e-4,)),))
    page = tokens_page("t", [], ["row 1"], [teller(Measure(True, 1.0), Told("text", (response,)))])
    assert '<span class="token up" style="--a:0.01"' in page


def test_attributions_and_a_warning_where_they_do_not_add_up():
    """0.25 - 0.75 by the words; the pieces have 0.1 more. What is below a tenth of the scale is left to the pointer."""
    pieces = (Piece(EVIL, (-0.5, 0.1), tokens=(EVIL, "b")), Piece("faint", (0.001,), is_marked=True))
    parts = (("question", pieces), ("passage", pieces[1:]))
    shown = ShownAttribution("chosen", EVIL, parts, 0.25, 0.75, 0.1)
    exact = ShownAttribution("rejected", "x", parts[:1], 0.25, 0.75, 1e-6)
    method = AttributionMethod(False, "[MASK]", 7)
    one = Teller("run", Measure(True, 1.0), (Told("text", (), (), 0, (shown, exact)),), method)
    page = tokens_page("t", [], ["row 1"], [one])
    assert "<script" not in page and "+0.250: +0.750 with every word hidden, -0.500 by the words" in page
    assert page.count('class="warning"') == 1 and "the words add up to -0.400, which is +0.100 off" in page
    assert "--steps 28" in page and "add up to that within 1e-06" in page
    assert "of log π, nats" in page and "[MASK], in 7 steps" in page and page.count('<p class="note">passage</p>') == 1
    assert re.findall(r'data-value="([^"]*)"', page) == ["-0.400", "\u00a0", "\u00a0", "-0.400", "\u00a0"]
    assert html.escape(EVIL).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") + " -0.500, b +0.100" in page


def test_marks_of_pairs():
    """One mark a pair, of its own shape."""
    kinds = [(True, True), (True, False), (False, False)]
    pairs = tuple(History((str(n), "r"), (1, 2), (float(n), 1.0), right) for n, right in enumerate(kinds))
    page = learning_page("t", [], Histories(pairs, "reward", 0), [Table("T", "n", ["a"], [[EVIL], [None], [0.5]])])
    assert [page.count(f'class="{name}"') for name in ("learnt", "forgotten", "never")] == [1, 1, 1]
    assert "<script" not in page and "<td>never</td>" in page and "<td>0.5</td>" in page
