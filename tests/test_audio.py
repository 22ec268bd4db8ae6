"""Sounds and their labels: every number against plain transformers, and truth and absence that were planted."""

import itertools
import random
from collections import defaultdict
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from architectures import make_media_module
from oracle import MediaOracle
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import HOLDS, NOT, UNTESTABLE, WEAKLY, bootstrap_interval, judge
from semhub_utils.experiments import core, words
from semhub_utils.experiments.core import Kept, readable, run
from semhub_utils.experiments.interventions import AWAY
from semhub_utils.experiments.media import ALIKE, FEW_ANIMALS, OTHER, AnimalPush, push_animals
from semhub_utils.experiments.numbers import Weighed
from semhub_utils.experiments.regions import AlikeLabel, Labels, LabelWords, labelled, sound_lens
from semhub_utils.inputs import Input, Sound
from semhub_utils.models import randomised, wrap
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.audio import KindItem, kind_items
from semhub_utils.spokes.items import SOUNDS, Items, without_content

NAME = "qwen2-audio"
WORDS = {"cat": ("equals", "and"), "dog": ("second", "the"), "house": ("ocho", "gat")}
WORDS |= {"river": ("rive",), "five": ("equ",)}


def clip(label, number, *, words=None, group="", kind="", cluster=None, seconds=0.3):
    """A tone of its label with noise of its own."""
    rng, pitch = np.random.default_rng(number), 300 * (1 + list(WORDS).index(label))
    time = np.arange(int(seconds * 16000)) / 16000
    samples = 0.4 * np.sin(2 * np.pi * pitch * time) + 0.02 * rng.standard_normal(len(time))
    words = WORDS[label] if words is None else words
    return audio.Clip(f"{label}{number}", samples.astype(np.float32), 16000, label, group, words, kind, (),
                      cluster or f"{label}{number}")  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return wrap(*make_media_module(NAME), model_id="tiny")


class Plain(MediaOracle):
    """One prompt at a time in float64, with the library's processor and nothing of the package."""

    def __init__(self, module=None):
        own, processor = make_media_module(NAME)
        super().__init__(module or own, processor)

    def forms(self, word, after=""):
        """The tokens that a word may be, with and without a space, where it is one; else those it begins with."""
        before, *pieces = (
            self.tokenizer(after + s, add_special_tokens=False).input_ids for s in ("", word, " " + word)
        )
        own = [ids[len(before) :] for ids in pieces if ids[: len(before)] == before]
        blank = self.tokenizer.convert_tokens_to_ids("Ġ")
        own = [ids[ids[0] == blank :] for ids in own]  # a space by itself begins no word
        return sorted({ids[0] for ids in own if len(ids) == 1} or {ids[0] for ids in own})

    def heard(self, text, samples=None, push=None):
        """States [layer, token, hidden], frames, and log P of the next token. push: (layer, vector)."""
        given = self.ids(text if samples is None else Input(text, sounds=(Sound(samples, 16000),)))
        frames, states = (given["input_ids"][0] == self.tokenizer.audio_token_id).nonzero()[:, 0], []

        def see(h, layer):
            if push is not None and push[0] == layer:
                h = h.clone()
                h[0, frames] += push[1]
            states.append(h[0])
            return h

        with ExitStack() as stack:
            for layer in range(len(self.blocks) + 1):
                stack.enter_context(self.changed(layer, partial(see, layer=layer)))
            logits = self.logits(given)
        return torch.stack(states), frames, logits[-1].log_softmax(-1)

    def words(self, logprob, words, after=""):
        """The probability of words [..., word]."""
        return torch.stack([logprob[..., self.forms(word, after)].exp().sum(-1) for word in words], -1)


@pytest.fixture(scope="module")
def plain():
    return Plain()


def curve_of(table, experiment, series, reading=None, control=""):
    rows = table[(table.experiment == experiment) & (table.series == series)]
    if reading is not None:
        rows = rows[rows.reading == reading]
    if "control" in rows:
        rows = rows[rows.control.fillna("") == control]
    return rows.sort_values("layer").value.to_numpy(float)


def close(ours, theirs, rtol=2e-4):
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), atol=5e-5, rtol=rtol)


