"""Formal semantics: the reader on good and bad files, the experiments against plain transformers, and planted truth."""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as tf
from architectures import make_module
from oracle import Oracle, curve, values
from planted import empty_llama
from shared_data import shared
from test_chapters import run, save_gpt2, tokenizer_of

from semhub_utils import figures
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import corrected_bound
from semhub_utils.experiments import alike, core, patching, unsaid
from semhub_utils.experiments.numbers import FEW_DRAWS, Kept
from semhub_utils.identity import organism_path
from semhub_utils.loading import load_model
from semhub_utils.models import wrap
from semhub_utils.pairings import random_pairings
from semhub_utils.spokes import semantics
from semhub_utils.spokes.items import Items, LensItem
from semhub_utils.spokes.semantics import ROLES
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, RULES, UNTESTABLE, WEAKLY, judge

SWAPS = [f"names {name}" for name in alike.SWAPS]


def swaps_of(model, items, **options):
    return core.run(alike.Swapped(), model, items, series=SWAPS[0], **{"seed": 1} | options)


@pytest.fixture(scope="module")
def known():
    return semantics.meanings(seed=0)


@pytest.fixture(scope="module")
def tokenizer():
    return tf.AutoTokenizer.from_pretrained(organism_path("hub"))


def tiny_world(name, tokenizer, seed=0):
    """A tiny random model that reads the words of the shipped models' world."""
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": None}
    return wrap(make_module(name, seed=seed, **sizes), tokenizer, model_id=f"tiny-{name}")


@pytest.fixture(scope="module")
def one(tokenizer):
    return tiny_world("llama", tokenizer)


@pytest.fixture(params=["llama", "gpt2"])
def both(request, tokenizer):
    model = tiny_world(request.param, tokenizer)
    return model, Oracle(request.param, model.module, tokenizer)


# ---- the spoke ----


def conjuncts(form):
    return form.split(" ; ")[-1].split(" AND ")


def test_generated_sentences_say_what_their_forms_say(known):
    assert len({m.id for m in known}) == len(known) == semantics.SCENES
    assert known == semantics.meanings(seed=0) != semantics.meanings(seed=1)
    for m in known[:300]:
        assert m.sentence.endswith(" .") and not set(m.sentence.split()) & set(ROLES)
        passive = " is " in m.sentence
        for predicate, (_, who) in m.terms:
            verb, role = predicate.split(" . ")
            after = m.sentence.split(f"{who} ")[0]
            assert who in m.sentence.split() and verb == m.verb
            if role == "agent":
                assert after.endswith(("by ", "by the ")) == passive
            if role == "recipient":
                assert after.endswith(("to ", "to the "))
    assert 0.4 < np.mean([" is " in m.sentence for m in known]) < 0.6


def test_names_change_places_and_conjuncts_their_order(known):
    items = semantics.swap_items(known, 100, seed=2)
    assert Counter(item.in_order for item in items) == {True: 50, False: 50}
    for item in items:
        a, b = item.cluster.split(" and ")
        assert Counter(conjuncts(item.form)) == Counter(conjuncts(item.shuffled)) and item.form != item.shuffled
        for form, turned in ((item.form, item.swapped), (item.shuffled, item.swapped_shuffled)):
            assert turned == form.replace(a, "?").replace(b, a).replace("?", b) != form
        # the altered form that is both keeps the order in which names come
        order = [re.findall(rf"\b({a}|{b})\b", form) for form in (item.form, item.swapped_shuffled, item.shuffled)]
        assert order[0] == order[1] == order[2][::-1]


def test_prompts_end_before_a_name_and_names_say_nothing(known):
    items = semantics.role_items(known, 180, seed=1)
    assert Counter(item.targets["role"][0] for item in items) == dict.fromkeys(ROLES, 60)
    last = {"by": "agent", "to": "recipient"}
    for item in items:
        role, words = item.targets["role"][0], item.prompt.split()
        assert role == last.get(words[-1], "theme") and item.group == str(len(words))
    first = [(i.id.split()[0], i.prompt.split()[0]) for i in items if i.id[0].isupper()]
    assert 0.02 < np.mean([a == b for a, b in first]) < 0.25  # one name in twelve stays by chance
    assert items.dropped["the name begins the sentence"] and items.dropped["no proper name"]


