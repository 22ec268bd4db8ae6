"""Which word does a state hold? The lens on right words against wrong ones (Eq. 2), the plane of their rows."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Unit
from semhub_utils.experiments.core import TOO_LONG, Claim, Experiment, Result, joined, readable, run
from semhub_utils.experiments.numbers import ByAnswer, ByLayer, Chance, Exchange, Kept, Numbers, Scores
from semhub_utils.inputs import Encoding, Input
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.organism.corpus import IMAGE, SOUND
from semhub_utils.spokes.items import Items, LensItem, source_of
from semhub_utils.spokes.languages import Entry, segments
from semhub_utils.states import hidden_states
from semhub_utils.tokens import TargetTable, target_table, word_forms

FREQUENCY_BINS, LEAST_CLASS = 3, 6
NO_ANSWER = "no token of its own for an answer"
ALL, AMONG = "among all words", "among its answers"
OWN_ROW = "own token's row"
PLANE = Unit("distance in the plane", 0.02, "a fiftieth of the length of a row")


@dataclass(frozen=True)
class Words:
    """Words of one token, which of them are an answer, and how often an item names each as wrong. third: the language
    that stands beside the hub's, if the items have their words in one."""

    table: TargetTable
    own: Mapping[str, Bool[np.ndarray, "answer word"]]
    wrong: Mapping[str, Float[np.ndarray, "item word"]]
    third: str = ""
    of_items: ClassVar = ("wrong",)


def words_of(model: LanguageModel, items: Sequence[LensItem], hub: str, own: str) -> Kept:
    """The items with a word of one token for `hub` and for `own`, and a wrong hub word; the others by reason. Where all
    that are kept have such words in a third language, that is there too."""
    every = dict.fromkeys(w for i in items for some in (*i.targets.values(), *i.wrong.values()) for w in some)
    table = target_table(model, every, items[0].prompt if items else "")
    if not table:
        return Kept([], {"no token of its own for any word": len(items)} if items else {})
    single, kept, dropped = table.single, [], Counter()
    for item in items:
        missing = next((name for name in (hub, own) if not single & {*item.targets[name]}), None)
        if {*item.targets[hub]} & {*item.targets[own]}:
            dropped[f"{hub} and {own} are the same word"] += 1
        elif missing:
            dropped[f"no single token of its own for the {missing}"] += 1
        elif not ({*item.wrong.get(hub, ())} - {*item.targets[hub]}) & single:
            dropped[f"no wrong {hub} to compare with"] += 1
        else:
            kept.append(item)
    others = [name for name in (kept[0].targets if kept else ()) if name not in (hub, own)]
    told = [name for name in others if all(single & {*i.targets[name]} and single & {*i.wrong[name]} for i in kept)]
    third = (*told, "")[0]
    names = filter(None, (hub, own, third))
    answers = {name: list(dict.fromkeys(item.targets[name] for item in kept)) for name in names}
    target = {name: np.array([some.index(i.targets[name]) for i in kept], int) for name, some in answers.items()}

    def count(rows: Sequence[Sequence[str]]) -> Float[np.ndarray, "row word"]:
        counts = [[row.count(w) if w in single else 0 for w in table.words] for row in rows]
        return np.array(counts, float).reshape(len(rows), len(table.words))

    wrong = {name: count([item.wrong[name] for item in kept]) for name in (kept[0].wrong if kept else ())}
    of = {name: count(a) > 0 for name, a in answers.items()}
    return Kept(kept, dict(dropped), target, Words(table, of, wrong, third))


