"""What readers see of judged claims: all that an entry holds, nothing found that was not, nothing unescaped."""

import re
import xml.etree.ElementTree as ET
from html import unescape

import jupytext
import pytest
from launch import chapters

from semhub_utils.rows import TRAPS
from semhub_utils.strips import ASK_OPENLY, EDGE, MARKS, SYMBOLS, address, answer, for_all, strip, with_others
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, RULES, UNTESTABLE, WEAKLY

CLAIM = {"id": "words/lens/es", "series": "es", "experiment": "lens", "claim": "The <b>word</b> & more", "unit": "nats"}
CLAIM |= {"statistic": 0.41234, "low": 0.38, "high": 0.44, "layer": 7, "n_layers": 12, "dropped": {"same token": 3}}
CLAIM |= {"p": 0.0004, "null": "<chance>", "reason": "Above it.", "condition": "above <it>", "n": 212, "n_units": 23}
CLAIM |= {"by": "the <last> layer", "least": 0.1, "why_least": "a tenth", "paper": "Paper says <i>so</i>", "row": 6}
CLAIM |= {"passes": [6, 7], "where": ["middle", "late"], "null_high": 0.05, "found": {"k": 19, "m": 20}}
CLAIM["items"] = "a sample of <news>"
CLAIM["controls"] = {"random weights": {"value": 0.01, "low": -0.02, "high": 0.03}}
CLAIM["margins"] = {"random weights": {"value": 0.402, "low": 0.3, "high": 0.5}}
CLAIM["contrasts"] = {"last layer": {"value": 0.2, "low": 0.1, "high": 0.3, "p": 0.0004}}
CLAIM["readings"] = {"raw": {"verdict": NOT, "by": "", "statistic": 0.1, "low": -0.2, "high": 0.3, "layer": 5}}


def parsed(html: str) -> ET.Element:
    return ET.fromstring(html[html.index("</style>") + len("</style>") :])


def text(node: ET.Element) -> str:
    return " ".join("".join(node.itertext()).split())


def test_every_word_has_a_mark():
    assert {*SYMBOLS} == {*RULES} and len({*SYMBOLS.values()}) == len(RULES)


@pytest.mark.parametrize("verdict", [v for v in RULES if v != UNTESTABLE])
def test_a_strip_says_everything_and_escapes(verdict):
    shown = strip([{**CLAIM, "verdict": verdict}])
    section = parsed(shown.html)
    assert text(section.find("p")) == CLAIM["claim"]
    assert text(section.findall("p")[1]) == "The paper, experiment 6 Paper says <i>so</i>"
    [row] = section.findall(".//tbody/tr")
    name, word, _, value, where = map(text, row)
    assert (row.get("id"), row.get("data-verdict"), name) == ("claim-words-lens-es", verdict, "Es#")
    said = "Explained by the <last> layer" if verdict == EXPLAINED else verdict.capitalize()
    condition = "" if verdict in (HOLDS, EXPLAINED) else ": above <it>"
    assert word == f"{SYMBOLS[verdict]} {said}{condition}", "a failure names the condition"
    assert (value, where) == ("0.412 [0.38, 0.44] nats", "middle and late")
    assert text(row.find(".//td/span[@class='strip-unit']")) == "nats", "where there is no head for it"
    assert row.find(".//a").get("href") == "#claim-words-lens-es"
    listed = {d[0].text: [dd.text for dd in d[1:]] for d in section.findall(".//dl/div")}
    assert listed == {
        "Rule": ["Above it."],
        "Null": ["<chance>"],
        "Other readings": ["raw: does not hold, 0.1 [-0.2, 0.3]"],
        "Controls": ["random weights: 0.01 [-0.02, 0.03]; apart 0.402 [0.3, 0.5]"],
        "Middle layers": ["above the last layer: 0.2 [0.1, 0.3], p = 0.0004"],
        "Layers that pass": ["6, 7"],
        "Items": ["212, 23 of them independent"],
        "Read from": ["a sample of <news>"],
        "Left out": ["same token: 3 (1%)"],
        "Smallest effect of interest": ["0.1: a tenth"],
        "Planted effects found": ["19 of 20"],
    }
    assert shown.text == f"{said}: {CLAIM['claim']} (0.412 [0.38, 0.44])"


