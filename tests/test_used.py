"""Is it used: patches of concepts and erased subspaces, against plain hooks one run at a time, and on models whose
truth was put in by hand."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from oracle import Oracle, curve, one_token_forms, values
from test_chapters import run as run_chapter
from test_chapters import save_gpt2, tokenizer_of

from semhub_utils.errors import SemhubError
from semhub_utils.experiments import instruments, used
from semhub_utils.experiments.core import run
from semhub_utils.experiments.numbers import by_stages
from semhub_utils.organism import corpus
from semhub_utils.organism.taught import SHARED, USED, sharer, translator
from semhub_utils.organism.world import World, text, tidy
from semhub_utils.pairings import random_pairings
from semhub_utils.spokes import arithmetic, facts, languages, translation
from semhub_utils.spokes.items import Twin
from semhub_utils.spokes.translation import Concept, ConceptItem, Question
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, edited_states, erased, generate
from semhub_utils.verdicts import EXPLAINED, HOLDS, NOT, UNTESTABLE, judge

LETTERS = {"latin": "abcdef", "greek": "ABCDEF", "norse": "123456", "runic": "uvwxyz"}
"""Words that the byte-level tokenizer has as one token, by language."""
TAGS = {"latin": "!", "greek": "?", "norse": "%", "runic": "&"}


def asked(concept, source, target):
    return Question(f"{concept.words[source]} {TAGS[target]} :", len(concept.words[source]))


def built(concepts, languages, ask, seed=0, times=1):
    """Items of all concepts, as the spoke draws them."""
    rng, found = random.Random(seed), []
    for concept in concepts:
        for d in rng.sample(languages, times):
            a, b = rng.sample([n for n in languages if n != d], 2)
            c = rng.choice([n for n in languages if n not in (a, d)])
            own = rng.choice([o for o in concepts if o.kind != concept.kind])
            others = rng.sample([o for o in concepts if o not in (concept, own)], 2)
            found.append(
                ConceptItem(
                    f"{concept.key} {a}{b}{c}{d}", ask(own, c, d), ask(concept, a, b),
                    tuple(ask(concept, n, b) for n in languages if n not in (b, d)), ask(own, a, b),
                    tuple(ask(o, a, b) for o in others), concept, own, (a, b, c, d),
                )
            )  # fmt: skip
    return found


def letter_items(seed=0):
    concepts = [Concept(str(k), "even" if k % 2 else "odd", {n: w[k] for n, w in LETTERS.items()}) for k in range(6)]
    return built(concepts, [*LETTERS], asked, seed, times=2)


class Always:
    """Equal to everything: a model that translates whatever it is asked."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return np.ones(self.n, bool)


@pytest.fixture
def polyglot(monkeypatch):
    monkeypatch.setattr(used, "_first", lambda model, table, asked: Always(len(asked)))


# ---- concept and language: numbers ----


@pytest.mark.parametrize("site", [used.LAST, used.WORD])
def test_patches_against_one_run_at_a_time(both, polyglot, site):
    model, oracle = both
    items = letter_items()
    table, claims = run(used.Concepts(site), model, items, series=site, seed=2, twins=())
    assert [c.claim for c in claims] == [f"concepts/{site}", f"concepts-mean/{site}"]
    forms = {w: sorted(one_token_forms(model.tokenizer, w, items[0].prompt)) for row in LETTERS.values() for w in row}
    assert all(forms.values())

    def place(question):
        return 0 if site == used.WORD else -1  # words are the first token

    def state(questions):
        return torch.stack([oracle.states(q.text)[:, place(q)] for q in questions]).mean(0)

    want, said = {}, {}
    for item in items:
        written = {used.ONE: [item.source], used.MEAN: item.alike, used.SAME: [item.same], used.OTHERS: item.others}
        (i, j), (_, b, _, d) = (item.concept.words, item.own.words), item.languages
        for name, questions in written.items():
            states = state(questions)
            for layer in range(model.n_layers + 1):
                logprob = oracle.steered(item.prompt, layer, states[layer], place(item.run), "replace", 1.0)
                p = {w: float(logprob[ids].exp().sum()) for w, ids in forms.items()}
                want.setdefault(name, []).append(p[i[d]] - p[i[b]])
                for outcome, word in zip(used.OUTCOMES, (i[d], i[b], j[b], j[d]), strict=True):
                    said.setdefault((name, outcome), []).append(p[word])

    def mean(of):
        return np.reshape(of, (len(items), -1)).mean(0)

    for claim, name in zip(claims, (used.ONE, used.MEAN), strict=True):
        np.testing.assert_allclose(claim.values, mean(want[name]), atol=2e-6)
        for aside in (used.SAME, used.OTHERS):
            np.testing.assert_allclose(claim.controls[aside].values, mean(want[aside]), atol=2e-6)
    np.testing.assert_allclose(claims[1].controls[used.LESS].values, mean(want[used.ONE]) - 0.05, atol=2e-6)
    assert used.LESS not in claims[0].controls and max(map(abs, claims[0].values)) > 1e-5
    for (name, outcome), of in said.items():
        if name in (used.SAME, used.OTHERS):
            continue
        found = values(table, "concepts-probability", outcome, condition=name)
        np.testing.assert_allclose(found, mean(of), atol=2e-6)