def labels_of(model, clips, frame="{}"):
    return core.run(AlikeLabel(frame), model, clips, series="s", over="moves_with", twins=())


def label_words(model, clips, **options):
    return core.run(LabelWords(), model, clips, **{"series": "s", "over": "moves_with", "twins": ()} | options)


# ---- the numbers ----


GROUPS = {"cat": "animal", "dog": "animal", "house": "thing", "river": "thing", "five": "thing"}


def test_similarity_agrees_with_one_at_a_time(model, plain):
    clips = [clip(label, n, group=GROUPS[label]) for n in range(2) for label in WORDS]
    table, claims = labels_of(model, clips, "{} plus")
    a = [plain.heard("<end><audio> plus", c.samples)[0][:, -1] for c in clips]  # the tokenizer puts nothing first
    b = {label: plain.heard(f"<end>{label} plus")[0][:, -1] for label in WORDS}
    cosine = {label: torch.stack([torch.cosine_similarity(x, b[label], dim=-1) for x in a]) for label in WORDS}
    for reading in ("corrected", "as released"):
        score = []
        for i, c in enumerate(clips):
            others = [o for o in WORDS if o != c.label and (reading == "as released" or GROUPS[o] == GROUPS[c.label])]
            score.append(cosine[c.label][i] - torch.stack([cosine[o][i] for o in others]).mean(0))
        close(curve_of(table, "clip-label", "s", reading), torch.stack(score).mean(0))
    close(curve_of(table, "clip-cosine", "s"), torch.stack([cosine[c.label][i] for i, c in enumerate(clips)]).mean(0))
    best = torch.stack([cosine[label] for label in WORDS], -1).argmax(-1)
    right = torch.tensor([list(WORDS).index(c.label) for c in clips])[:, None]
    found = curve_of(table, "clip-retrieval", "s")
    close(found[1:], (best == right).double().mean(0)[1:])
    close(curve_of(table, "clip-retrieval", "chance"), [1 / 5] * 4)
    assert claims[0].unit == "cosine" and claims[0].n == 10 and claims[0].n_clusters == 10


@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_label_words_agree_with_one_at_a_time(model, plain, reading):
    clips = [clip(label, n, seconds=0.3 + 0.2 * n) for n in range(2) for label in WORDS]
    table, (claim,) = label_words(model, clips, readings=(reading,))
    want, ids = defaultdict(list), [[i for word in some for i in plain.forms(word)] for some in WORDS.values()]

    def read(samples):
        states, frames, _ = plain.heard("", samples)
        logprob = plain.read(states[:, frames], reading)  # [layer, frame, vocab], and [layer, frame, label]
        return logprob, torch.stack([plain.words(logprob, some).mean(-1) for some in WORDS.values()], -1)

    def sides(values, own):
        """Of the own label, and the mean over those as long."""
        others = [k for k, label in enumerate(WORDS) if k != own and len(WORDS[label]) == sizes[own]]
        return values[:, own], values[:, others].mean(1)

    sizes = [len(some) for some in WORDS.values()]
    for n, c in enumerate(clips):
        (logprob, chance), own = read(c.samples), list(WORDS).index(c.label)
        firsts = torch.stack([torch.isin(logprob.argmax(-1), torch.tensor(some)).double().mean(-1) for some in ids], -1)
        for what, values in (("label-probability", chance.mean(1)), ("label-first", firsts)):
            for name, side in zip(("own label", "other labels"), sides(values, own), strict=True):
                want[what, name].append(side)
        place = (logprob[..., None, :] > logprob[..., ids[own], None]).sum(-1) + 1
        want["label-rank", "own label"].append(place.amin(-1).double().mean(-1))
        want["label-entropy", "s"].append(-(logprob.exp() * logprob).sum(-1).mean(-1))
        part = np.arange(logprob.shape[1]) * 8 // logprob.shape[1]
        said = {("label-words", "s"): chance} | {
            ("label-time", "s", (t + 0.5) / 8): chance[:, part == t] for t in {*part}
        }
        said |= {way: read(without_content(Sound(c.samples, 16000), way, seed=n).samples)[1] for way in SOUNDS}
        for key, values in said.items():  # a short clip has no frame in some parts
            right, wrong = sides(values.mean(1).log(), own)
            want[key].append(right - wrong)
    for key, values in want.items():
        if key in SOUNDS:
            close(claim.controls[key].values, torch.stack(values).mean(0))
        else:
            rows = table[table.time == key[2]] if len(key) == 3 else table
            close(curve_of(rows, *key[:2]), torch.stack(values).mean(0), rtol=0.02 if key[0] == "label-rank" else 2e-4)
    assert claim.n == 10 and not claim.dropped and set(claim.controls) == {"embedding layer", *SOUNDS}


