"""Judged claims for a reader: a strip for each family of claims, a row for each data type; and a chapter's answer.

Both are made of the entries of claims.json alone. What was not found is said as such, with the condition that failed.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape, unescape
from itertools import chain, pairwise

from .markup import STYLE, Html, cell_text, proper, with_band
from .rows import of_a_trap
from .verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY, in_words

SYMBOLS = {HOLDS: "✔", WEAKLY: "◐", EXPLAINED: "≈", INCONCLUSIVE: "~", NOT: "✘", UNTESTABLE: "?"}
HEIGHT, EDGE = 22, 4  # of a row's plot, in pixels, and what is left free beside it, in percent of its width
ANSWER = re.compile('<div class="answer"[^>]*data-about="(?P<about>[^"]*)">.*?</div>', re.DOTALL)
MARKS = {
    "number": f'<circle {{x}} cy="{HEIGHT / 2}" r="4"/>',
    "95% interval": f'<line class="band" {{x}} y1="{HEIGHT / 2}" y2="{HEIGHT / 2}"/>',
    "shuffled": f'<line class="null" {{x}} y1="1" y2="{HEIGHT - 1}"/>',
    "control": f'<line class="control" {{x}} y1="{HEIGHT - 6}" y2="{HEIGHT - 1}"/>',
    "farther control": "".join(
        f'<line class="control" {{x}} y1="{HEIGHT - at}" y2="{HEIGHT - 3.5}"/>' for at in (7, 0)
    ),
    "zero": f'<line class="zero" {{x}} y1="1" y2="{HEIGHT - 1}"/>',
}
"""What a row's plot is drawn of: x is where it stands."""
ASK_OPENLY = ("instruments", "fooled", "raising", "layers")
"""Chapters that ask how, when or which, or whether one would be fooled: yes or no is no answer there."""
REVERSED = "the effect is the other way round"
SHORT = {"Found": "found", "Explained": "explained", "Not found": "not", "Uncertain": "uncertain"}
SHORT |= {"Could not be tested": "untested"}
YES, PARTLY, NO, OPEN = "Yes", "In part", "No", "Not decided"


def strip(claims: Sequence[Mapping], family: str = "") -> Html:
    """A family of claims: the claim and what the paper says of it once, then a row for each, with its verdict, the
    number between its null and controls, and where in the model it was found; what marks mean, which a page of the site
    says once; all else is folded.

    family: the claim of them all, where they are several. Those that could not be tested, for one reason, are one line.
    """
    first, tested = claims[0], [claim for claim in claims if claim["verdict"] != UNTESTABLE]
    said = family or str(first.get("claim") or first["id"])
    plot = _plotter(tested)
    rows = "".join(_row(claim, plot, above) for above, claim in pairwise([{}, *tested])) + _untested(claims)
    unit = f"<th>{escape(first.get('unit') or '')}</th>" if tested else "<th></th>"
    heads = f'<th aria-label="Of"></th><th aria-label="Verdict"></th><th></th>{unit}<th>Layers</th>'
    head = f"<thead><tr>{heads}</tr></thead>" if tested else ""
    html = (
        f'{STYLE}<section class="strip" aria-label="{escape(said)}"><p class="strip-claim">{escape(said)}</p>'
        f"{_asked(first)}<table>{head}<tbody>{rows}</tbody></table>"
        f"{_key() if tested else ''}<details><summary>Details</summary>"
        f"{''.join(map(_details, claims))}</details></section>"
    )
    return Html(html, "\n".join(f"{_word(c).capitalize()}: {c.get('claim') or c['id']} ({_said(c)})" for c in claims))


def for_all(sentence: str, names: Sequence[str]) -> str:
    """A sentence with {name}, said of all of these at once: "Spanish, Chinese or German", and then "that language"."""
    *some, last = map(proper, names)
    first, *again = sentence.split("{name}")
    either = f"{', '.join(some)} or {last}" if some else last
    return first + "".join(f"{either if k == 0 else 'that language' if some else last}{s}" for k, s in enumerate(again))


def _asked(claim: Mapping) -> str:
    row, form = claim.get("row"), f" The items: {escape(claim['form'])}." if claim.get("form") else ""
    if not (paper := claim.get("paper")):
        return f'<p class="strip-asked"><b>This book asks</b>{form}</p>'
    number = f", experiment {row}" if isinstance(row, int) else ""
    return f'<p class="strip-asked paper-claim"><b>The paper{number}</b> {escape(paper)}{form}</p>'


def address(claim: Mapping) -> str:
    """Where a claim stands on its page."""
    return "claim-" + "".join(c if c.isalnum() else "-" for c in claim["id"])


def _name(claim: Mapping) -> str:
    name = str(claim.get("series") or claim["id"].rpartition("/")[2])
    return name[:1].upper() + name[1:]