@dataclass(frozen=True)
class Lens(Experiment):
    """Does the lens (Eq. 2) read the hub's word (`targets[hub]`) at middle layers, and the own token (`targets[own]`)
    at the end?

    `lens-meaning`: log P(right hub word) minus the mean over the wrong hub words of its class, against targets shuffled
    among items of a group; each word is right for some items and wrong for others, so frequency is matched by design.
    Controls: "own token's row", what a state would show that holds nothing but the own token, as rows of translations
    are alike: the own token's lead over others, times the hub word's lead over that of the own token in a state that is
    the own token's row; and where items have them, the words of a third language, which are as right as the hub's.
    `lens-lead`: log P(right hub word) minus the larger of log P(own token) and that mean, so that a model that favours
    hub words whatever they mean cannot win; against chance too, as the right answers may be likelier words than most of
    their class. `lens-end`: log P(own token) minus log P(right hub word) at the last layer. Of several right words the
    likeliest counts. Curves: probabilities (of the wrong words the mean), how often a word, in any of its
    forms, comes first, the entropy, and in the raw reading by how much likelier the normed one has it (`lens-gap`).
    """

    hub: str
    own: str
    parts: ClassVar[str] = "cluster"

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim("lens-meaning", self.hub),
            Claim("lens-end", self.own, (Chance("moves_with"),), "last"),
            Claim("lens-lead", self.hub, (Exchange(), Chance("moves_with"))),
        )

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        return words_of(model, items, self.hub, self.own)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        words, hidden = kept.more, hidden_states(reader, prompts).hidden
        table, own, wrong = words.table, words.own, words.wrong
        seen = lens(reader, hidden, targets=table.ids, top_k=1, entropy=True, reading=reading)
        logprob = word_logprobs(seen.logprob, table.groups).double().numpy()  # [item, layer, word]
        best = {name: _best(logprob, of) for name, of in own.items()}  # [item, layer, answer]
        right = {name: np.take_along_axis(of, kept.target[name][:, None, None], 2) for name, of in best.items()}
        above = best[self.hub] - others(logprob, kept, self.hub)
        found: Numbers = {
            ("lens-meaning", self.hub): Scores(above, self._beaten(reader, kept, logprob, best)),
            ("lens-end", self.own): best[self.own] - right[self.hub],
            ("lens-lead", self.hub): np.minimum(above, best[self.hub] - right[self.own]),
            ("lens-entropy", ""): seen.entropy.double().numpy(),
        }
        # what comes first; a token that begins none of the words is the last column
        first = table.word_of_token(reader.vocab_size)[seen.top_ids[..., 0].numpy()]
        for name, of in best.items():
            found["lens-probability", name] = np.exp(of)
            found["lens-first", name] = _padded(own[name])[:, first].transpose(1, 2, 0)
        with np.errstate(invalid="ignore"):  # an item may have no wrong word of one token
            shares = {name: of / of.sum(1, keepdims=True) for name, of in wrong.items()}
        for name, share in shares.items():
            found["lens-probability", f"wrong {name}"] = np.einsum("ilw,iw->il", np.exp(logprob), share)
        found["lens-first", f"wrong {self.hub}"] = np.take_along_axis(_padded(shares[self.hub]), first, 1)
        if reading == "raw":
            normed = word_logprobs(lens(reader, hidden, targets=table.ids).logprob, table.groups).double().numpy()
            found |= {("lens-gap", name): np.exp(_best(normed, of)) - np.exp(best[name]) for name, of in own.items()}
        return found

    def _beaten(
        self,
        reader: LanguageModel,
        kept: Kept,
        logprob: Float[np.ndarray, "item layer word"],
        best: Mapping[str, ByAnswer],
    ) -> dict[str, ByLayer]:
        """What the right hub word has to lead by more than: see above."""
        words, index = kept.more, np.arange(len(kept.items))

        def lead(name: str, said: np.ndarray, of: ByAnswer) -> ByLayer:
            return (of - others(said, kept, name))[index, :, kept.target[name]]

        found = {words.third: lead(words.third, logprob, best[words.third])} if words.third else {}
        rows = {form.word: form.unembedding_row(reader) for form in words.table.forms}
        own = [next(word for word in item.targets[self.own] if word in words.table.single) for item in kept.items]
        if own and all(rows[word] is not None for word in own):
            alone = lens(
                reader, torch.stack([rows[word] for word in own])[:, None], targets=words.table.ids, layers=[0]
            )
            said = word_logprobs(alone.logprob, words.table.groups).double().numpy()
            hub, mine = (lead(name, said, _best(said, words.own[name])) for name in (self.hub, self.own))
            found[OWN_ROW] = lead(self.own, logprob, best[self.own]) * hub / mine
        return found


def others(logprob: Float[np.ndarray, "item layer word"], kept: Kept, name: str) -> ByAnswer:
    """The mean over the words of an item's class but the answer's own, whichever answer it is given; a wrong word
    counts as often as it is named. Where none is named, all other items' words are the class."""
    answers = kept.more.own[name]
    right = answers[kept.target[name]]  # [item, word]
    named = kept.more.wrong.get(name, np.broadcast_to(answers.any(0), right.shape))
    of_class = np.where(right, 1.0, named)
    other = 1.0 - answers.T  # [word, answer]
    with np.errstate(invalid="ignore"):  # nan where there is one answer only
        return (logprob * of_class[:, None]) @ other / (of_class @ other)[:, None]