def test_label_words_as_released_agree_with_one_at_a_time(model, plain):
    clips = [clip(label, n, group=GROUPS[label]) for n in range(2) for label in WORDS]
    table, (claim,) = label_words(model, clips, readings=("as released",), seed=2)
    numbers = {}
    for c in clips:
        states, frames, _ = plain.heard("", c.samples)
        raw, normed = (plain.read(states[:, frames], reading) for reading in ("raw", "normed"))
        logprob = torch.cat([raw[:-1], normed[-1:]])
        numbers[c.id] = {label: plain.words(logprob, words).mean((1, 2)) for label, words in WORDS.items()}
    own = {label: sum(numbers[c.id][label] for c in clips if c.label == label) for label in WORDS}
    close(curve_of(table, "label-probability", "own label"), sum(own.values()) / 10)
    # one other label for each, of any group and length: some choice fits at all layers
    found = np.array(claim.values)
    choices = itertools.product(*[[o for o in WORDS if o != label] for label in WORDS])
    theirs = [
        (sum(own.values()) - sum(numbers[c.id][to[list(WORDS).index(c.label)]] for c in clips)) / 10 for to in choices
    ]
    assert np.abs(torch.stack(theirs).numpy() - found).max(1).min() < 1e-7
    assert claim.unit == "probability" and set(table.experiment) == {"label-words", "label-probability"}


ANIMALS = {"equals": True, "and": True, "second": True, "ocho": False, "the": False, "gat": False}


def questions(model, n=12, prompt="<sound> plus", answers=("five", "three", "eight")):
    """Questions about labels that stand for animals; the first three are called mammals."""
    rng, items = random.Random(0), []
    for number in range(n):
        label = list(ANIMALS)[number % 6]
        sound = clip(list(WORDS)[number % 5], number, kind="mammal" if ANIMALS[label] else "bird")
        sound = replace(sound, label=label, cluster=f"{label} {number // 6}")
        other, alike = (rng.choice([a for a in ANIMALS if a != label and (ANIMALS[a] == ANIMALS[label]) is same])
                        for same in (False, True))  # fmt: skip
        items.append(KindItem(sound, prompt, answers, int(not ANIMALS[label]), other, alike))
    return items


def test_kind_answers_agree_with_one_at_a_time(model, plain):
    items = questions(model)
    table, (claim,) = run(words.Answers(among=True), model, [item.asked for item in items], series="s", twins=())
    assert set(claim.controls) == {*SOUNDS}
    said, outright = [], []
    for item in items:
        logprob = plain.heard("<audio> plus", item.clip.samples)[2]
        said.append(int(plain.words(logprob, item.answers, "<audio> plus").argmax(-1)) == item.right)
        outright.append(int(logprob.argmax()) in plain.forms(item.answers[item.right], "<audio> plus"))
    rows = table[(table.experiment == "answers")].set_index("reading").value
    close(rows["among its answers"], np.mean(said))
    close(rows["among all words"], np.mean(outright))
    close(claim.values, [np.mean(said) - 0.5])  # as many mammals as others
    task = table[table.experiment == "task-answers s"]
    assert task.value.tolist() == [float(x) for x in said] and len(set(task.cluster)) == 12


def parts(push, items, seed=0):
    """Numbers of the items for choosing, and of the others."""
    choosing = push.split(Kept(items, seed=seed))
    return np.flatnonzero(choosing), np.flatnonzero(~choosing)