def _row(claim: Mapping, plot, above: Mapping) -> str:
    """A reason is given once to rows that share it with the one above."""
    verdict, at = claim["verdict"], address(claim)
    told = bool(above) and _failed(claim) == _failed(above)
    told &= all(claim.get(of) == above.get(of) for of in ("verdict", "by"))
    link = f'<a class="strip-link" href="#{at}" aria-label="Link to this claim">#</a>'
    word, said = escape(_word(claim).capitalize()), _said(claim).replace(", ", ",\u00a0")  # an interval is one line
    failed = "" if told or verdict in (HOLDS, EXPLAINED) else f": {_failed(claim)}"
    why = f'<span class="strip-why">{escape(failed)}</span>'
    passes, layer, last = claim.get("where") or (), claim.get("layer"), claim.get("n_layers") or 0
    where = " and ".join(passes) or f"layer {layer} of {last}" if layer is not None and last > 1 else ""  # 1: none
    return (
        f'<tr id="{at}" data-verdict="{verdict}"><th scope="row">{escape(_name(claim))}{link}</th>'
        f'<td class="strip-verdict"><span aria-hidden="true">{SYMBOLS[verdict]}</span> {word}{why}</td>'
        f'<td class="strip-plot">{plot(claim)}</td><td class="strip-value">{said}'
        f'<span class="strip-unit"> {escape(claim.get("unit") or "")}</span></td>'
        f'<td class="strip-where">{escape(where)}</td></tr>'
    )


def _untested(claims: Sequence[Mapping]) -> str:
    """A line for each reason why some could not be tested."""
    reasons: dict[str, list[Mapping]] = {}
    for claim in claims:
        if claim["verdict"] == UNTESTABLE:
            reasons.setdefault(claim["condition"].rstrip("."), []).append(claim)
    lines = ""
    for why, some in reasons.items():
        names = ", ".join(f'<span id="{address(claim)}">{escape(_name(claim))}</span>' for claim in some)
        mark = f'<span aria-hidden="true">{SYMBOLS[UNTESTABLE]}</span> {UNTESTABLE.capitalize()}'
        lines += (
            f'<tr data-verdict="{UNTESTABLE}"><th scope="row">{names}</th>'
            f'<td class="strip-verdict" colspan="4">{mark}<span class="strip-why">: {escape(why)}</span></td></tr>'
        )
    return lines


def _plotter(claims: Sequence[Mapping]):
    """Draws one claim's number, interval, null and controls, on an axis that all of them share, in percent of its
    width: a plot may be narrow, and its dots are not. A control that would take more room than all the others is at
    the edge."""
    own = [claim[of] for claim in claims for of in ("low", "high", "null_high") if claim.get(of) is not None]
    least, most = min([0.0, *own]), max([0.0, *own])
    near = [x for x in chain(*map(_controls, claims)) if 2 * least - most <= x <= 2 * most - least]
    low, high = min([least, *near]), max([most, *near])
    scale = (100 - 2 * EDGE) / ((high - low) or 1)

    def mark(name: str, *values: float) -> str:
        first, last = (f"{EDGE + (value - low) * scale:.2f}%" for value in (values[0], values[-1]))
        return MARKS[name].format(x=f'cx="{first}"' if name == "number" else f'x1="{first}" x2="{last}"')

    def control(value: float) -> str:
        if low <= value <= high:
            return mark("control", value)
        return MARKS["farther control"].format(x='x1="97%" x2="99%"' if value > high else 'x1="3%" x2="1%"')

    def draw(claim: Mapping) -> str:
        null = claim.get("null_high")
        parts = [mark("zero", 0), *([] if null is None else [mark("shuffled", null)])]
        parts += map(control, _controls(claim))
        parts += [mark("95% interval", claim["low"], claim["high"]), mark("number", claim["statistic"])]
        return f'<svg width="100%" height="{HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'

    return draw


def _controls(claim: Mapping) -> list[float]:
    return [of["value"] for of in claim.get("controls", {}).values() if of.get("value") is not None]


def _key() -> str:
    """What the marks of plots mean."""
    told = ""
    for name, drawn in MARKS.items():
        ends = {"95% interval": ("0", "100%"), "farther control": ("30%", "60%")}.get(name, ("50%", "50%"))
        x = 'cx="50%"' if name == "number" else 'x1="{}" x2="{}"'.format(*ends)
        told += f'<span><svg width="16" height="{HEIGHT}" aria-hidden="true">{drawn.format(x=x)}</svg> {name}</span> '
    return f'<p class="strip-key">{told}</p>'


def _word(claim: Mapping) -> str:
    """The verdict as a reader is told it."""
    return in_words(claim["verdict"], claim.get("by", ""))