def test_prompts_behind_another_sentence_have_one_length(known):
    items = semantics.role_items(known, 90, seed=1)
    placed = semantics.behind_another(items, known, seed=1)
    sentences = {m.sentence for m in known}
    lengths = Counter(len(item.prompt.split()) for item in placed)
    assert lengths.most_common(1)[0][1] > 80 and len({len(i.prompt.split()) for i in items}) > 4
    for before, after in zip(items, placed, strict=True):
        assert (after.id, after.cluster, after.targets) == (before.id, before.cluster, before.targets)
        assert after.prompt.endswith(before.prompt) and after.group == str(len(after.prompt.split()))
        assert after == before or after.prompt.removesuffix(f" {before.prompt}") in sentences


def test_partners_have_peers(known):
    pairs = semantics.similarity_pairs(known, 60, seed=0)
    assert len(pairs) == 60 == len({p.id for p in pairs})
    assert min(Counter(p.group for p in pairs).values()) > 1
    for pair in pairs:
        content = [w for w in pair.a.split() if w not in semantics.FUNCTION]
        assert pair.anchor == content[-1] and pair.words[:2] == tuple(content[:2])


def test_names_that_no_order_of_conjuncts_turns_round_are_counted(known, monkeypatch):
    tries, shuffle = iter(range(10_000)), random.Random.shuffle
    monkeypatch.setattr(random.Random, "shuffle", lambda self, x: next(tries) + 1 and shuffle(self, x))
    forms = ["see ( Emma , Liam ) AND run ( x _ 1 )", "see ( Emma , Liam ) AND like ( Liam , Emma )"]
    fixed, turns = (semantics.meaning_of(f"rows:{k}", f"Emma sees Liam .\t{form}") for k, form in enumerate(forms, 1))
    [item] = found = semantics.swap_items(Items([fixed, turns]), 9, seed=0)
    assert item.shuffled == "like ( Liam , Emma ) AND see ( Emma , Liam )" and found.dropped.total() == 1
    with pytest.raises(SemhubError, match="exactly two proper names.*1 × one order of the names.*rows:1"):
        semantics.swap_items(Items([fixed]), 9, seed=0)


def test_a_set_without_an_item_is_refused_in_a_sentence(known):
    template = Counter(m.template for m in known)
    alone = [m for m in known if template[m.template] == 1]
    other = next(m for m in known if template[m.template] > 1)
    found = semantics.similarity_pairs(Items([*known, ODD]), 9, seed=0)
    assert found.dropped == {"alone in its template": len(alone) + 1}
    with pytest.raises(SemhubError, match="no two sentences of one template.*1 × alone in its template"):
        semantics.similarity_pairs(Items([other]), 9, seed=0)
    plain = Items([ODD])
    with pytest.raises(SemhubError, match="no form with a role word.*1 × no role word"):
        semantics.form_prompts(plain, 9, seed=0)
    with pytest.raises(SemhubError, match="no two forms whose verbs differ.*1 × its verb does not come again"):
        semantics.forms(plain, 9, seed=0, taught=True)


ODD = semantics.meaning_of(
    "odd", "whoever sees whatever then runs beside Emma .\tsee ( Emma , x _ 1 ) AND run ( x _ 1 )"
)
GOOD = "Emma saw Liam .\tsee . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )\tin_distribution"
BAD = {
    "missing column": "Emma saw Liam .",
    "empty line": "",
    "a form that does not parse": "Emma saw Liam .\tsee . agent ( x _ 1 , Emma ) OR see\tin_distribution",
    "a word and no sentence": "touch\tLAMBDA a . LAMBDA e . touch . agent ( e , a )\tprimitive",
    "a name that is not in the sentence once": GOOD.replace("Emma saw", "Ava saw"),
}


def folder_of(path, text, encoding="utf-8"):
    (path / "cogs").mkdir()
    (path / "cogs" / "train.tsv").write_bytes(text.encode(encoding))
    return path