@pytest.mark.parametrize("by", ["unembedding", "states"])
def test_pushes_agree_with_one_at_a_time(model, plain, by):
    items = questions(model, 24)
    asked = {
        "english": items,
        "other": [replace(i, prompt="three<sound> plus", answers=("nine", "two")) for i in items],
    }
    push = AnimalPush(by=by, strengths=(0.5, 2.0))
    table, claims = push_animals(push, model, asked)
    dose = table[(table.experiment == "push-dose") & table.control.isna()]
    (layer,) = claims[0].layers
    choosing, report = parts(push, items)

    def row(word, at=layer, reader=plain):
        if by == "unembedding":
            return reader.head.weight[reader.forms(word)].mean(0).detach()
        return reader.heard("<end>" + word)[0][at, -1]

    def share(item, vector, s, text, raw=False, at=layer, reader=plain):
        states, frames, logprob = reader.heard("<audio> plus", item.clip.samples)  # in the first language
        length = states[at, frames].norm(dim=-1).mean()
        if s:
            unit = vector if raw else vector / vector.norm() * length
            logprob = reader.heard(text, item.clip.samples, push=(at, s * unit))[2]
        p = reader.words(logprob, item.answers, text)
        return float(p[0] / p.sum())

    texts = {"english": "<audio> plus", "other": "three<audio> plus"}
    chosen = float(claims[0].unit.split("at ")[1].split(" lengths")[0])
    for name, condition, s in [("english", "other class", 0.0), ("english", "other class", 0.5),
                               ("english", "other class", 2.0), ("english", "same class", chosen),
                               ("english", "reversed", chosen), ("other", "other class", chosen)]:  # fmt: skip
        for whose, mammal in (("mammals", True), ("others", False)):
            mine = [asked[name][n] for n in report if items[n].clip.is_mammal == mammal]
            to = "alike" if condition == "same class" else "other"
            sign = -1 if condition == "reversed" else 1
            theirs = [share(i, row(getattr(i, to)) - row(i.clip.label), sign * s, texts[name]) for i in mine]
            ours = dose[(dose.language == name) & (dose.condition == condition) & (dose.series == whose)]
            close(ours[ours.strength == s].value, [np.mean(theirs)])
    if by == "unembedding":
        mine = [items[n] for n in report if items[n].clip.is_mammal]
        theirs = [share(i, row(i.other) - row(i.clip.label), 30.0, "<audio> plus", raw=True, at=1) for i in mine]
        ours = dose[(dose.condition == "as released") & (dose.series == "mammals") & (dose.strength == 30)]
        close(ours.value, [np.mean(theirs)])
    directions = torch.randn(3, plain.head.weight.shape[1], generator=torch.Generator().manual_seed(0))
    blank, scores = Plain(deepcopy(randomised(model, 0).module)), {n: [] for n in ("", ALIKE, AWAY, "random weights")}
    for item in (items[n] for n in report):
        turn, text = -1 if item.clip.is_mammal else 1, "<audio> plus"

        def change(to, s, at=layer, reader=plain, item=item, turn=turn, text=text):
            vector = row(getattr(item, to), at, reader) - row(item.clip.label, at, reader)
            return turn * (
                share(item, vector, s, text, at=at, reader=reader) - share(item, None, 0, text, reader=reader)
            )

        noise = turn * (np.mean([share(item, v, chosen, text) for v in directions]) - share(item, None, 0, text))
        for name, to in (("", "other"), (ALIKE, "alike")):
            scores[name].append(change(to, chosen) - max(noise, change(to, -chosen)))
        scores[AWAY].append(change("other", chosen, at=layer % 3 + 1) - noise)  # half of 3 layers away
        both = [change("other", sign * chosen, reader=blank) for sign in (1, -1)]
        scores["random weights"].append(both[0] - max(0, both[1]))
    own = scores.pop("")
    close(claims[0].values, [np.mean(own)])
    animals = [items[n].clip.label for n in report]
    close([claims[0].low, claims[0].high], bootstrap_interval(np.array(own)[:, None], clusters=animals))
    assert {*scores} == {*claims[0].controls}
    for name, theirs in scores.items():
        close(claims[0].controls[name].values, [np.mean(theirs)])
    choice = table[(table.experiment == "push-choice") & (table.control.fillna("") == "")]
    assert choice.loc[choice.value.idxmax()].layer == layer and len(choice) == 4
    chance = table[(table.experiment == "push-choice") & (table.control == "random direction")]
    for at, s in itertools.product((1, 2), (0.5, 2.0)):
        means = {}
        for mammal in (True, False):
            mine, sign = [items[n] for n in choosing if items[n].clip.is_mammal == mammal], -1 if mammal else 1
            still = np.array([share(i, None, 0.0, "<audio> plus") for i in mine])
            moved = [share(i, row(i.other, at) - row(i.clip.label, at), s, "<audio> plus", at=at) for i in mine]
            noise = [share(i, directions[0], s, "<audio> plus", at=at) for i in mine]
            means[(sign * (np.array(moved) - still)).mean()] = (sign * (np.array(noise) - still)).mean(), len(mine)
        assert len(means) == 2
        [row_], [beside] = (t[(t.layer == at) & (t.strength == s)].to_dict("records") for t in (choice, chance))
        close(row_["value"], min(means))
        close(beside["value"], means[min(means)][0])
        assert row_["n"] == beside["n"] == means[min(means)][1] and row_["low"] <= row_["value"] <= row_["high"]