def _why(claim: Mapping) -> str:
    """What failed, of a claim that was not found, in short."""
    return f"by {claim['by']}" if claim["verdict"] == EXPLAINED else _failed(claim).rpartition(", and ")[2]


def opposite(claim: Mapping) -> bool:
    """Whether the effect is there, of the other sign."""
    return claim["verdict"] == NOT and (claim.get("high") or 0) < 0


def _failed(claim: Mapping) -> str:
    return REVERSED if opposite(claim) else claim["condition"].rstrip(".")


def _said(of: Mapping) -> str:
    return with_band(of.get("statistic", of.get("value")), of.get("low"), of.get("high"))


def _details(claim: Mapping) -> str:
    """What else is known of a claim, in two columns."""
    margins, found = claim.get("margins", {}), claim.get("found")
    controls = {
        name: _said(of) + (f"; apart {_said(margins[name])}" if name in margins else "")
        for name, of in claim.get("controls", {}).items()
    }
    readings = {name: f"{_word(of)}, {_said(of)}" for name, of in (claim.get("readings") or {}).items()}
    layers, last = claim.get("evidence", {}).get("layers", ()), claim.get("n_layers", 0)
    least = claim.get("least") and f"{claim['least']:g}: {claim.get('why_least')}"
    rows = {
        "Rule": claim.get("reason"),
        "Null": claim.get("null"),
        "Reading": claim.get("reading"),
        "Other readings": readings,
        "Controls": controls,
        "Middle layers": {
            f"above the {name}": f"{_said(of)}, p = {of['p']:.2g}" for name, of in claim.get("contrasts", {}).items()
        },
        "Layers that pass": ", ".join(map(str, claim.get("passes") or ())),
        "Form": claim.get("form"),
        "Layers asked": f"{', '.join(map(str, layers))} of {last}" if 1 < len(layers) <= last else "",
        "Items": f"{cell_text(claim.get('n'))}, {cell_text(claim.get('n_units'))} of them independent",
        "Read from": claim.get("items"),
        "Left out": _shares(claim),
        "Smallest effect of interest": least,
        "Planted effects found": found and f"{found['k']} of {found['m']}",
    }
    listed = ""
    for name, said in rows.items():
        lines = [f"{what}: {of}" for what, of in said.items()] if isinstance(said, Mapping) else [said] if said else []
        told = "".join(f"<dd>{escape(line)}</dd>" for line in lines)
        listed += f"<div><dt>{name}</dt>{told}</div>" if told else ""
    return f'<h5 class="strip-of">{escape(_name(claim))}</h5><dl>{listed}</dl>'


def _shares(claim: Mapping) -> dict[str, str]:
    """What was left out, with its share of all."""
    dropped = claim.get("dropped") or {}
    every = sum(dropped.values()) + (claim.get("n") or 0)
    return {why: f"{n} ({n / every:.0%})" for why, n in dropped.items() if n}


# ---- the answer ----


def answer(claims: Sequence[Mapping], about: Mapping[str, str], model: str, again: bool = False) -> Html:
    """What a chapter found on a model: a word, at most three sentences (what was found, what was not and why, and what
    could not be tested) and how the chapter's claims count, those not told among them.

    The word is of the verdicts of the claims answered: Yes where all that could be tested hold, weakly or not, and no
    more could not; In part where some do; where none does, No if more do not hold, or are explained by something
    simpler, than are inconclusive, and no fewer than could not be tested, else Not decided. There is none for
    `ASK_OPENLY`.

    about: by claim, as for `Finding.claims`, what it says in words that follow "that": {"similarity": "twins meet"}.
    again: it stands on the page already, so all but the word, or the first sentence, is folded, and other models are
    not told.
    """
    word, lines = _in_a_word(claims, about), [(name, line) for name, _, line in _told(claims, about)]
    said = [f"<p><b>{name}:</b> {escape(line)}</p>" for name, line in lines]
    html = "".join(said) + f'<p class="answer-count">{_counted(claims)}</p>'
    shown = 0 if word else 1
    if again and len(lines) > shown:
        names = ", ".join(name for name, _ in lines[shown:])
        html = f"{''.join(said[:shown])}<details><summary>{names}</summary>{''.join(said[shown:])}</details>"
    on = f"<b>{word}</b>, on" if word else "On"
    asked = f'data-word="{word}"' + f' data-about="{escape(json.dumps(about))}"' * (not again)
    return Html(
        f'{STYLE}<div class="answer" role="note" aria-label="The answer" {asked}>'
        f'<p class="answer-model">{on} {escape(model)}</p>{html}</div>',
        "\n".join([f"{word}."] * bool(word) + [sentences(claims, about)]),
    )