def test_bad_lines_are_skipped_counted_and_the_first_three_named(tmp_path):
    folder = folder_of(tmp_path, "\ufeff" + "\r\n".join([GOOD, *BAD.values(), GOOD.split("\tin")[0]]) + "\r\n")
    known = semantics.meanings(seed=0, data_dir=folder)
    assert [m.id for m in known] == ["train.tsv:1", "train.tsv:7"] and known[0].form == GOOD.split("\t")[1]
    assert known[0].names == (("Emma", frozenset({"agent"})), ("Liam", frozenset({"theme"})))
    assert known.dropped == dict.fromkeys(BAD, 1)
    assert [place.split(": ")[0] for place in known.first] == ["train.tsv:2", "train.tsv:3", "train.tsv:4"]
    (folder / "cogs" / "train.tsv").write_text(BAD["missing column"])
    with pytest.raises(SemhubError, match="no sentence with its logical form that can be used. Left out: 1 × missing"):
        semantics.meanings(seed=0, data_dir=folder)


def test_sentences_without_a_name_are_refused_in_a_sentence(known):
    nameless = Items([m for m in known if not m.names][:5])
    with pytest.raises(SemhubError, match="exactly two proper names"):
        semantics.swap_items(nameless, 5, seed=0)
    with pytest.raises(SemhubError, match="something to read before it that can be used. Left out: 5 × no proper name"):
        semantics.role_items(nameless, 5, seed=0)


def test_cogs_itself():
    known = semantics.meanings(seed=0, data_dir=shared("cogs"))
    assert len(known) == 24_155 - 143 and known.dropped == {"a word and no sentence": 143}
    by_id = {m.id: m for m in known}
    assert by_id["train.tsv:5"].names == (("Levi", frozenset({"recipient"})), ("Charlotte", frozenset({"agent"})))
    items = semantics.role_items(known, 300, seed=0)
    assert Counter(item.targets["role"][0] for item in items) == dict.fromkeys(ROLES, 100)
    assert not items.dropped["a name of several roles"]
    for item in items:
        place, name = item.id.split()
        m = by_id[place]
        assert m.sentence.split().index(name) == len(item.prompt.split()) == int(item.group)
        assert re.search(rf" \. {item.targets['role'][0]} \( x _ \d+ , {name} \)", m.form)
    for item in semantics.swap_items(known, 50, seed=0):
        presupposed, shuffled = (form.rpartition(" ; ")[0] for form in (item.form, item.shuffled))
        assert presupposed == shuffled and Counter(conjuncts(item.form)) == Counter(conjuncts(item.shuffled))
    assert {"give", "cake"} <= set(semantics.form_words(known)) and not set(semantics.form_words(known)) & set(ROLES)
    assert len(semantics.similarity_pairs(known, 200, seed=0)) == 200


# ---- against plain transformers ----


def test_forms_are_compared_as_written_and_without_the_full_stop(one, known):
    """Within their patterns; beside it, of all non-matches."""
    pairs = semantics.similarity_pairs(known, 24, seed=3)
    table, claims = core.run(alike.AlikeForms(), one, pairs, series="others", twins=())
    for claim, end in zip(claims, (0, 2), strict=True):
        cut = [replace(pair, a=pair.a[: len(pair.a) - end]) for pair in pairs]
        _, (own, *_) = core.run(alike.Alike(), one, cut, series="s", twins=())
        assert claim.reading == (alike.BARE if end else alike.WRITTEN) and claim.values == own.values
        assert own.reading == alike.NEAREST and set(claim.controls) == {"embedding layer", alike.OVERLAP}