def test_null_of_languages_is_that_of_relabelled_runs(tiny, polyglot):
    """The draws of the second null, by hand: each run's language is that of another of the same source's target."""
    model, items = tiny("llama"), letter_items()
    experiment = used.Concepts()
    kept = replace(experiment.fit(model, items), seed=3)
    scores = experiment.read(model, kept, kept.labels("prompt"), "")["concepts", ""]
    [drawn] = scores.drawn(0, 8)
    said = experiment._under(model, kept, [(item.source,) for item in items])
    column = {w: k for k, w in enumerate(kept.more.words.words)}
    groups = [item.languages[1] for item in items]
    for row, pairing in zip(drawn, random_pairings(len(items), groups=groups, draws=8, seed=3), strict=True):
        want = []
        for n, m in enumerate(pairing):
            words, b, d = items[n].concept.words, groups[n], items[m].languages[3]
            want.append(said[n, :, column[words[d]]] - said[n, :, column[words[b]]])
        np.testing.assert_allclose(row, np.mean(want, 0), atol=1e-12)


def test_a_patch_of_the_own_state_changes_nothing_and_the_last_layer_gives_the_sources_output(tiny, polyglot):
    model, items = tiny("llama"), letter_items()
    for site in (used.LAST, used.WORD):
        experiment = used.Concepts(site)
        kept = experiment.fit(model, items)
        last = hidden_states(model, [i.prompt for i in items], layers=[model.n_layers]).hidden
        alone = used._said(model, kept.more.words, last)
        own = experiment._under(model, kept, [(item.run,) for item in items])
        np.testing.assert_allclose(own, np.repeat(alone, own.shape[1], 1), atol=1e-6)
        moved = experiment._under(model, kept, [(item.source,) for item in items])[:, -1]
        last = hidden_states(model, [i.source.text for i in items], layers=[model.n_layers]).hidden
        want = used._said(model, kept.more.words, last) if site == used.LAST else alone
        np.testing.assert_allclose(moved, want[:, 0], atol=1e-6)