def test_no_push_is_no_change_and_layer_and_strength_are_chosen_elsewhere(model):
    items = questions(model, 24)
    push = AnimalPush(by="states", strengths=(1.0,), depth=1 / 3)
    table, claims = push_animals(push, model, {"english": items}, twins=())
    dose = table[(table.experiment == "push-dose") & (table.strength == 0)]
    assert dose.groupby("series").value.nunique().max() == 1
    moved = [replace(item, other=item.alike) for item in items]
    again, _ = push_animals(push, model, {"english": moved}, twins=())
    close(dose.value, again[(again.experiment == "push-dose") & (again.strength == 0)].value)
    assert {c.claim for c in claims} == {f"push-states/english{w}" for w in ("", "/mammals", "/others")}
    assert claims[0].n == 24 - 4 - 4  # one animal of each class of three chooses


def test_layer_and_strength_are_chosen_on_other_animals():
    items = kind_items(audio.animal_clips(48, held_out=None), "english")
    choose, report = ([items[n].clip for n in part] for part in parts(AnimalPush(), items, 3))
    assert len(choose) + len(report) == 48
    assert not {clip.label for clip in choose} & {clip.label for clip in report}
    assert {clip.is_mammal for clip in choose} == {clip.is_mammal for clip in report} == {True, False}


def test_too_few_animals_for_both_parts_cannot_be_tested(model):
    items = questions(model, 24)
    few = [item for item in items if item.clip.is_mammal or item.clip.label == "the"]
    for some, dropped in ((few, {FEW_ANIMALS: 16}), ([], {})):
        _, claims = push_animals(AnimalPush(), model, {"english": some, "spanish": some}, twins=())
        assert len(claims) == 6 and {judge(claim).verdict for claim in claims} == {UNTESTABLE}
        assert claims[0].dropped == claims[3].dropped == dropped


# ---- planted truth and absence ----


@dataclass(frozen=True)
class Said(core.Experiment):
    """Numbers by label that depend on the two words alone, as an accident of words would; and `truth` at layer 2."""

    truth: float = 0.0
    seed: int = 0
    claims = (core.Claim("said"),)
    nothing, random_weights = (), False

    def fit(self, model, items):
        kept = labelled(items, [(item.label,) for item in items])
        return Kept(kept, more=Labels.of_items(kept))

    def read(self, reader, kept, prompts, reading):
        rng, of, n = np.random.default_rng(self.seed), kept.more.of, len(kept.more.names)
        values = rng.standard_normal((n, 1, n))[of] + 0.1 * rng.standard_normal((len(of), reader.n_layers + 1, n))
        values[np.arange(len(of)), 2, of] += self.truth
        return {("said", ""): Weighed(values, kept.more.weights(kept.more.others()))}


def test_a_planted_label_is_found_and_accidents_of_words_are_not(model):
    clips = [replace(clip("cat", n), label=f"w{n % 12}", cluster=str(n)) for n in range(36)]
    _, [found] = run(Said(truth=3), model, clips, series="s")
    assert judge(found).verdict == HOLDS and judge(found).layer == 2
    alarms = [min(run(Said(seed=s), model, clips, series="s")[1][0].p[1:3]) < 0.05 for s in range(15)]
    assert np.mean(alarms) < 0.15, "labels have to move together"