def _best(logprob: Float[np.ndarray, "item layer word"], answers: Bool[np.ndarray, "answer word"]) -> ByAnswer:
    """The likeliest of each answer's words."""
    return np.stack([logprob[:, :, of].max(2) for of in answers], axis=2)


def _padded(counts: np.ndarray) -> Float[np.ndarray, "row column"]:
    return np.pad(counts.astype(float), ((0, 0), (0, 1)))


def by_part(
    lens: Lens, model: LanguageModel, items: Sequence[LensItem], *, series: str, seed: int = 0, **options: Any
) -> Result:
    """`run` for each part of speech alone, claims `<claim>/<series>, <part>`; the table adds the column `part`."""
    found = [(pd.DataFrame({"experiment": [], "part": []}), [])]
    for part in dict.fromkeys(item.group.partition(",")[0] for item in items):
        chosen = [item for item in items if item.group.partition(",")[0] == part]
        given = options | {"series": f"{series}, {part}", "columns": {"part": part}, "seed": seed}
        found.append(run(lens, model, chosen, **given))
    return joined(found)


@dataclass(frozen=True)
class Trajectory(Experiment):
    """Where do states pass in the plane that tells the unembedding rows of the hub's and the own words apart?

    rows: the words of one token, by series. The plane is the first two principal components of their rows. Rows and
    states are scaled to length 1 first: states are many times longer than rows, and would lie far from all words. Claim
    `trajectory`: how much nearer a state is to the row of its own hub word than to the mean of the other hub words, in
    that plane, against targets shuffled among items of a group. Controls: the same of the own token's row, where a path
    ends that goes by no hub word; random weights, which have a plane of their own rows. Tables: `trajectory-path`
    (x, y per item and layer), `trajectory-word` (x, y per word). Fewer than three rows span no plane.
    """

    rows: Mapping[str, tuple[str, ...]]
    hub: str
    own: str

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (Claim("trajectory", self.hub, embedded=False, unit=PLANE),)

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        words = [word for some in self.rows.values() for word in some]
        table = target_table(model, words, items[0].prompt if items else "")
        token = {form.word: form.ids[0] for form in table.forms if form.single}
        hubs = [word for word in self.rows[self.hub] if word in token]
        plane = len(token) > 2 and len(hubs) > 1
        kept = [i for i in items if plane and {i.targets[self.hub][0], i.targets[self.own][0]} <= {*token}]
        target = {self.hub: np.array([hubs.index(i.targets[self.hub][0]) for i in kept], int)}
        lost = {"no single token of its own for a word": len(items) - len(kept)}
        return Kept(kept, lost, target, (token, hubs, items))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        token, hubs, items = kept.more
        rows = normalize(reader.unembedding.detach()[list(token.values())].float().cpu(), dim=-1)
        centre = rows.mean(0)
        axes = torch.linalg.svd(rows - centre, full_matrices=False)[2][:2]
        hidden = hidden_states(reader, [item.prompt for item in items]).hidden  # those left out are drawn, too
        with torch.inference_mode():
            flat = reader.normalise(hidden.flatten(0, 1).to(reader.device), norm=reading == "normed")
        flat = normalize(flat.detach().float().cpu(), dim=-1)
        words, paths = (rows - centre) @ axes.T, ((flat - centre) @ axes.T).unflatten(0, hidden.shape[:2])
        own, place = {id(item) for item in kept.items}, [*token]
        ends = words[[place.index(item.targets[self.own][0]) for item in kept.items]][:, None]
        nearer, at_own = (
            (distance.sum(-1, keepdims=True) - distance) / (len(hubs) - 1) - distance
            for points in (paths[[id(item) in own for item in items]], ends)
            for distance in [torch.cdist(points, words[[place.index(w) for w in hubs]]).double().numpy()]
        )
        said = [(item.targets[self.hub][0], item.targets[self.own][0]) for item in items]
        named = zip((item.id for item in items), said, paths.tolist(), strict=True)
        steps = [(name, *of, layer, *at) for name, of, path in named for layer, at in enumerate(path)]
        path = pd.DataFrame(steps, columns=["series", "word", "token", "layer", "x", "y"])
        path = path.assign(experiment="trajectory-path", reading=reading, depth=path.layer / reader.n_layers)
        kinds = {word: name for name, some in self.rows.items() for word in some}
        drawn = pd.DataFrame(words.tolist(), columns=["x", "y"]).assign(experiment="trajectory-word", word=place)
        return {
            ("trajectory", self.hub): Scores(nearer, {OWN_ROW: kept.own(at_own, self.hub)}),
            ("trajectory-path", ""): path,
            ("trajectory-word", ""): drawn.assign(series=[kinds[word] for word in place]),
        }