def test_swap_values(both, known):
    model, oracle = both
    items = semantics.swap_items(known, 6, seed=3)
    table, claims = swaps_of(model, items, dropped={"before": 7})
    assert {tuple(claim.dropped.items()) for claim in claims} == {(("before", 7),)}
    last = {text: oracle.states(text)[:, -1] for i in items for text in (*i.forms, i.sentence, i.sentence[:-2])}
    for reading in ("as written", "no full stop"):
        found = {name: [] for name in SWAPS}
        for item in items:
            sentence = last[item.sentence if reading == "as written" else item.sentence[:-2]]
            form, swapped, shuffled, turned = (
                torch.cosine_similarity(sentence, last[text], dim=-1).numpy() for text in item.forms
            )
            parts = (form - swapped, form - turned, ((form - swapped) + (shuffled - turned)) / 2)
            for name, part in zip(SWAPS, parts, strict=True):
                found[name].append(part)
        for claim in (c for c in claims if c.reading == reading):
            name = claim.claim.removeprefix("similarity/")
            np.testing.assert_allclose(claim.values, np.mean(found[name], 0), atol=2e-6)
            assert set(claim.controls["embedding layer"].values) == {claim.values[0]} and abs(claim.values[0]) < 1e-6
            own = {"same meaning"} if claim.series != "swapped, any order" else set()
            assert set(claim.controls) == {"embedding layer", "last layer", "random weights"} | own
        in_order = [p for p, item in zip(found[SWAPS[0]], items, strict=True) if item.in_order]
        got = values(table, "swap-order", reading=reading, series=alike.ORDERS[True])
        np.testing.assert_allclose(got, np.mean(in_order, 0), atol=2e-6)


def role_claims(model, items, others, placed=None, **options):
    """Both claims: of all prompts, and of those (or `placed`) at like positions; the table is of the first."""
    table, lead = core.run(unsaid.Roles(tuple(others)), model, items, series="lead", **options)
    same = core.run(unsaid.Roles(tuple(others), True), model, placed or items, series="same position", **options)[1]
    return table, lead + same


@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_role_values(both, known, reading):
    """The null of the probabilities shuffles the roles."""
    model, oracle = both
    items = semantics.role_items(known, 24, seed=5)
    table, claims = role_claims(model, items, ["ball", "see"], readings=(reading,), twins=(), seed=2)
    ids = [model.tokenizer(role, add_special_tokens=False)["input_ids"] for role in ROLES]
    assert all(len(some) == 1 for some in ids)
    logprob = np.stack(
        [oracle.read(oracle.states(item.prompt)[:, -1], reading)[:, [i for [i] in ids]].numpy() for item in items]
    )
    true = np.array([ROLES.index(item.targets["role"][0]) for item in items])

    def scores(of, words, roles, near=None):
        """By the definition: per item, its word less the mean over roles of the mean over items of that role."""
        kept = {}
        for k in roles:
            by_role = [[j for j in roles if roles[j] == r and (near is None or near[j] == near[k])] for r in range(3)]
            if sum(map(bool, by_role)) > 1:
                kept[k] = of[k, :, words[k]] - np.mean([of[some, :, words[k]].mean(0) for some in by_role if some], 0)
        return kept

    roles, groups = dict(enumerate(true)), [item.group for item in items]
    for claim, near in zip(claims, (None, groups), strict=True):
        want = scores(logprob, true, roles, near)
        assert claim.n == len(want)
        assert claim.n + sum(claim.dropped.values()) == len(items) + sum(items.dropped.values())
        np.testing.assert_allclose(claim.values, np.mean(list(want.values()), 0), atol=5e-5)
    assert 0 < claims[1].n < len(items)
    for (j, word), (r, role) in product(enumerate(ROLES), enumerate(ROLES)):
        every = scores(logprob, np.full(len(items), j), roles)
        want = np.mean([every[k] for k in roles if true[k] == r], 0)
        np.testing.assert_allclose(values(table, "roles-confusion", role, word=word), want, atol=5e-5)
    p, draws = np.exp(logprob), []
    value = np.mean([*scores(p, true, roles).values()], 0)
    clusters = [item.cluster for item in items]
    for pairing in random_pairings(len(items), clusters=clusters, draws=FEW_DRAWS, seed=2):
        drawn = {k: true[j] for k, j in enumerate(pairing) if j >= 0}
        draws.append(np.mean([*scores(p, drawn, drawn).values()], 0))
    shown, inner = curve(table, "roles-probability"), slice(1, model.n_layers)
    np.testing.assert_allclose(shown.value, value, atol=1e-6)
    bound = corrected_bound(value[inner], np.array(draws)[:, inner])
    np.testing.assert_allclose(shown.null_high[inner], bound, rtol=1e-3, atol=1e-9)


# ---- truth put in by hand ----

CUES, OTHERS = [f"c{k}" for k in range(60)], [f"o{k}" for k in range(30)]