@pytest.mark.parametrize("where", [("early",), ()])
def test_what_a_model_says_is_at_no_layer(where):
    section = parsed(strip([{**CLAIM, "verdict": HOLDS, "where": where, "layer": 0, "n_layers": 1}]).html)
    assert [text(td) for td in section.findall(".//td[@class='strip-where']")] == [""]


def test_the_plot_is_drawn_to_scale():
    other = {**CLAIM, "id": "words/lens/zh", "verdict": NOT, "statistic": -0.5, "low": -1.0, "high": 0.0}
    section = parsed(strip([{**CLAIM, "verdict": HOLDS}, other], "All").html)
    body = section.find(".//tbody")
    dots = [float(dot.get("cx").removesuffix("%")) for dot in body.iter("circle")]
    scale = (100 - 2 * EDGE) / (0.44 + 1.0)  # from the lowest bound to the highest
    assert dots == pytest.approx([EDGE + (0.41234 + 1) * scale, EDGE + 0.5 * scale], abs=0.006)
    assert not [svg for svg in body.iter("svg") if svg.get("viewBox")], "a narrow plot would have small dots"
    zeros = {(line.get("x1"), line.get("x2")) for line in body.iter("line") if line.get("class") == "zero"}
    assert zeros == {(f"{EDGE + scale:.2f}%",) * 2}, "all rows share an axis"


def test_what_the_marks_mean_is_drawn_beside_the_strip():
    """Outside the fold, each as it is drawn in a row."""
    section = parsed(strip([{**CLAIM, "verdict": HOLDS}]).html)
    key = section.find("p[@class='strip-key']")
    assert [text(one) for one in key] == [*MARKS]
    assert [*MARKS] == ["number", "95% interval", "shuffled", "control", "farther control", "zero"]
    drawn = {(mark.tag, mark.get("class")) for mark in section.find(".//tbody").find(".//svg")}
    assert {(mark.tag, mark.get("class")) for svg in key.iter("svg") for mark in svg} == drawn


def test_a_control_far_out_leaves_the_others_their_room():
    """It stands at its edge; one that is nearer than the others are wide is drawn where it is."""

    def spread(value: float) -> tuple[float, list[float]]:
        controls = {"control": {"value": value}}
        svg = parsed(strip([{**CLAIM, "verdict": HOLDS, "controls": controls}]).html).find(".//tbody").find(".//svg")
        ends = {line.get("class"): (line.get("x1"), line.get("x2")) for line in svg.iter("line")}
        low, high, *at = (float(x.removesuffix("%")) for of in ("band", "control") for x in ends[of])
        return high - low, at

    (all_of_it, near), (most, far), (still, below) = spread(0.4), spread(40.0), spread(-40.0)
    assert all_of_it == pytest.approx(most) == pytest.approx(still)
    assert EDGE < near[0] < 100 - EDGE < far[0] < far[1] < 100 and 0 < below[1] < below[0] < EDGE


def test_a_reason_is_given_once_to_rows_that_share_it():
    failed = [{**CLAIM, "id": f"words/lens/{name}", "verdict": NOT} for name in ("es", "zh", "de")]
    failed[2]["condition"] = "below it"
    rows = parsed(strip(failed, "All").html).findall(".//tbody/tr")
    told = [text(row[1]).removeprefix(f"{SYMBOLS[NOT]} ") for row in rows]
    assert told == ["Does not hold: above <it>", "Does not hold", "Does not hold: below it"]


def test_an_effect_of_the_other_sign_is_called_so():
    turned = {**CLAIM, "verdict": NOT, "statistic": -0.3, "low": -0.4, "high": -0.2}
    row = parsed(strip([turned]).html).find(".//tbody/tr")
    assert text(row[1]) == f"{SYMBOLS[NOT]} Does not hold: the effect is the other way round"
    assert "(the effect is the other way round)" in answer([turned], {"lens": "so"}, "m").text


def test_what_could_not_be_tested_is_one_line_for_each_reason():
    def untested(name: str, why: str) -> dict:
        none = dict.fromkeys(("statistic", "low", "high", "layer"))
        return {**CLAIM, **none, "id": f"words/lens/{name}", "series": name, "verdict": UNTESTABLE, "condition": why}

    claims = [untested(f"t{k}", "8 units are left.") for k in range(19)] + [untested("last", "it cannot add")]
    section = parsed(strip(claims, "None of … could be asked").html)
    rows = section.findall(".//tbody/tr")
    assert len(rows) == 2 and text(rows[0][0]).count(", ") == 18
    assert text(rows[0][1]) == "? Cannot be tested here: 8 units are left"
    assert {span.get("id") for span in section.iter("span") if span.get("id")} == {*map(address, claims)}
    assert (
        not section.findall(".//thead")
        and not section.findall(".//svg")
        and "strip-key" not in ET.tostring(section).decode()
    )