# ---- words of running text ----


def word_items(
    model: LanguageModel,
    texts: Sequence[str],
    language: str,
    dictionary: Mapping[str, Entry],
    counts: Mapping[str, int],
    *,
    n_words: int,
    seed: int = 0,
) -> Items:
    """Up to `n_words` words of running text, drawn by `seed`, to be read at the position before them; the others are
    left out and counted.

    A word stays if it is one token of the text, found by character offsets; if the text before it, read alone, gives
    the same tokens; if the dictionary has it; and if at least one of its English words is one token and none is the
    word itself. Targets: "english" and "own". Wrong words are those of the other words drawn, as often as they were,
    of the same part of speech and field and, where these are many, the same third by how often the English occurs
    (`counts`). Cluster and anchor: the English words.
    """
    fit = readable(model, [*texts], lambda text: text)
    ready, dropped = [], Counter({f"in a text {TOO_LONG}": len(texts) - len(fit)})
    before = _words_before(model, model.encode(fit), language)
    entries = [dictionary.get(word) or dictionary.get(word.lower()) for _, word, _ in before]
    english = dict.fromkeys(word for entry in entries if entry for word in entry.english)
    single = {form.word for form in word_forms(model, english) if form.single}
    for (prefix, word, reason), entry in zip(before, entries, strict=True):
        known = [w for w in entry.english if w in single] if entry else []
        if reason or entry is None:
            dropped[reason or "not in the dictionary"] += 1
        elif word.casefold() in {w.casefold() for w in entry.english}:
            dropped["english and own are the same word"] += 1
        elif not known:
            dropped["no English word of one token"] += 1
        else:
            ready.append((prefix, word, replace(entry, english=tuple(known))))
    order = sorted(np.random.default_rng(seed).permutation(len(ready))[:n_words].tolist())
    source = ", ".join(sorted({source_of(texts), source_of(getattr(dictionary, "read", ()))}))
    found = Items(matched([ready[i] for i in order], counts), source)
    found.dropped += dropped  # without those that there are none of
    return found


def _words_before(model: LanguageModel, texts: Sequence[Encoding], language: str) -> list[tuple[str, str, str]]:
    """(text before it, word, why it cannot be read) of every word of the texts."""
    rows, asked, expected = [], [], []
    for whole in texts:
        text = whole.text
        for start, end in segments(text, language):
            inside = [k for k, (a, b) in enumerate(whole.offsets) if a < end and b > start]
            exact = len(inside) == 1 and text[slice(*whole.offsets[inside[0]])].strip() == text[start:end]
            prefix = text[: whole.offsets[inside[0] - 1][1]] if exact and inside[0] else ""
            reason = "" if prefix else "several tokens, or part of one" if not exact else "first word of its text"
            if exact and whole.ids[inside[0]] == model.tokenizer.unk_token_id:
                prefix, reason = "", "unknown to the tokenizer"
            if prefix:
                asked.append(len(rows))
                expected.append(whole.ids[: inside[0]])
            rows.append((prefix, text[start:end], reason))
    for row, ids, encoding in zip(asked, expected, model.encode([rows[row][0] for row in asked]), strict=True):
        if encoding.ids != ids:
            rows[row] = (*rows[row][:2], "the tokens before it change where the text ends")
    return rows