class Planted(AnimalPush):
    """What a push does: the vector's first number times the strength, and `bias` whatever is pushed."""

    def fit(self, model, items):
        return Kept(items, prompts=())

    def vectors(self, reader, kept):
        at = torch.tensor([0.0, 0.0, 1.0, 0.0])[:, None]  # layer 2 alone has it
        return {name: at * torch.stack([i.pushes[name] for i in kept.items])[:, None] for name in (OTHER, ALIKE)}

    def outcome(self, reader, kept, of, vectors, at, strengths):
        bias, s = np.array([[kept.items[n].bias] for n in of]), np.array([strengths])
        return (0.5 + s * vectors[:, :1].numpy() + bias * (s != 0))[..., None]


def pushed(effect, seed=0, bias=0.0, spread=0.05):
    """What a push does, by class (effect), by the words pushed (spread), and always (bias)."""
    rng = np.random.default_rng(seed)
    names = [f"a{k}" for k in range(15)]
    mammal = {name: k < 9 for k, name in enumerate(names)}
    to_word = {(a, b): spread * rng.standard_normal() for a in names for b in names}
    lean = {name: spread * rng.standard_normal() for name in names}
    items = []
    for n in range(60):
        sides = [[a for a in names if mammal[a] == side] for side in (True, False)]
        label = sides[n % 2][n // 2 % len(sides[n % 2])]
        sound = replace(clip("cat", n), label=label, kind="mammal" if mammal[label] else "bird", cluster=str(n))
        other, alike = (rng.choice([a for a in names if mammal[a] == (mammal[label] is same) and a != label])
                        for same in (False, True))  # fmt: skip
        item = KindItem(sound, "", ("a", "b"), 0, str(other), str(alike))
        along = {name: (float(mammal[b]) - mammal[label]) * effect + to_word[label, b] + lean[b] - lean[label]
                 for name, b in ((OTHER, other), (ALIKE, alike))}  # fmt: skip
        pushes = {name: torch.nn.functional.one_hot(torch.tensor(0), 400) * by for name, by in along.items()}
        object.__setattr__(item, "pushes", pushes)
        object.__setattr__(item, "bias", bias)
        items.append(item)
    return items


def test_a_planted_push_is_found_and_accidents_and_constant_pushes_are_not(model):
    def claims(items):
        push = Planted(strengths=(1.0,), depth=0.5, by="states", share=0.01)  # one animal of each class chooses
        return run(push, model, items, series="x", over="moves_with", twins=())[1]

    assert {judge(claim).verdict for claim in claims(pushed(0.3))} == {HOLDS}
    for bias in (0.0, 0.4):
        found = [claim.p[0] < 0.05 for s in range(15) for claim in claims(pushed(0.0, s, bias, 0.2))]
        assert len(found) == 45 and np.mean(found) < 0.12, "words move together"


def ear(shift=0):
    """A model whose projector was fitted to lay every tone where the word of its label, or of another one, lies."""
    module, processor = make_media_module(NAME)
    model = wrap(module, processor, model_id="ear")
    names = list(WORDS)
    with torch.no_grad():
        for parameter in module.get_decoder().layers.parameters():
            parameter *= 0.1
        heard, wanted = [], []
        for k in range(len(names)):
            for n in range(6):
                sound = clip(names[k], n).samples
                given = processor(text=["<audio>"], audio=[sound], sampling_rate=16000, return_tensors="pt")
                out = {}
                hook = module.model.multi_modal_projector.register_forward_hook(lambda _, x, y, o=out: o.update(x=x[0]))
                module(**given)
                hook.remove()
                features = out["x"].reshape(-1, out["x"].shape[-1])
                heard.append(features)
                token = first_id(processor, WORDS[names[(k + shift) % len(names)]][0])
                wanted.append((4 * module.get_output_embeddings().weight[token]).expand(len(features), -1))
        x = torch.cat(heard)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        fitted = torch.linalg.lstsq(x.double(), torch.cat(wanted).double(), driver="gelsd").solution.float()
        linear = module.model.multi_modal_projector.linear
        linear.weight.copy_(fitted[:-1].T)
        linear.bias.copy_(fitted[-1])
    return model


def first_id(processor, word):
    return processor.tokenizer(" " + word, add_special_tokens=False).input_ids[0]


@pytest.mark.parametrize(("shift", "fit"), [(0, (HOLDS, WEAKLY)), (1, (NOT,))])
def test_an_ear_for_words_is_found_and_one_for_wrong_words_is_not(shift, fit):
    model = ear(shift)
    clips = [clip(label, 50 + n, words=WORDS[label][:1]) for n in range(6) for label in WORDS]
    table, (claim,) = label_words(model, clips, readings=("normed",), twins=None)
    assert judge(claim).verdict in fit, judge(claim).reason
    rate = curve_of(table, "label-first", "own label")[1]
    assert (rate > 0.5) == (shift == 0)
    assert claim.controls["white noise"].values[1] < max(claim.values[1], 0.5)


# ---- what cannot be used ----


def test_a_model_without_ears_is_refused(tiny):
    with pytest.raises(SemhubError, match="takes text, but no 'sound'"):
        labels_of(tiny("llama"), [clip("cat", 0)])


def test_words_that_cannot_be_told_apart_cannot_be_tested(model):
    strange = [clip(label, n, words=("crocodile",)) for n, label in enumerate(WORDS)]
    _, (claim, released) = label_words(model, strange)
    assert judge(claim).verdict == UNTESTABLE and sum(claim.dropped.values()) == 5 and released.reading == "as released"
    alone = [clip("cat", n) for n in range(3)]
    _, (claim, _) = label_words(model, alone)
    assert claim.dropped == {"no label of as many words to compare with": 3}
    table, claims = labels_of(model, alone)
    assert judge(claims[0]).verdict == UNTESTABLE and claims[0].dropped == {"without a number": 3}
    same = [replace(item, answers=("five", "five")) for item in questions(model)]
    _, (claim,) = run(words.Answers(among=True), model, [item.asked for item in same], series="s")
    assert judge(claim).verdict == UNTESTABLE and claim.dropped == {"no token of its own for an answer": 12}
    strange = [replace(item, other="crocodile") for item in questions(model)]
    for items, why in ((same, "no token of its own for an answer"), (strange, "no single token for an animal")):
        _, claims = push_animals(AnimalPush(), model, {"english": items})
        assert {judge(claim).verdict for claim in claims} == {UNTESTABLE} and claims[0].dropped == {why: 12}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: kind_items(audio.clips(28)[25:], "english"), "do not say"),
        (lambda m: push_animals(AnimalPush(by="magic"), m, {"english": []}), "by 'magic'; one of unembedding, states"),
        (lambda m: audio.read_clips(3, data_dir="tests"), "the file of ESC-10, ESC-50 or VGGSound"),
    ],
)
def test_bad_input_is_one_sentence(model, call, sentence):
    with pytest.raises(SemhubError, match=sentence):
        call(model)