def _counted(claims: Sequence[Mapping]) -> str:
    """How many of all claims hold, those of traps apart, and over how many independent items."""
    of = Counter(claim["verdict"] for claim in claims if not of_a_trap(claim))
    counts = of[HOLDS] + of[WEAKLY], of[EXPLAINED], of[NOT], of[INCONCLUSIVE], of[UNTESTABLE]
    traps = sum(map(of_a_trap, claims))
    told = dict(zip(SHORT.values(), counts, strict=True)) | {f"trap{'s' * (traps > 1)} shown": traps}
    units = sorted({claim.get("n_units", 0) for claim in claims if claim["verdict"] != UNTESTABLE})
    over = f"; on {' to '.join(map(str, units[:1] + units[1:][-1:]))} independent items" + " each" * (len(claims) > 1)
    said = ", ".join(f"{n} {name}" for name, n in told.items() if n)
    every = f"The chapter's {len(claims)} claims" if len(claims) > 1 else "One claim"
    return f"{every}: {said}{over * bool(units)}."


def sentences(claims: Sequence[Mapping], about: Mapping[str, str]) -> str:
    """Those of an `answer`, a line for each."""
    return "\n".join(f"{name}: {line}" for name, _, line in _told(claims, about))


def _in_a_word(claims: Sequence[Mapping], about: Mapping[str, str]) -> str:
    """The word of an `answer`; none where the chapter asks what, and not whether."""
    if any(claim["id"].partition("/")[0] in ASK_OPENLY for claim in claims):
        return ""
    counted = Counter(claim["verdict"] for some in _families(claims, about).values() for claim in some)
    good, bad = counted[HOLDS] + counted[WEAKLY], counted[NOT] + counted[EXPLAINED]
    return in_a_word(good, bad, counted[INCONCLUSIVE], counted[UNTESTABLE])


def in_a_word(good: int, bad: int, unsure: int, untested: int = 0) -> str:
    """The answer of so many claims, or experiments, that hold, do not, do not tell, and could not be tested."""
    if good:
        return PARTLY if bad or unsure or untested > good else YES
    return NO if bad > unsure and bad >= untested else OPEN


def with_others(page: str, others: Mapping[str, Sequence[Mapping]]) -> str:
    """HTML in which each `answer` has a line for each other model of which there are claims of the same chapter: how
    much was found on it and, unfolded, what."""

    def lines(shown: re.Match) -> str:
        about, more = json.loads(unescape(shown["about"])), ""
        for model, claims in others.items():
            if told := _told(claims, about):
                found = ", ".join(f"{n} {SHORT[name]}" for name, n, _ in told)
                each = "".join(f"<p><b>{name}:</b> {escape(line)}</p>" for name, _, line in told)
                on = f"{word}, on" if (word := _in_a_word(claims, about)) else "On"
                more += (
                    f'<details class="answer-model"><summary>{on} {escape(model)}: {found}</summary>{each}</details>'
                )
        return f"{shown[0].removesuffix('</div>')}{more}</div>"

    return ANSWER.sub(lines, page)


def _families(claims: Sequence[Mapping], about: Mapping[str, str]) -> dict[str, list[Mapping]]:
    """The claims answered, by name in `about`."""
    families = {name: [] for name in about}
    for claim in claims:
        _, _, name = claim["id"].partition("/")
        families.get(name if name in families else name.rpartition("/")[0], []).append(claim)
    return families


def _told(claims: Sequence[Mapping], about: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Of a chapter's claims, by SHORT, how many were found, were not, and why, or could not be tested; and in words."""
    told: dict[str, list[str]] = {name: [] for name in SHORT}
    for name, some in _families(claims, about).items():
        said, good = about[name], [claim for claim in some if claim["verdict"] in (HOLDS, WEAKLY)]
        if good:
            weakly = " (weakly)" * all(claim["verdict"] == WEAKLY for claim in good)
            told["Found"].append(f"{said}{weakly}" + f" ({_names(good)})" * (len(good) < len(some)))
        for lead, verdict in {"Explained": EXPLAINED, "Not found": NOT, "Uncertain": INCONCLUSIVE}.items():
            by_why: dict[str, list[Mapping]] = {}
            for claim in some:
                by_why.setdefault(_why(claim) if claim["verdict"] == verdict else "", []).append(claim)
            whys = [f"{f'{_names(of)}: ' * (len(by_why) > 1)}{why}" for why, of in by_why.items() if why]
            told[lead] += [f"{said} ({'; '.join(whys)})"] * bool(whys)
        if all(claim["verdict"] == UNTESTABLE for claim in some):
            told["Could not be tested"] += [said] * bool(some)
    leads = {"Uncertain": "whether ", "Could not be tested": "whether "}
    return [(name, len(some), leads.get(name, "that ") + "; ".join(some) + ".") for name, some in told.items() if some]


def _names(claims: Sequence[Mapping]) -> str:
    return ", ".join(_name(claim) for claim in claims)