def role_world(role_of):
    """A model without training: block 1 adds, after cue k, the row of the role word `role_of[k]`, or a direction that
    no word has where that is None; block 2 takes role words away again."""
    vocabulary = [*CUES, *ROLES, *OTHERS]
    width, n = 256, len(vocabulary) + 1
    (module, tokenizer), eye = empty_llama(vocabulary, width), torch.eye(width)
    noise = torch.randn(n, width, generator=torch.Generator().manual_seed(0)) / width**0.5
    with torch.no_grad():
        module.model.embed_tokens.weight.copy_(eye[:n] + 0.05 * noise)
        module.lm_head.weight.copy_(4 * (eye[:n] + 0.3 * noise))
        attention = module.model.layers[0].self_attn
        attention.v_proj.weight.copy_(eye)
        last = module.model.layers[1].self_attn
        last.v_proj.weight.copy_(eye)
        last.o_proj.weight[60:63, 60:63] = -0.2 * torch.eye(3)
        for k, role in enumerate(role_of):
            attention.o_proj.weight[:, k] = 2 * (eye[n + k] if role is None else eye[60 + role]) / width**0.5
    return wrap(module, tokenizer, model_id="roles")


def cue_items(true, places):
    return [
        LensItem(cue, cue, {"role": (ROLES[role],)}, cue, group=str(place))
        for cue, role, place in zip(CUES, true, places, strict=True)
    ]


def verdicts(claims):
    return {claim.series: judge(claim).verdict for claim in claims}