def test_what_cannot_be_asked_is_counted(tiny):
    model, items = tiny("llama"), letter_items()
    item = items[0]
    same = replace(item.concept, words=item.concept.words | {item.languages[3]: item.concept.words[item.languages[1]]})
    long = replace(item.concept, key="long", words=item.concept.words | {item.languages[3]: "homeward bound"})
    kept = used.Concepts().fit(
        model, [replace(item, concept=replace(same, key="same")), replace(item, concept=long), item]
    )
    assert kept.dropped == {
        "both languages have the same word": 1, "no single token of its own for a word": 1,
        "not translated by the model": 1,
    }  # fmt: skip
    for some in (items, []):
        _, claims = run(used.Concepts(), model, some, series="x")
        assert {judge(c).verdict for c in claims} == {UNTESTABLE} and len(claims) == 2


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_token_energy_from_the_full_table_of_cosines(tiny, name):
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    texts = ["the dog saw the cat", "8=3+", "el perro"]
    scale = (oracle.module.transformer.ln_f if name == "gpt2" else oracle.module.model.norm).weight
    rows = torch.nn.functional.normalize(oracle.module.lm_head.weight.detach() * scale.detach(), dim=-1)
    among = (rows @ rows.T).square().mean().sqrt()
    found = used.token_energy(model, hidden_states(model, texts).hidden)
    for text_, energies in zip(texts, found, strict=True):
        states = torch.nn.functional.normalize(oracle.states(text_)[:, -1], dim=-1)
        want = (states @ rows.T).square().mean(-1).sqrt() / among
        np.testing.assert_allclose(energies, want, rtol=1e-4)
    tokens = (model.unembedding * scale).detach().float()
    assert np.mean(used.token_energy(model, tokens[:, None]) ** 2) == pytest.approx(1), "of the tokens themselves"


# ---- concept and language: truth put in by hand ----


def planted_items():
    return instruments._concepts(translator(), 0).items


def test_a_concept_held_apart_from_its_language_is_found_at_its_layer():
    table, claims = run(used.Concepts(), translator(), planted_items(), series=used.LAST)
    for claim in claims:
        verdict = judge(claim)
        assert verdict.verdict == HOLDS and verdict.passes == (1,), (claim.claim, verdict.reason)
        assert claim.values[1] > 0.8 and claim.values[2] < -0.8 and abs(claim.values[0]) < 0.05
        assert {used.SAME, used.OTHERS, "embedding layer", "last layer", "random weights"} <= {*claim.controls}
    said = {o: values(table, "concepts-word", o, condition=used.ONE) for o in used.OUTCOMES}
    assert said["new concept, own language"][1] == 1 and said["new concept, new language"][2] == 1
    assert said["own concept, own language"][0] == 1 and said["own concept, new language"].max() == 0


def test_a_language_settled_before_its_concept_is_not_taken_for_one():
    table, claims = run(used.Concepts(), translator(0.0), planted_items(), series=used.LAST)
    assert {judge(c).verdict for c in claims} == {NOT}
    said = {o: values(table, "concepts-word", o, condition=used.ONE) for o in used.OUTCOMES}
    assert said["own concept, new language"][1] == 1 and said["new concept, new language"][2:].min() == 1


def test_at_the_source_word_another_word_explains_it():
    _, claims = run(used.Concepts(used.WORD), translator(0.0), planted_items(), series=used.WORD)
    verdict = judge(claims[0])
    assert (verdict.verdict, verdict.by) == (EXPLAINED, "embedding layer") and claims[0].values[1] > 0.8


def test_runs_of_one_language_have_no_null():
    items = [i for i in planted_items() if i.languages[3] == "la"]
    _, claims = run(used.Concepts(), translator(), items, series=used.LAST, twins=())
    verdict = judge(claims[0])
    assert verdict.verdict == UNTESTABLE and "paired" in verdict.reason


# ---- necessity: numbers ----


def letter_twins():
    """Two of each pair of letters, in two forms."""
    pairs = [(a, b) for a in LETTERS["latin"] for b in LETTERS["greek"][:4]]
    found = []
    for (k, (a, b)), sign in product(enumerate(pairs), "+*"):
        texts = f"8={b}{a}{sign}", f"the dog saw {a} {b}{sign}", LETTERS["norse"][k % 6], ""
        found.append(Twin(f"{a}{b}{sign}", *texts, "r", sign, a + b))
    return found


def oracle_fall(oracle, item, separator, erase):
    """How much less likely the answer becomes, token by token, without what `erase` takes away at each layer."""
    ids = oracle.ids(item.prompt + separator + item.answer)
    start = oracle.ids(item.prompt).shape[1]

    def logprob():
        table = oracle.logits(ids).log_softmax(-1)
        return np.mean([float(table[k - 1, ids[0, k]]) for k in range(start, ids.shape[1])])

    before, hooks = logprob(), [oracle.changed(layer, change) for layer, change in erase.items()]
    after = logprob()
    for hook in hooks:
        hook.remove()
    return before - after