def test_a_claim_of_our_own_is_no_word_of_the_papers():
    shown = strip([{**CLAIM, "verdict": HOLDS, "paper": None, "row": "own"}]).html
    assert "This book asks" in shown and "The paper" not in shown


def judged(name: str, verdict: str, by: str = "") -> dict:
    family, _, series = name.partition("/")
    why = {
        NOT: "an effect of 0.1 is ruled out",
        INCONCLUSIVE: "not above its null, and an effect of 0.1 is not ruled out",
    }
    of = {"id": f"chapter/{name}", "series": series, "experiment": family, "verdict": verdict, "by": by}
    return of | {"condition": why.get(verdict, f"{by} comes near.")}


def test_the_answer_says_what_was_found_what_was_not_and_what_could_not_be_asked():
    about = {"similarity": "twins meet", "lens": "it is <English>", "steering": "a vector moves it", "own": "x"}
    claims = [judged("similarity/es", HOLDS), judged("similarity/zh", EXPLAINED, "the last layer")]
    claims += [judged("lens/es", NOT), judged("lens/zh", INCONCLUSIVE), judged("steering/es", UNTESTABLE)]
    claims += [judged("own", WEAKLY), judged("other/es", HOLDS)]
    shown = answer(claims, about, "organism:<hub>")
    assert shown.text.splitlines() == [
        "In part.",
        "Found: that twins meet (Es); x (weakly).",
        "Explained: that twins meet (Zh: by the last layer).",
        "Not found: that it is <English> (Es: an effect of 0.1 is ruled out).",
        "Uncertain: whether it is <English> (Zh: an effect of 0.1 is not ruled out).",
        "Could not be tested: whether a vector moves it.",
    ]
    box = parsed(shown.html)
    assert text(box).startswith("In part, on organism:<hub>Found: that twins meet")
    everything = answer([judged(f"similarity/{t}", HOLDS) for t in ("es", "zh")], about, "m")
    assert everything.text == "Yes.\nFound: that twins meet.", "what holds of all names none"


WORDS = {
    "Yes": [(HOLDS, WEAKLY), (HOLDS, UNTESTABLE)],
    "In part": [(HOLDS, NOT), (HOLDS, UNTESTABLE, UNTESTABLE), (WEAKLY, EXPLAINED), (HOLDS, HOLDS, INCONCLUSIVE)],
    "No": [(NOT, NOT), (NOT, EXPLAINED, INCONCLUSIVE), (EXPLAINED, UNTESTABLE)],
    "Not decided": [(INCONCLUSIVE,), (UNTESTABLE, UNTESTABLE), (NOT, INCONCLUSIVE), (NOT, INCONCLUSIVE, INCONCLUSIVE)],
}


@pytest.mark.parametrize(("word", "verdicts"), [(word, some) for word, every in WORDS.items() for some in every])
def test_the_answer_begins_with_a_word_of_the_claims_answered(word, verdicts):
    """Verdicts that are turned are another word; those of other claims are none."""
    claims = [judged(f"lens/{k}", verdict) for k, verdict in enumerate(verdicts)]
    shown = answer([*claims, judged("other/a", HOLDS), judged("other/b", NOT)], {"lens": "it is so"}, "m")
    assert shown.text.splitlines()[0] == f"{word}." and f'data-word="{word}"' in shown.html
    assert text(parsed(shown.html).find("p")) == f"{word}, on m"


def test_a_chapter_that_asks_openly_gets_no_such_word():
    """Only questions of the kind "does it?" do; and what is said of one is not a yes to "when?"."""
    asked = {path.stem.partition("_")[2]: jupytext.read(path).cells[0].source for path in chapters()}
    questions = {name: re.search(r"^\*\*(.+?\?)\*\*$", head, re.M)[1] for name, head in asked.items()}
    closed = {name for name, said in questions.items() if re.search(r"(?:^|,`? )(do|does|are|is|can)\b", said, re.I)}
    assert {*questions} - closed == {*ASK_OPENLY}
    claims = [judged("lens/es", HOLDS) | {"id": f"{ASK_OPENLY[0]}/lens/es"}]
    shown = answer(claims, {"lens": "it is so"}, "m")
    assert shown.text == "Found: that it is so." and text(parsed(shown.html).find("p")) == "On m"