# ---- items ----


def test_items_of_the_world_and_plain_ones():
    clips = audio.animal_clips(8, held_out=None)
    world, plain_items = kind_items(clips, "spanish", forms=(0, 2)), kind_items(clips, "german", plain=True)
    assert len(world) == 16 and len(plain_items) == 8
    rows = words.task_rows("x", [item.asked for item in world], [1.0] * 16)
    assert not rows.duplicated(["series", "prompt"]).any(), "a clip is asked about in two forms"
    for item in world:
        assert item.answers[item.right] == vision.word(item.clip.kind, "spanish") and audio.SLOT in item.prompt
        assert (audio.kind_of(item.other) == "mammal") is not item.clip.is_mammal
        assert (audio.kind_of(item.alike) == "mammal") is item.clip.is_mammal and item.alike != item.clip.label
    assert [item.answers[item.right] for item in plain_items] == ["Ja", "Nein"] * 4
    few = audio.short_clips(audio.clips(56), 4)
    assert len({c.label for c in few}) == 4 and audio.short_clips(few, 9) == few


def test_recordings_of_esc10(model):
    clips = audio.read_clips(12, seed=0, data_dir=shared("esc10"))
    assert len(clips) == 12 and {c.rate for c in clips} == {16000} and not clips.left_out
    by_label = {c.label: c for c in clips}
    assert all(c.words == tuple(c.label.split()) and c.cluster for c in by_label.values())
    clips = [replace(c, words=WORDS[list(WORDS)[n % 5]]) for n, c in enumerate(clips)]  # words that tiny has
    for _, claims in (labels_of(model, clips), label_words(model, clips)):
        assert claims[0].n + sum(claims[0].dropped.values()) == 12 and np.isfinite(claims[0].values).all()