def by_hand(oracle, fitting, layer, partner, rank):
    """What is read off states of a layer, and along what it is taken away: pair by pair, form by form."""
    tokens = np.concatenate([oracle.states(item.prompt)[layer, 1:].numpy() for item in fitting])
    mean = tokens.mean(0)
    values_, vectors = np.linalg.eigh((tokens - mean).T @ (tokens - mean) / len(tokens))
    values_, vectors = values_[::-1], vectors[:, ::-1]
    parts = next(r for r in range(1, len(values_) + 1) if values_[:r].sum() >= used.VARIANCE * values_.sum())
    scale, vectors = values_[:parts] ** 0.5, vectors[:, :parts]
    ways = ("prompt", "hub_prompt")
    sides = [[oracle.states(getattr(i, of))[layer, -1].numpy() @ vectors / scale for i in fitting] for of in ways]
    for side in sides:
        for group in {item.group for item in fitting}:
            inside = [k for k, item in enumerate(fitting) if item.group == group]
            middle = sum(side[k] for k in inside) / len(inside)
            for k in inside:
                side[k] = side[k] - middle
    pairs = [(sides[0][k], sides[1][m]) for k, m in enumerate(partner) if m >= 0]
    cross = sum(np.outer(x, y) + np.outer(y, x) for x, y in pairs) / len(pairs) / 2
    shared = np.linalg.eigh(cross)[1][:, ::-1][:, :rank]
    return vectors @ (shared / scale[:, None]), vectors @ (shared * scale[:, None]), mean