def test_an_answer_that_stands_again_folds_all_but_its_word():
    about = {"similarity": "twins meet", "lens": "it is English", "steering": "a vector moves it"}
    claims = [judged("similarity/es", HOLDS), judged("lens/es", NOT), judged("steering/es", UNTESTABLE)]
    shown, full = answer(claims, about, "m", again=True), answer(claims, about, "m")
    fold = parsed(shown.html).find("details")
    assert [text(p) for p in fold.findall("p")] == shown.text.splitlines()[1:] and len(fold.findall("p")) == 3
    assert shown.text == full.text and parsed(full.html).find("details") is None
    assert with_others(shown.html, {"other": claims}) == shown.html != with_others(full.html, {"other": claims})
    openly = [claim | {"id": claim["id"].replace("chapter", ASK_OPENLY[0])} for claim in claims]
    box = parsed(answer(openly, about, "m", again=True).html)  # without a word, its first sentence stays
    assert text(box.findall("p")[1]) == "Found: that twins meet." and len(box.findall("details/p")) == 2
    assert "details" not in answer(openly[:1], about, "m", again=True).html


def test_an_answer_counts_all_claims_of_the_chapter():
    """Those that it does not tell too; units are of those that were tested."""
    verdicts = (HOLDS, WEAKLY, NOT, EXPLAINED, INCONCLUSIVE, UNTESTABLE)
    claims = [judged(f"lens/{k}", of) | {"n_units": 90 - 10 * k} for k, of in enumerate(verdicts)]
    [count] = parsed(answer(claims, {"lens/0": "it is so"}, "m").html).findall("p[@class='answer-count']")
    said = "The chapter's 6 claims: 2 found, 1 explained, 1 not, 1 uncertain, 1 untested"
    assert text(count) == f"{said}; on 50 to 90 independent items each."
    assert "independent items" not in answer(claims[-1:], {"lens/5": "it is so"}, "m").html
    trap = judged("lens/trap", HOLDS) | {"id": TRAPS[0]}
    shown = answer([*claims, trap], {}, "m").html
    assert "The chapter's 7 claims: 2 found" in shown and ", 1 trap shown;" in shown


@pytest.mark.parametrize(
    ("sentence", "names", "said"),
    [
        ("On {name} text, {name} wins.", ["spanish"], "On Spanish text, Spanish wins."),
        ("On {name} text, {name} wins.", ["french", "code"], "On French or code text, that language wins."),
        ("It is so.", ["spanish", "german"], "It is so."),
    ],
)
def test_one_sentence_says_it_of_all(sentence, names, said):
    assert for_all(sentence, names) == said


def test_a_family_below_another_is_told_apart():
    about = {"similarity": "a", "similarity/swapped": "b"}
    claims = [{"id": f"c/{name}", "series": "", "verdict": HOLDS} for name in ("similarity/x", "similarity/swapped")]
    assert answer(claims, about, "m").text == "Yes.\nFound: that a; b."


def test_an_answer_has_a_line_of_each_other_model_that_was_asked():
    """How much was found there and, unfolded, what; the rest of the page stays as it is."""
    own, about = [judged("similarity/es", NOT)], {"similarity": 'twins "meet"'}
    page = f"<p>before</p>{answer(own, about, 'hub').html}<p>after</p>"
    others = {"<one>": [judged("similarity/es", HOLDS)], "two": [judged("similarity/es", UNTESTABLE)], "three": []}
    shown = with_others(page, others)
    head, line, tail = shown.partition('<details class="answer-model"><summary>Yes, on &lt;one&gt;')
    assert head + "</div><p>after</p>" == page and tail.endswith("</details></div><p>after</p>")
    said = f"{line}{tail}".removesuffix("</div><p>after</p>").replace("</summary>", " ").split("</details>")
    assert [unescape(re.sub("<[^>]*>", "", one)) for one in said if one] == [
        'Yes, on <one>: 1 found Found: that twins "meet".',
        'Not decided, on two: 1 untested Could not be tested: whether twins "meet".',
    ]
    assert with_others("<p>no answer</p>", others) == "<p>no answer</p>"