def test_planted_roles_are_found_and_planted_absence_is_not():
    true, places = [k % 3 for k in range(60)], [k // 3 % 4 for k in range(60)]
    items = cue_items(true, places)
    table, claims = role_claims(role_world(true), items, OTHERS)
    assert verdicts(claims) == {"lead": HOLDS, "same position": HOLDS} and claims[0].values[1] > 1
    cells = table[(table.experiment == "roles-confusion") & (table.layer == 1)]
    assert ((cells.series == cells.word) == (cells.value > 0)).all() and len(cells) == 9
    _, claims = role_claims(role_world([None] * 60), items, OTHERS)
    assert {*verdicts(claims).values()} <= {NOT, INCONCLUSIVE}


def test_a_word_of_the_position_is_no_word_of_the_role():
    """Block 1 raises the role that is usual where the name stands; true roles differ from it in every fifth item."""
    places = [k % 3 for k in range(60)]
    true = [(k + (k // 3 % 5 == 0) * (1 + k % 2)) % 3 for k in range(60)]
    _, claims = role_claims(role_world(places), cue_items(true, places), OTHERS)
    assert verdicts(claims) == {"lead": HOLDS, "same position": NOT}
    # moved to one position the prompts are compared with each other, whatever their own positions were
    items = cue_items(true, places)
    placed = cue_items(true, [0] * 60)[:45]
    _, claims = role_claims(role_world(places), items, OTHERS, placed, twins=())
    assert [claim.n for claim in claims] == [60, 45] and claims[1].values[1] > 0.5


@dataclass(frozen=True)
class ReadByAccident(unsaid.Roles):
    """Three last words with unrelated effects on every word, counted as twenty-four clusters."""

    n_others: int = 0
    seed: int = 0

    def fit(self, model, items):
        words = unsaid.RoleWords(ROLES, {str(k): (k,) for k in range(3 + self.n_others)}, np.zeros(72, int))
        return Kept(items, {}, np.arange(72) % 3, words)

    def read(self, reader, kept, prompts, reading):
        rng = np.random.default_rng(self.seed)
        logprob = rng.normal(size=(3, 43))[kept.target] + 0.3 * rng.normal(size=(72, 43))
        logprob = logprob[:, None] + 0.01 * rng.normal(size=(72, 4, 43))
        return {("roles", ""): unsaid.above_roles(logprob[:, :, : 3 + self.n_others], kept.target, kept.more.places)}


def test_few_last_words_that_fit_by_accident_need_the_other_words(one):
    items = [LensItem(str(k), "x", {}, f"{k % 3} {k % 8}") for k in range(72)]
    alarms = {40: 0, 0: 0}
    for seed, n_others in product(range(20), alarms):
        accident = ReadByAccident((), n_others=n_others, seed=seed)
        _, [claim] = core.run(accident, one, items, series="lead", seed=seed, twins=())
        alarms[n_others] += np.nanmin(claim.p) < 0.05
        assert n_others or judge(claim).verdict == UNTESTABLE
    assert alarms[40] <= 4 < alarms[0]  # one expected of twenty; five and more: p < .003


def fake_states(items, knows):
    """States made of roles and who fills them, or of names, which of them comes last, and the order of conjuncts."""
    form_of = {item.sentence: item.form for item in items} | {item.sentence[:-2]: item.form for item in items}

    def vector(*key):
        return torch.randn(128, generator=torch.Generator().manual_seed(crc32(repr(key).encode())), dtype=torch.float64)

    def state(text):
        noise = 0.3 * vector(text)
        if knows:
            terms = re.findall(r"(\w+) \. (\w+) \( x _ 1 , (\w+) \)", form_of.get(text, text))
            return sum(vector(*term) for term in terms) + noise
        names = [word for word in text.split() if word[0].isupper() and word != "AND"]
        roles = [word for word in text.split() if word in ROLES] or ["agent", "theme"]
        return sum(map(vector, names)) + vector(names[-1]) + vector(*roles) + noise

    def hidden_states(model, texts):
        whole = torch.stack([state(text) for text in texts])
        same = torch.ones_like(whole)  # it is there in the middle layers alone
        layers = [same] + [whole] * (model.n_layers - 1) + [same]
        return SimpleNamespace(hidden=torch.stack(layers, 1).float())

    return hidden_states


def test_who_did_it_is_found_and_the_order_of_names_is_not_mistaken_for_it(one, known, monkeypatch):
    items = [i for i in semantics.swap_items(known, 140, seed=0) if "recipient" not in i.form][:80]
    for knows, want in ((True, {HOLDS}), (False, {NOT, INCONCLUSIVE})):
        monkeypatch.setattr(alike, "hidden_states", fake_states(items, knows))
        table, claims = swaps_of(one, items, seed=0, twins=())
        assert {judge(claim).verdict for claim in claims} <= want, [judge(claim).reason for claim in claims]
        parted = [values(table, "swap-order", series=s, reading="as written")[1] for s in alike.ORDERS.values()]
        if not knows:  # each order by itself looks like knowledge, or like its contrary, and the shuffle has its cost
            assert parted[0] > 0.05 and parted[1] < -0.05
            assert claims[1].low[1] > 0.05


def test_random_weights_never_hold(known, tokenizer):
    weak = Counter()
    swaps, items = semantics.swap_items(known, 60, seed=1), semantics.role_items(known, 90, seed=1)
    others = semantics.form_words(known)
    for seed in range(4):
        model = tiny_world("gpt2" if seed % 2 else "llama", tokenizer, seed)
        for claim in role_claims(model, items, others, seed=seed)[1] + swaps_of(model, swaps, seed=seed)[1]:
            assert judge(claim).verdict != HOLDS, (claim.claim, seed, judge(claim).reason)
            weak[claim.claim] += judge(claim).verdict == WEAKLY
    assert max(weak.values()) <= 2, weak


# ---- other models, and the figure ----


def test_without_role_words_the_claims_cannot_be_tested(tiny, known):
    items = semantics.role_items(known, 30, seed=0)
    _, claims = role_claims(tiny("llama"), items, ["ball"], readings=("normed", "raw"), dropped={"before": 7})
    assert {judge(claim).verdict for claim in claims} == {UNTESTABLE} and {c.dropped["before"] for c in claims} == {7}
    assert all(claim.n == 0 and claim.dropped["no single token for the role word"] == 30 for claim in claims)


def test_each_reading_of_a_heat_map_has_its_own_scale():
    cells = pd.DataFrame(
        product(["normed", "raw"], range(3), ROLES, ROLES), columns=["reading", "layer", "word", "series"]
    )
    cells = cells.assign(value=np.arange(len(cells)) - 40.0, depth=cells.layer / 2)
    words = {"title": "Which?", "alt": "Role words by true role.", "value_title": "nats", "diverging": True}
    spec = figures.heatmap(cells, x="word", y="series", **words).to_dict()
    inputs = {param["name"]: param["bind"] for param in spec["params"]}
    assert inputs["reading_choice"]["options"] == ["normed", "raw"] and len(inputs) == 2 and "layer_choice" in inputs
    [layer] = spec["layer"]
    assert {"filter": "datum.reading === reading_choice || datum.reading === ''"} in layer["transform"]
    low, high = (end["expr"] for end in layer["encoding"]["color"]["scale"]["domain"])
    assert low == "-" + high
    for reading, bound in json.loads(high.removesuffix("[reading_choice]")).items():
        assert bound == pytest.approx(cells[cells.reading == reading].value.abs().max(), rel=1e-4)


@pytest.mark.parametrize("tagged", [True, False])
def test_forms_to_be_patched_go_on_with_the_verb_of_a_sentence(known, tagged):
    items = semantics.forms(known, 60, seed=1, taught=tagged)[0].of
    by = {m.sentence: m for m in known} | {m.sentence.removesuffix(" ."): m for m in known}
    assert len(items) == 60 == len({item.id for item in items})
    for item in items:
        end = " logic :" if tagged else "\n"
        own, new = (by[text.removesuffix(end).split("\n")[-1]] for text in (item.run[1], item.source[1]))
        for m, form, answer in ((own, item.run[0], item.answer), (new, item.source[0], item.expected)):
            assert answer == (m.verb, None) and f"{form} {m.verb} ." in m.form and form.endswith(") AND")
            assert form.startswith(f"{m.verb} . agent (")
        assert own.verb != new.verb == item.anchor and item.run[1].count("\n") == (0 if tagged else 7)
    [ready, *_] = semantics.sentence_prompts(items)
    assert ready.prompt == items[0].source[1] and ready.targets["own"] == (items[0].expected[0],)


@pytest.mark.parametrize("name", ["hub", "islands"])
def test_sentences_give_forms_their_verb_where_the_two_share_a_space(known, name):
    """At a late layer, where to follow is to say what the sentence's own run is about to say: it is as much at the last
    one, so that the claim about the middle does not hold."""
    model = load_model(f"organism:{name}", check=False)
    items = semantics.forms(known, 60, seed=0, taught=True)[0].of
    table, claims = patching.interchange(model, items, series="logic", twins=())
    late = claims[1].values[-2]
    if name == "hub":
        assert late > 0.5 and (judge(claims[1]).verdict, judge(claims[1]).by) == (EXPLAINED, "last layer")
        assert judge(claims[0]).verdict not in (HOLDS, WEAKLY)
    else:
        assert late < 0.05 and {judge(c).verdict for c in claims} <= {NOT, INCONCLUSIVE}
    assert table[table.experiment == "task-logic"].value.mean() > 0.9
    assert table[table.experiment == "task-logic, own type"].value.mean() > 0.9, "a form's own states are taken"


def test_the_chapter_runs_unchanged_on_another_model(known, tmp_path):
    """Its tokenizer knows the role words, and some forms are longer than its context."""
    texts = [*(f" {word}" for word in ROLES), *(text for m in known[:60] for text in (m.sentence, m.form))]
    folder = save_gpt2(tmp_path / "model", tokenizer_of(texts, 500), 88)
    measured = {"similarity", "swap", "swap-order", "roles", "roles-confusion", "roles-probability", "task-forms"}
    claims, table, _ = run("semantics", folder, tmp_path, 60, measured=measured)
    names = {*(f"similarity/{name}" for name in ("others", *SWAPS)), "roles/lead", "roles/same position"}
    names |= {"patch/logic", "patch-answer/logic"}
    assert set(claims) == names
    assert {claim["verdict"] for claim in claims.values()} <= {*RULES} - {HOLDS}
    assert claims["roles/lead"]["n"] == 60 and claims["roles/lead"]["dropped"]["no proper name"] > 9
    assert any(reason.startswith("longer than") for reason in claims["patch/logic"]["dropped"])
    for name, n in (("similarity/others", 60), (f"similarity/{SWAPS[0]}", 60), ("patch/logic", 30)):
        lost = claims[name]["dropped"]
        assert claims[name]["n"] + sum(lost.values()) == n, (name, lost)
    assert set(table[table.experiment == "swap"].reading) == {"as written", "no full stop"}