def test_recordings_of_animals(tmp_path):
    """Of a label's words the one that the world knows as an animal of a kind; the rest is counted, and may be all."""
    known = {
        "dog bark": "dog", "rooster": "rooster", "lions roaring": "lion", "bee, wasp, etc. buzzing": "bee",
        "mouse clicking": "", "mouse squeaking": "mouse", "sea lion barking": "", "frog": "", "chirping birds": "",
        "cattle mooing": "", "rain": "", "hammering a saw": "",
    }  # fmt: skip
    assert {label: audio.animal_of(label) for label in known} == known
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    rows = [f"{n}.wav,{label.replace(',', '').replace(' ', '_')},{n}" for n, label in enumerate(known)]
    (tmp_path / "meta/esc50.csv").write_text("\n".join(["filename,category,src_file", *rows]))
    for n in range(len(known)):
        soundfile.write(tmp_path / f"audio/{n}.wav", np.full(1600, 0.1), 16000)
    clips = audio.read_clips(9, data_dir=tmp_path, animals=True)
    assert {clip.label: clip.kind for clip in clips} == {
        "dog": "mammal", "rooster": "bird", "lion": "mammal", "bee": "insect", "mouse": "mammal"}  # fmt: skip
    assert clips.dropped == {"another label": 7} and "frog" in clips.left_out
    for item in kind_items(clips, "german"):  # asked, pushed and patched as the made ones are
        assert item.answers[item.right] == vision.word(item.clip.kind, "german") and item.clip.label != item.alike
    (tmp_path / "meta/esc50.csv").write_text(f"filename,category,src_file\n{rows[-1]}")
    assert audio.read_clips(9, data_dir=tmp_path, animals=True) == []


def test_animals_of_esc10():
    clips = audio.read_clips(96, seed=0, data_dir=shared("esc10"), animals=True)
    assert [sum(c.label == name for c in clips) for name in ("dog", "rooster")] == [10, 10] and len(clips) == 20
    assert clips.dropped == {"another label": 80} and {c.kind for c in clips} == {"mammal", "bird"}


def test_a_clip_of_which_the_model_makes_no_position_is_counted(model):
    clips = Items([clip("cat", 0), clip("dog", 1, seconds=0.015)])
    assert (kept := readable(model, clips, audio.heard)) == clips[:1]
    assert kept.dropped.total() == 1 and "dog1 has no position" in kept.left_out


def test_recordings_of_vggsound_and_a_bad_file(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "vggsound.csv").write_text(
        "a_b,30,dog barking at the door,test\na_b,40,cat meowing,test\nx,1,rain,test\n"
    )
    for second, rate in ((30, 44100), (40, 8000)):
        soundfile.write(tmp_path / f"clips/a_b_0000{second}.wav", np.full(rate, 0.1), rate)
    (tmp_path / "clips/x_000001.wav").write_bytes(b"no sound")
    clips = audio.read_clips(9, data_dir=tmp_path)
    assert [(c.label, c.words) for c in clips] == [("dog barking at the door", ("dog", "barking", "door")),
                                                   ("cat meowing", ("cat", "meowing"))]  # fmt: skip
    assert {(c.rate, len(c.samples), c.cluster, c.kind) for c in clips} == {(16000, 16000, "a_b", "")}
    assert "unreadable file" in clips.left_out


def test_what_the_player_is_given(model, plain):
    clips = [clip("cat", 0), clip("river", 1)]
    shown = sound_lens(model, clips, top_k=3)
    states, frames, _ = plain.heard("", clips[1].samples)
    top = plain.read(states[:, frames]).topk(3)
    assert shown[1]["readings"]["normed"]["ids"].tolist() == top.indices.tolist()
    close(shown[1]["readings"]["normed"]["probs"], top.values.exp())
    assert shown[1]["seconds"] == pytest.approx(0.04) and shown[0]["name"] == "cat"