def matched(ready: Sequence[tuple[str, str, Entry]], counts: Mapping[str, int]) -> list[LensItem]:
    """Items of (text before the word, word, entry) with their groups and the wrong words of each group."""
    often = {entry: max(counts.get(w.lower(), 0) for w in entry.english) for _, _, entry in ready}
    level = {}
    for kind in {(entry.part, entry.field) for entry in often}:
        row = sorted((e for e in often if (e.part, e.field) == kind), key=lambda e: (often[e], e.english))
        bins = max(1, min(FREQUENCY_BINS, len(row) // LEAST_CLASS))
        level |= {entry: bins * rank // len(row) for rank, entry in enumerate(row)}
    groups = [f"{entry.part}, {entry.field}, frequency {level[entry]}" for _, _, entry in ready]
    classes: dict[str, list[tuple[str, Entry]]] = {}
    for (_, word, entry), group in zip(ready, groups, strict=True):
        classes.setdefault(group, []).append((word, entry))
    found = []
    for number, ((prefix, word, entry), group) in enumerate(zip(ready, groups, strict=True)):
        others = [(w, e) for w, e in classes[group] if w != word and not set(e.english) & set(entry.english)]
        wrong = {"english": tuple(w for _, e in others for w in e.english), "own": tuple(w for w, _ in others)}
        at, said = f"{number}: {prefix[-30:]} | {word}", " / ".join(entry.english)
        targets = {"english": entry.english, "own": (word,)}
        found.append(LensItem(at, prefix, targets, said, wrong, group=group, anchor=said))
    return found


# ---- answers, and whether a model can do what its states are read for ----


@dataclass(frozen=True)
class _Offered:
    """Words that are an answer, which of them an item is offered, and which is the commonest of its group."""

    words: TargetTable
    offered: Bool[np.ndarray, "item word"]
    common: Int[np.ndarray, " item"]
    of_items: ClassVar = ("offered", "common")


@dataclass(frozen=True)
class Answers(Experiment):
    """Is the answer given right more often than if the commonest were always given?

    The answer given is the word that the likeliest token begins or, `among` the answers, the likeliest of the wrong
    ones that an item names (`wrong[own]`) and the right one, the first of `targets[own]`. Claim `answers`, of the last
    layer alone: 1 if the right answer is given, minus 1 if it is the commonest of the item's group; against answers
    shuffled among the items of a group, those of an anchor together. Curves, of one layer: the share of right answers
    (`answers`; reading ALL and AMONG), what always giving the commonest would get (`answers-commonest`), where the
    items have `targets["english"]` the share of right answers in English (`answers-english`), and a row per item
    (`task-answers <series>`).
    """

    own: str = "own"
    among: bool = False
    columns: ClassVar[tuple[str, ...]] = ("cluster",)
    parts: ClassVar[str] = "cluster"

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = {
            "unit": Unit.share("answers"),
            "null_in_words": "answers shuffled among the prompts",
            "named": "answers",
        }
        reading = AMONG if self.among else ALL
        return (Claim("answers-gain", window="last", outcome=True, reading=reading, **said),)

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        """Items go where the right or a wrong answer has no token, or one that another answer shares."""
        choices = [(i.targets[self.own][0], *(i.wrong[self.own] if self.among else ())) for i in items]
        words = target_table(model, chain(*choices), text_of(items[0].prompt)) if items else None
        known = words.words if words else ()
        kept = [(item, some) for item, some in zip(items, choices, strict=True) if len({*some} & {*known}) == len(some)]
        right = np.array([known.index(some[0]) for _, some in kept], int)
        offered = np.array([[word in some for word in known] for _, some in kept])
        of_group: dict = defaultdict(Counter)
        for (item, _), answer in zip(kept, right, strict=True):
            of_group[item.group][answer] += 1
        common = np.array([of_group[item.group].most_common(1)[0][0] for item, _ in kept], int)
        more = _Offered(words, offered, common)
        return Kept([i for i, _ in kept], {NO_ANSWER: len(items) - len(kept)}, right, more)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        words, offered, common = kept.more.words, kept.more.offered, kept.more.common
        hidden = hidden_states(reader, [asked(reader, p) for p in prompts], layers=[reader.n_layers]).hidden
        seen = lens(reader, hidden, targets=words.ids, top_k=1)
        top = seen.top_ids[:, 0, 0].numpy()
        given = first = words.word_of_token(reader.vocab_size)[top]
        if self.among:
            logprob = word_logprobs(seen.logprob[:, 0], words.groups).numpy()
            given = np.where(offered, logprob, -np.inf).argmax(-1)
        right, answers = given == kept.target, np.arange(len(words.words))
        shares = {
            ("answers", AMONG if self.among else ALL): right,
            ("answers", ALL): first == kept.target,
            ("answers-commonest", AMONG if self.among else ALL): common == kept.target,
        }
        if all("english" in item.targets for item in kept.items):
            english = [item.targets["english"] for item in kept.items]
            table = target_table(reader, chain(*english), text_of(kept.items[0].prompt))
            said = np.array([*table.words, ""])[table.word_of_token(reader.vocab_size)[top]] if table else top
            shares["answers-english", ALL] = np.array([w in some for w, some in zip(said, english, strict=True)])
        gain = (given[:, None] == answers).astype(float) - (common[:, None] == answers)
        found: Numbers = {("answers-gain", ""): gain[:, None]}
        for (what, how), share in shares.items():
            found[what, "", (("reading", how),)] = Scores(share[:, None].astype(float), alone=True)
        return found | {("task-answers", ""): task_rows(f"answers {kept.series}", kept.items, right)}


def task_rows(series: str, items: Sequence, right: Sequence | np.ndarray) -> pd.DataFrame:
    """Whether, or to which share, each item is done right: the rows `task-<series>`, for `Chapter.knows`."""
    of_item = {"series": [item.id for item in items], "cluster": [item.cluster for item in items]}
    if len({*of_item["series"]}) < len(items):  # one thing is asked in several ways
        of_item["prompt"] = [text_of(item.prompt) for item in items]
    return pd.DataFrame({"experiment": f"task-{series}", **of_item, "value": np.array(right, float), "n": 1})


def task_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: 1 if the model's likeliest next token begins the item's own answer, else 0.

    The precondition of lens and intervention: a model that cannot do the task cannot show how it does it.
    """
    if not items:
        return task_rows(series, items, [])
    hidden = hidden_states(model, [asked(model, item.prompt) for item in items], layers=[model.n_layers]).hidden
    top = lens(model, hidden, top_k=1).top_ids[:, 0, 0].tolist()
    forms = (word_forms(model, item.targets[own], text_of(item.prompt)) for item in items)
    right = [any(token in form.ids for form in some) for token, some in zip(top, forms, strict=True)]
    return task_rows(series, items, right)


def choice_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: the share of the wrong own words than which the model's output finds the right one likelier.

    The precondition of reading running text: a model that knows the language is above one half. Most words of a text
    cannot be foretold, so being right outright is too much to ask.
    """
    value = np.full(len(items), np.nan)
    every = dict.fromkeys(w for item in items for w in (*item.targets[own], *item.wrong[own]))
    words = target_table(model, every, text_of(items[0].prompt)) if items else None
    if words:
        hidden = hidden_states(model, [item.prompt for item in items], layers=[model.n_layers]).hidden
        logprob = word_logprobs(lens(model, hidden, targets=words.ids).logprob[:, 0], words.groups).double().numpy()
        column = {w: k for k, w in enumerate(words.words)}
        for i, item in enumerate(items):
            right, wrong = ([column[w] for w in some if w in column] for some in (item.targets[own], item.wrong[own]))
            if right and wrong:
                value[i] = (logprob[i, right].max() > logprob[i, wrong]).mean()
    table = task_rows(series, items, value)
    return table[np.isfinite(value)].reset_index(drop=True)


def text_of(prompt: str | Input) -> str:
    """What a word stands behind; its tokens do not depend on the name of a placeholder before it."""
    return prompt.text if isinstance(prompt, Input) else prompt


def asked(model: LanguageModel, prompt: str | Input | None) -> str | Input | None:
    """A prompt as this model takes it. Where a text has the spokes' SLOT, the model's own placeholder; where it has
    none, it is a plain question and becomes a turn of the model's chat template, if that has one, and what stands
    behind a line break is the beginning of the answer. Raises SemhubError where the model does not take the medium."""
    if not isinstance(prompt, Input) or not (prompt.images or prompt.sounds):
        return prompt
    slot, medium = (IMAGE, "image") if prompt.images else (SOUND, "sound")
    mark = model.placeholder(medium)
    if slot in prompt.text:
        return replace(prompt, text=prompt.text.replace(slot, mark))
    question, _, answer = prompt.text.partition("\n")
    try:
        turn = model.chat(replace(prompt, text=question))
    except SemhubError:  # no template
        return replace(prompt, text=prompt.text.replace("\n", " "))
    space = "" if turn.text[-1:].isspace() else " "
    return replace(turn, text=f"{turn.text}{space}{answer}") if answer else turn