def test_erasing_against_one_run_at_a_time(both):
    model, oracle = both
    items = letter_twins()
    alone = [t._replace(prompt=t.hub_prompt, answer=a) for t, a in zip(items[:5], LETTERS["runic"], strict=False)]
    experiment = used.Necessity(tuple(alone), draws=4)
    kept = experiment.choose(model, replace(experiment.fit(model, items), seed=1))
    fitting, _ = kept.more
    assert {i.cluster for i in fitting}.isdisjoint({i.cluster for i in kept.items})
    numbers = experiment.read(model, kept, kept.labels("prompt"), "")
    scores, ranks = numbers["necessity", ""], numbers["necessity-rank", ""]
    layers = [layer for layer in range(model.n_layers + 1) if 1 / 3 <= layer / model.n_layers <= 2 / 3]
    assert ranks.layer.tolist() == layers and scores.layers == [layers[len(layers) // 2]]

    def falls(partner, items=kept.items, layers=layers, ranks=ranks.value):
        erase = {}
        for layer, rank in zip(layers, ranks, strict=True):
            of, along, mean = map(torch.from_numpy, by_hand(oracle, fitting, layer, partner, int(rank)))

            def change(h, of=of, along=along, mean=mean):
                h = h.clone()
                for place in range(1, h.shape[1]):
                    told = [column @ (h[0, place] - mean) for column in of.T]
                    for number, column in zip(told, along.T, strict=True):
                        h[0, place] -= number * column
                return h

            erase[layer] = change
        tokens = {item: [oracle.ids(item.prompt + s + item.answer) for s in ("", " ")] for item in items}

        def cost(item, s):  # of the text as it is
            ids, start = tokens[item][s], oracle.ids(item.prompt).shape[1]
            table = oracle.logits(ids).log_softmax(-1)
            return -np.mean([float(table[k - 1, ids[0, k]]) for k in range(start, ids.shape[1])])

        ways = [("", " ")[int(np.argmin([cost(item, 0), cost(item, 1)]))] for item in items]
        return [oracle_fall(oracle, item, way, erase) for item, way in zip(items, ways, strict=True)]

    every = range(len(fitting))
    np.testing.assert_allclose(scores.values[:, 0], falls(every), atol=2e-4)
    np.testing.assert_allclose(scores.controls[used.ENGLISH].scores[:, 0], falls(every, alone), atol=2e-4)
    others = [layer for layer in range(1, model.n_layers) if layer not in layers]
    assert (used.ELSEWHERE in scores.controls) == bool(others)
    if others:
        there = used._Space(model, fitting, 1, others)
        told = falls(every, layers=others, ranks=there.ranks)
        np.testing.assert_allclose(scores.controls[used.ELSEWHERE][:, 0], told, atol=2e-4)
    groups, clusters = [i.group for i in fitting], [i.cluster for i in fitting]
    pairings = random_pairings(len(fitting), groups=groups, clusters=clusters, draws=4, seed=1)
    np.testing.assert_allclose(scores.drawn(0, 4)[0][:, 0], [np.mean(falls(p.tolist())) for p in pairings], atol=2e-4)
    assert np.abs(scores.values).max() > 1e-3


def test_what_was_read_before_is_erased_too(tiny):
    """Keys and values of a beginning that are kept from before would bring back what is erased."""
    model, texts = tiny("llama"), ["the dog saw the cat"] * 2
    q = torch.linalg.qr(torch.randn(model.hidden_size, 3, generator=torch.Generator().manual_seed(1)))[0]
    edits = [Edit((2,), torch.ones(model.hidden_size), strength=s) for s in (0.0, 3.0)]
    found = []
    for read_before in (True, False):
        model.store.clear()
        if read_before:
            edited_states(model, texts, edits)
        with erased(model, {1: (q, q, torch.zeros(model.hidden_size))}):
            found.append(edited_states(model, texts, edits))
            said = generate(model, texts, max_new_tokens=3, edit=edits[1], eos_token_id=None)
            assert said == [generate(model, [t], max_new_tokens=3, edit=edits[1], eos_token_id=None)[0] for t in texts]
    torch.testing.assert_close(*found)
    assert not torch.allclose(found[0], edited_states(model, texts, edits), atol=1e-3)


def test_what_is_erased_is_gone_and_nothing_else(tiny):
    model, texts = tiny("llama"), ["the dog saw the cat", "8=3+5"]
    width, make = model.hidden_size, torch.Generator().manual_seed(1)
    plain, none = hidden_states(model, texts, positions="all").hidden, torch.zeros(width, 0)
    with erased(model, {1: (none, none, torch.zeros(width))}):
        assert torch.equal(hidden_states(model, texts, positions="all").hidden, plain), "of rank 0"
    q, mean = torch.linalg.qr(torch.randn(width, 3, generator=make))[0], torch.ones(width)
    with erased(model, {1: (q, q, mean)}):
        states = hidden_states(model, texts, positions="all")
    first = states.position == 0
    now, before = states.hidden[~first, 1], plain[~first, 1]
    torch.testing.assert_close(now @ q, (mean @ q).expand(len(now), -1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(now - now @ q @ q.T, before - before @ q @ q.T, atol=1e-5, rtol=1e-5)
    assert torch.equal(states.hidden[first], plain[first]) and torch.equal(states.hidden[:, 0], plain[:, 0])
    assert torch.equal(hidden_states(model, texts, positions="all").hidden, plain), "once it is over"
    with pytest.raises(SemhubError, match="Layer 9 was asked"), erased(model, {9: (q, q, mean)}):
        pass


def test_subspaces_hold_as_much_and_leave_nothing_to_be_told(tiny):
    """Of all the type's tokens: each direction has variance 1, and what is left knows nothing of what was erased."""
    model, items = tiny("gpt2"), letter_twins()
    space = used._Space(model, items, 0, used._middle(model)[0])
    inside = [list(range(1, len(e))) for e in model.encode([i.prompt for i in items])]
    tokens = hidden_states(model, [i.prompt for i in items], positions=inside, layers=space.layers).hidden.double()
    drawn = [space.random(0), space.random(1)]
    assert not np.allclose(drawn[0][0], drawn[1][0])
    for bases in (*drawn, space.shared(), space.identity()):
        for k, q in enumerate(bases):
            np.testing.assert_allclose(q.T @ q, np.eye(q.shape[1]), atol=1e-9)
            apart = tokens[:, k].numpy() - space.mean[k]
            told = apart @ space.of[k] @ q
            np.testing.assert_allclose((told**2).mean(0), 1, rtol=1e-4)
            left = apart - told @ (space.along[k] @ q).T
            np.testing.assert_allclose(left.T @ told / len(told), 0, atol=1e-5 * np.abs(apart).max())
    assert [q.shape for q in drawn[0]] == [q.shape for q in space.shared()]


# ---- necessity: truth put in by hand ----


def needed(model, n=None, **given):
    case = instruments._twins(model, 0)
    [claim] = run(replace(case.experiment, **given), model, case.items[:n], series="d")[1]
    return claim


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shared_subspace_that_is_used_is_found(seed):
    case = instruments._twins(sharer(seed=seed), 0)
    table, [claim] = run(case.experiment, sharer(seed=seed), case.items, series="d")
    verdict = judge(claim)
    assert verdict.verdict == HOLDS and verdict.layer == USED, verdict.reason
    assert {used.RANDOM, used.IDENTITY, used.ELSEWHERE, used.ENGLISH, "random weights"} == {*claim.controls}
    assert claim.values[0] > 4 and claim.p[0] < 0.0011, "all of 1000 shuffled ones do less"
    assert max(abs(claim.controls[name].values[0]) for name in (used.IDENTITY, used.ENGLISH)) < 0.3
    rank = curve(table, "necessity-rank").value
    assert ((rank >= SHARED - 2) & (rank <= SHARED + 2)).all(), rank.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shared_subspace_that_is_not_used_is_not_taken_for_one(seed):
    claim = needed(sharer(0.0, seed))
    verdict = judge(claim)
    assert verdict.verdict == NOT and claim.p[0] > 0.1, verdict.reason


def test_what_is_needed_at_every_layer_is_explained_by_the_others():
    verdict = judge(needed(sharer(kept=True)))
    assert (verdict.verdict, verdict.by) == (EXPLAINED, used.ELSEWHERE)


def test_what_harms_all_english_is_explained_by_it():
    """The very texts of the claim in the place of English ones of another kind."""
    case = instruments._twins(sharer(), 0)
    kept = case.experiment.choose(sharer(), case.experiment.fit(sharer(), case.items))
    verdict = judge(needed(sharer(), english=tuple(kept.items)))
    assert (verdict.verdict, verdict.by) == (EXPLAINED, used.ENGLISH)


@pytest.mark.parametrize(("reach", "matters", "drawn"), [(0.0, True, 1000), (0.0, False, 100), (1.0, True, 20)])
def test_dear_draws_go_on_where_p_depends_on_them(reach, matters, drawn):
    made = []

    def draw(first, end):
        made.append((first, end))
        return np.full((end - first, 1), reach)

    null = by_stages(draw, 0.5, matters, used.STAGES)
    assert len(null(0, 1000)[0]) == max(drawn, 100) and made[-1][1] == drawn and not len(null(1000, 10000)[0])
    assert len(made) == [20, 100, 1000].index(drawn) + 1


def test_too_few_and_too_shallow_is_told(own, tiny):
    for model, items, why in (
        (tiny("llama"), letter_twins()[:3], "too few to fit a subspace on"),
        (own("llama", num_hidden_layers=1), letter_twins(), "the model has no middle layer"),
    ):
        _, [claim] = run(used.Necessity(), model, items, series="d")
        assert judge(claim).verdict == UNTESTABLE and claim.dropped == {why: len(items)}
    claim = needed(sharer(), draws=20)
    assert judge(claim).verdict == UNTESTABLE and "cannot give a p below" in judge(claim).reason


# ---- items ----


def test_the_list_of_concepts():
    every = translation.concepts()
    assert len(every) == 150 and min(Counter(c.kind for c in every).values()) > 5
    words = [word for c in every for word in c.words.values()]
    assert len(words) == len({*words}) == 150 * 5, "no word stands for two concepts, or is that of two languages"
    assert all(word == word.strip() and " " not in word for word in words)
    assert {*every[0].words} == {*translation.LANGUAGES} and {"hub", "dog"} & {every[0].key}


@pytest.mark.parametrize("world", [False, True])
def test_items_of_concepts(world):
    items = translation.concept_items(40, seed=1, world=world)
    assert (
        items
        == translation.concept_items(40, seed=1, world=world)
        != translation.concept_items(40, seed=2, world=world)
    )
    assert len(items) == 80 and set(Counter(i.cluster for i in items).values()) == {2}
    names = {*(translation.WORLD if world else translation.LANGUAGES)}
    for item in items:
        a, b, c, d = item.languages
        assert d not in (a, b) and a != b and c not in (a, d) and item.own.kind != item.concept.kind == item.group
        for question, concept, source in (
            (item.run, item.own, c),
            (item.source, item.concept, a),
            (item.same, item.own, a),
        ):
            assert question.text[: question.end].endswith(concept.words[source])
        assert item.source in item.alike and len(item.alike) == len(names) - 2
        asked_, [lens] = item.run.text, translation.lens_items([item])
        assert lens.prompt == asked_ and lens.targets == {"own": (item.own.words[d],)}
        if not world:
            shown = [line for line in asked_.splitlines()[:-1]]
            assert len(shown) == translation.SHOTS and all(item.own.words[c] not in line for line in shown)
            assert asked_.endswith(f': "{item.own.words[c]}" - {translation.LANGUAGES[d]}: "')
    assert {i.languages[3] for i in items} == names
    with pytest.raises(SemhubError, match="n_items is 0"):
        translation.concept_items(0)


def test_the_shipped_models_are_asked_as_they_were_taught():
    make, rng = corpus.Generators(World()), random.Random(0)
    taught = {text(tidy(make.dictionary(rng, corpus.TYPES))) for _ in range(60000)}
    items = translation.concept_items(30, world=True)
    known = sum(any(line.startswith(item.run.text) for line in taught) for item in items)
    assert known > 0.8 * len(items)


def test_twins_of_three_spokes():
    found = translation.twins("german", 20, seed=1)
    assert len(found) == 20 == len({t.cluster for t in found}) and {t.group for t in found} <= {
        "spanish",
        "chinese",
        "french",
    }
    for twin in found:
        assert twin.prompt.endswith(f'{translation.LANGUAGES[twin.group]}: "') and twin.hub_prompt.startswith("English")
    for bad in ("english", "klingon"):
        with pytest.raises(SemhubError, match=bad):
            translation.twins(bad, 3)
    sentences = languages.parallel_sentences(6, seed=0)
    for sentence, twin in zip(sentences, languages.halves(sentences, "chinese"), strict=True):
        assert twin.prompt + twin.answer == sentence.texts["chinese"] and twin.prompt and twin.answer
        assert f"{twin.hub_prompt} {twin.hub_answer}" == sentence.texts["english"] and twin.cluster == sentence.id
    one = replace(sentences[0], texts=sentences[0].texts | {"german": "ja"})
    assert languages.halves([one], "german").dropped == {"of one word": 1}
    [twin] = arithmetic.twins([arithmetic.Calculation("+", 3, 5)])
    assert (twin.prompt, twin.hub_prompt, twin.answer) == ("8=3+", "eight equals to three plus", "5")
    chosen = facts.prompts("code", 5)
    assert [t.answer for t in facts.twins(chosen)] == [p.answer for p in chosen]


# ---- the chapter ----


def test_the_chapter_runs_unchanged_on_a_model_that_knows_nothing(tmp_path):
    """It is asked by examples; most words of the list are one token to it."""
    said = [item.prompt for item in translation.concept_items(60, seed=4)]
    model = save_gpt2(tmp_path / "model", tokenizer_of(said * 3, 1500), 512)
    measured = {"necessity", "necessity-rank", "necessity-share"}
    claims, *_ = run_chapter("used", model, tmp_path, 16, measured=measured)
    moved = {f"{name}/{site}" for name in ("concepts", "concepts-mean") for site in (used.LAST, used.WORD)}
    needed = {f"necessity/{name}" for name in ("spanish", "german", "chinese", "french", "digits")}
    assert {*claims} == moved | needed
    for claim in claims.values():
        assert (claim["verdict"], claim["row"], claim["paper"]) == (UNTESTABLE, "own", None), claim["reason"]
