"""Steering and patching sentiment: against plain transformers one prompt at a time, on models whose truth was put in by
hand, and on files and checkpoints that are not right."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import transformers as tf
from architectures import make_module, make_tokenizer
from oracle import Oracle, one_token_forms
from planted import empty_llama, look_at
from test_chapters import rich, run  # noqa: F401 (rich is a fixture)

from semhub_utils.errors import SemhubError
from semhub_utils.experiments import continuations, core
from semhub_utils.experiments.continuations import Sentiment, moves, sentiment_classifier
from semhub_utils.experiments.numbers import Kept
from semhub_utils.experiments.patching import SentimentPatch
from semhub_utils.identity import digest
from semhub_utils.models import wrap
from semhub_utils.organism.world import concepts
from semhub_utils.spokes import sentiment
from semhub_utils.spokes.sentiment import SentimentPrompt, SentimentTask
from semhub_utils.steering import Edit, generate, next_token_logprobs
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, judge

ABSENT = (NOT, INCONCLUSIVE)


def steered(model, task, seed=0, kind=Sentiment, **fields):
    """The table and the claims by name."""
    about = kind(task=task, **fields)
    table, claims = core.run(about, model, task.prompts, series=task.language, seed=seed)
    return table, {claim.claim: claim for claim in claims}


# ---- the spoke ----


def test_the_prompts_are_the_same_things_in_every_language():
    tasks = {language: sentiment.task(language, 20, seed=3, tagged=True) for language in sentiment.LANGUAGES}
    things = {language: [p.id for p in task.prompts] for language, task in tasks.items()}
    assert len({tuple(ids) for ids in things.values()}) == 1 and len(set(things["english"])) == 20
    assert tasks["spanish"].prompts[0].prompt.startswith("español : ")
    assert tasks["spanish"].vectors == {"english": ("good", "bad"), "spanish": ("bueno", "malo")}
    plain = sentiment.task("chinese", 20, seed=3, tagged=False)
    assert plain.prompts[0].prompt == "All text is in Chinese.\n" + tasks["chinese"].prompts[0].text
    assert plain.vectors["english"] == ("Good", "Bad") and "tyqiangz/multilingual-sentiments" in plain.note
    assert sentiment.task("german", 20, seed=4, tagged=True).prompts != tasks["german"].prompts


def test_the_pleasant_words_are_opposites_of_the_lexicon():
    order = [c.key for c in concepts().values() if c.kind == "adjective"]
    opposite = dict(zip(order, (order[k ^ 1] for k in range(len(order))), strict=True))
    assert [opposite[p] for p in sentiment.PLEASANT] == list(sentiment.UNPLEASANT)
    assert opposite["good"] == "bad" and not {"good", "bad"} & {*sentiment.PLEASANT, *sentiment.UNPLEASANT}


def test_the_rule_counts_words_and_not_letters():
    texts = ["un hombre feliz y triste, feliz", "malo", "infeliz amorfo", ""]
    np.testing.assert_allclose(sentiment.word_score("spanish")(texts), [1 / 3, -1, np.nan, np.nan])
    # 爱吃 (likes to eat) holds 爱 (love) and is another word
    np.testing.assert_allclose(sentiment.word_score("chinese")(["我爱吃草", "爱，和平，恨"]), [np.nan, 1 / 3])
    assert sentiment.without_pair("Buena gente, goods are GOOD", ("english", "spanish")).split() == [
        "gente,", "goods", "are"]  # fmt: skip
    assert sentiment.without_pair("这很好吃", ("english", "chinese")) == "这很 吃"


def reviews(folder, text, name="spanish/test.csv", encoding="utf-8"):
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return folder


def test_reviews_are_read_and_what_cannot_be_used_is_counted(tmp_path):
    long = "x" * (sentiment.MAX_CHARACTERS + 1)
    rows = [
        "\ufefftext,source,label",
        '"Muy bueno, sí",a,positive',
        ",a,neutral",
        f"{long},a,negative",
        '"dos\nlíneas",a,x',
    ]
    rows = "\r\n".join(rows)
    task = sentiment.task("spanish", 9, seed=0, tagged=False, data_dir=reviews(tmp_path, rows))
    assert [p.prompt for p in task.prompts] == [
        "All text is in Spanish.\nMuy bueno, sí", "All text is in Spanish.\ndos líneas"]  # fmt: skip
    assert task.dropped == {"empty text": 1, f"longer than {sentiment.MAX_CHARACTERS} characters": 1}
    assert "test.csv:3: empty text" in task.note
    lines = [json.dumps({"text": "eins", "label": 2}), "{not json", json.dumps({"label": 1}), json.dumps(["text"])]
    reviews(tmp_path, "\n".join(lines), "german/test.jsonl")
    task = sentiment.task("german", 9, seed=0, tagged=False, data_dir=tmp_path)
    assert [p.text for p in task.prompts] == ["eins"] and task.dropped == {"not a JSON object": 2, "no text": 1}
    task = sentiment.task("chinese", 9, seed=0, tagged=False, data_dir=tmp_path)  # no file: made here
    assert len(task.prompts) == 9 and "GitHub tyqiangz" in task.note


# ---- against plain transformers, one prompt at a time ----

PROMPTS = ["the dog saw the", "el perro come en", "three plus five equals", "the small red house", "nine minus two",
           "the cat sat on", "the cat is near", "el gato come", "the dog and the", "three minus two", "two plus two",
           "el perro y el"]  # fmt: skip
PLEASANT, UNPLEASANT, OWN = ("three", "dog"), ("five", "cat"), ("house", "river")


def task_of(prompts=PROMPTS, **changes):
    prompts = tuple(SentimentPrompt(str(k), p, p[4:], p) for k, p in enumerate(prompts))
    given = {
        "language": "spanish",
        "prompts": prompts,
        "vectors": {"english": ("the dog", "cat"), "spanish": ("el perro", "el gato")},
        "pleasant": PLEASANT,
        "unpleasant": UNPLEASANT,
        "own": OWN,
    }
    return SentimentTask(**(given | changes))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def both(request, tiny):
    model = tiny(request.param)
    return model, Oracle(request.param, model.module, model.tokenizer)


ANCHOR = "<end>"  # this tokenizer puts nothing first


def vector_of(oracle, toward, away):
    """[layer, position, hidden]; the last state of the shorter one again where it has ended."""
    states = [oracle.states(ANCHOR + text) for text in (toward, away)]
    longest = max(s.shape[1] for s in states)
    longer = [torch.cat([s, s[:, -1:].expand(-1, longest - s.shape[1], -1)], 1) for s in states]
    return longer[0] - longer[1]


@contextmanager
def added(oracle, layer, vector):
    """vector [position, hidden] at the first positions."""

    def change(h):
        h = h.clone()
        h[0, : len(vector)] += vector
        return h

    with oracle.changed(layer, change):
        yield


def test_a_vector_for_each_position(both):
    model, oracle = both
    vectors = torch.randn(2, 3, model.hidden_size, generator=torch.Generator().manual_seed(0))
    targets, prompts = torch.tensor([3, 77, 310]), ["the dog saw the small", "el perro"]
    places = [[0, 2, -1], [1, 0, -1]]
    edit = Edit((2,), vectors, positions=places)
    ours = next_token_logprobs(model, prompts, targets, edit=edit, strengths=(0.0, 1.5))
    for item, prompt in enumerate(prompts):
        ids = oracle.ids(prompt)
        for row, strength in zip(ours[item], (0.0, 1.5), strict=True):

            def change(h, item=item, strength=strength, n=ids.shape[1]):
                h = h.clone()
                for place, vector in zip(places[item], vectors[item], strict=True):
                    h[0, place % n] += strength * vector
                return h

            with oracle.changed(2, change):
                table = oracle.logits(ids)[-1].log_softmax(-1)
            torch.testing.assert_close(row.double(), table[targets], atol=5e-5, rtol=0)
    for shape, where in [((2, 2, model.hidden_size), places), ((2, 3, model.hidden_size), [[0, 1, 2], [0]])]:
        with pytest.raises(SemhubError, match="shape"):
            generate(model, prompts, max_new_tokens=1, edit=Edit((2,), torch.zeros(shape), positions=where))


def test_the_vector_is_the_difference_of_the_words_read_as_prompts(both):
    model, oracle = both
    ours = continuations.word_vector(model, "three plus", "five")
    want = vector_of(oracle, "three plus", "five")
    assert ours.shape == want.shape and ours.shape[1] > 1
    torch.testing.assert_close(ours.double(), want, atol=5e-5, rtol=0)
    assert ours[:, 0].abs().max() < 5e-5 < ours[:, 1].abs().amax(-1).min(), "position 0 has the same token in all"
    with pytest.raises(SemhubError, match="same tokens"):
        continuations.word_vector(model, "three", "three")


def test_what_a_tokenizer_puts_first_is_the_anchor(tokenizers):
    """Words and prompts alone are as before; else they begin with one token, and it is the same."""
    anchors = {"byte": "<end>", "sentence": "", "word": "<s>", "piece": ""}
    for kind, anchor in anchors.items():
        model = wrap(make_module("qwen2"), tokenizers(kind), model_id=kind)
        assert model.anchor == anchor, kind
        alone, anchored = model.encode(["three", model.anchor + "three"])
        assert anchored.ids[len(anchored) - len(alone) :] == alone.ids and len(anchored) - len(alone) == bool(anchor)
        special = set(model.tokenizer.all_special_ids)
        assert (anchored.ids[0] in special) == (kind != "piece")


def word_forms(oracle, word, context="the dog saw the"):
    """A word's first token, with and without a space; of one token alone if there is such a form."""
    before = oracle.ids(context)[0].tolist()
    after = [oracle.ids(context + space + word)[0].tolist() for space in ("", " ")]
    own = [ids[len(before) :] for ids in after if ids[: len(before)] == before]
    own = [ids if oracle.tokenizer.decode(ids[0]).strip() else ids[1:] for ids in own]  # a bare space is no form
    return {ids[0] for ids in own if len(ids) == 1} or {ids[0] for ids in own}


def test_mass_and_its_claim_against_one_forward_at_a_time(both):
    model, oracle = both
    task = task_of()
    fields = {"n_seeds": 1, "max_new_tokens": 2, "strengths": (2.0,), "directions": 2, "instead": 3}
    table, claims = steered(model, task, 5, **fields)
    first = Sentiment(task=task).split(Kept(task.prompts, seed=5))
    choosing, reported = ([p for p, of in zip(task.prompts, first, strict=True) if of == on] for on in (True, False))
    forms = {word: word_forms(oracle, word) for word in (*PLEASANT, *UNPLEASANT, *OWN)}
    alone = {word: ids for word, ids in forms.items() if not any(ids & o for w, o in forms.items() if w != word)}
    sides = [[i for word in side if word in alone for i in alone[word]] for side in (PLEASANT, UNPLEASANT)]
    assert all(sides), "else nothing is compared"

    def mass(prompt, layer, vector):
        with added(oracle, layer, vector):
            logp = oracle.logits(oracle.ids(ANCHOR + prompt.prompt))[-1].log_softmax(-1)
        return float(logp[sides[0]].logsumexp(0) - logp[sides[1]].logsumexp(0))

    def half(prompt, layer, vector, c=2.0):
        return (mass(prompt, layer, c * vector) - mass(prompt, layer, -c * vector)) / 2

    vectors = {name: vector_of(oracle, *words) for name, words in task.vectors.items()}
    longest = max(v.shape[1] for v in vectors.values())  # nothing is added at positions that a shorter one lacks
    vectors = {name: torch.nn.functional.pad(v, (0, 0, 0, longest - v.shape[1])) for name, v in vectors.items()}
    chosen = table[table.experiment == "sentiment-choice"]
    choice = chosen[chosen.control.isna()].set_index("layer")
    chance = chosen[chosen.control == "random direction"].set_index("layer")
    directions = torch.randn(3, *vectors["english"][1].shape, generator=torch.Generator().manual_seed(5)).double()
    directions = directions / directions.norm(dim=-1, keepdim=True)
    for layer in (1, 2):
        per_prompt = [np.mean([half(p, layer, v[layer]) for v in vectors.values()]) for p in choosing]
        assert choice.value[layer] == pytest.approx(np.mean(per_prompt), abs=5e-5)
        length = vectors["english"][layer].norm(dim=-1, keepdim=True)
        want = np.mean([half(p, layer, d * length) for p in choosing for d in directions])
        assert chance.value[layer] == pytest.approx(want, abs=5e-5)
    assert (
        choice.null_high.notna().all()
        and (choice.n == len(choosing)).all()
        and (choice.low <= choice.value).all()
        and (choice.low < choice.high).all()
    )
    layer = int(choice.value.idxmax())
    english = vectors["english"][layer]
    drawn = directions * english.norm(dim=-1, keepdim=True)
    random = np.array([[half(p, layer, d) for d in drawn] for p in reported])
    own = np.array([half(p, layer, english) for p in reported])
    claim = claims["sentiment-mass/spanish"]
    assert claim.layers == (layer,) and claim.n == len(reported) == 9
    assert claim.values[0] == pytest.approx(own.mean() - random.mean(), abs=5e-5)
    wrong = np.mean([half(p, 3 - layer, english) for p in reported]) - random.mean()  # the other of two inner layers
    assert claim.controls["wrong layer"].values[0] == pytest.approx(wrong, abs=5e-5)
    against = np.mean([mass(p, layer, -2 * english) - mass(p, layer, 0 * english) for p in reported])
    assert claim.controls["reversed"].values[0] == pytest.approx(against, abs=5e-5)
    as_the_paper = table[(table.series == continuations.PAPER) & (table.strength == 2)]
    as_the_paper = as_the_paper[(as_the_paper.measure == continuations.MASS) & (as_the_paper.reading != "all words")]
    two = vectors["english"][2]  # 17/32 of three layers
    want = np.mean([mass(p, 2, 2 * two) - mass(p, 2, 0 * two) for p in reported])
    assert as_the_paper.value.item() == pytest.approx(want, abs=5e-5)
    native = own - 0.75 * np.array([half(p, layer, vectors["spanish"][layer]) for p in reported])
    assert claims["native-mass/spanish"].values[0] == pytest.approx(native.mean(), abs=5e-5)
    [beside] = claims["native-mass/spanish"].controls.items()
    want = (random.mean(1) + native - own).mean()
    assert beside[0] == "random direction" and beside[1].values[0] == pytest.approx(want, abs=5e-5)
    assert claim.least_p >= 1 / 4 and judge(claim).verdict == UNTESTABLE  # three directions cannot give a small p


def test_continuations_of_every_vector_and_coefficient(both):
    """Greedy, so that each can be made without a cache; their order is item, coefficient, vector and seed."""
    model, oracle = both
    about = Sentiment(task=task_of(), max_new_tokens=3, sampling={"do_sample": False, "eos_token_id": None})
    vectors = 3 * torch.randn(2, 2, model.hidden_size, generator=torch.Generator().manual_seed(1))
    prompts, strengths, said = task_of().prompts[:3], (-1.0, 0.0, 2.0), set()
    ours = about.write(model, prompts, vectors.expand(3, -1, -1, -1), 1, strengths, 2, 0)
    for (i, prompt), (k, c), (d, vector) in product(enumerate(prompts), enumerate(strengths), enumerate(vectors)):
        ids = oracle.ids(ANCHOR + prompt.prompt)
        for _ in range(3):
            with added(oracle, 1, c * vector):
                ids = torch.cat([ids, oracle.logits(ids)[-1:].argmax(-1, keepdim=True)], 1)
        text = model.tokenizer.decode(ids[0, -3:], skip_special_tokens=True)
        assert ours[i][k][2 * d : 2 * d + 2] == [text, text]
        said.add(text)
    assert len(said) > 3, "the vectors change what is said"


def test_fluency_and_relevance(both):
    model, oracle = both
    prompts, texts = ["the dog", "el perro"], ["the dog saw the house", "el perro"]
    ours = continuations.nats(model, prompts, texts)
    ids, start = oracle.ids(texts[0]), oracle.ids(prompts[0]).shape[1]
    logp = oracle.logits(ids).log_softmax(-1)
    want = -np.mean([float(logp[k - 1, ids[0, k]]) for k in range(start, ids.shape[1])])
    assert ours[0] == pytest.approx(want, abs=5e-5) and math.isnan(ours[1])  # nothing was added
    middle = 1  # of three layers
    mean = {t: oracle.states(t)[middle].mean(0) for t in (*prompts, "saw the house")}
    cosine = [float(torch.cosine_similarity(mean["saw the house"], mean[p], dim=0)) for p in prompts]
    found = continuations.relevance(model, prompts, [0, 1, 1], ["saw the house", "saw the house", ""])
    assert found[0] == pytest.approx(cosine[0] - cosine[1], abs=5e-5) and math.isnan(found[2])
    assert found[1] == pytest.approx(cosine[1] - cosine[0], abs=5e-5)


def test_words_are_joined_as_the_tokenizer_wants(tiny, tokenizers):
    byte = tiny("llama")  # decodes with the space
    assert continuations.join(byte, "el per", "ro come") == "el perro come"
    piece = wrap(byte.module, tokenizers("word"), model_id="without spaces")
    assert continuations.join(piece, "el perro", "come") == "el perro come"
    assert continuations.join(piece, "我们", "看书") == "我们看书" and continuations.join(piece, "el", "") == "el"


# ---- truth put in by hand ----

SIDES = ("good", "bad"), ("bueno", "malo")
HAND = {"spanish": [("feliz", "paz", "vida"), ("triste", "guerra", "muerte")],
        "english": [("happy", "peace", "life"), ("sad", "war", "death")]}  # fmt: skip
N = 32


def planted(shared: bool):
    """Two layers without training. The words of a pair lie on either side of a direction: one for both languages if
    `shared`, else each its own. Block 2 carries what stands anywhere in the prompt along it, and the language of the
    prompt, to the last position. There the words of that language are the likely ones; its pleasant words read one side
    of the direction and the unpleasant ones the other."""
    words = [w for pair in SIDES for w in pair] + [w for sides in HAND.values() for side in sides for w in side]
    words += [f"{tag}{k}" for tag in ("n", "m") for k in range(N)] + ["es:", "en:", ">"]
    width = 256
    module_, tokenizer = empty_llama(words, width, context=64)
    words, make = [*words, "<unk>"], torch.Generator().manual_seed(0)
    side = {"english": torch.eye(width)[0], "spanish": torch.eye(width)[0 if shared else 1]}
    with torch.no_grad():
        rows = module_.model.embed_tokens.weight
        rows[:, 4:] = 0.3 * torch.randn(len(words), width - 4, generator=make)
        for at, tag in enumerate(("en:", "es:"), 2):
            rows[words.index(tag), at] += 8.0
        for language, pair in zip(("english", "spanish"), SIDES, strict=True):
            for word, sign in zip(pair, (1, -1), strict=True):
                rows[words.index(word)] += 5 * sign * side[language]
        attention = module_.model.layers[1].self_attn
        attention.v_proj.weight.copy_(torch.eye(width))
        for at in range(4):
            attention.o_proj.weight[at, at] = 1.0
        for language, sides in HAND.items():
            for sign, of in zip((1, -1), sides, strict=True):
                for word in of:
                    row = module_.lm_head.weight[words.index(word)]
                    row += 1.6 * sign * side[language]
                    row[4:] += 1.2 * torch.randn(width - 4, generator=make)  # what the things of a prompt call up
                    row[3 if language == "spanish" else 2] += 9.0
    return wrap(module_, tokenizer, model_id="shared" if shared else "apart")


def hand_task(language):
    tag = {"spanish": "es:", "english": "en:"}[language]
    prompts = tuple(
        SentimentPrompt(str(k), f"> {tag} n{k} m{(5 * k) % N}", f"n{k} m{(5 * k) % N}", str(k)) for k in range(N)
    )
    pairs = dict(zip(("english", "spanish"), SIDES, strict=True))
    vectors = {name: pairs[name] for name in dict.fromkeys(("english", language))}
    return SentimentTask(language, prompts, vectors, *HAND[language], pairs[language])


@pytest.fixture(scope="module")
def verdicts():
    """Verdict by world and claim; the table of each."""
    found, tables = {}, {}
    for world in ("shared", "apart"):
        model = planted(world == "shared")
        for language in HAND:
            tables[world, language], claims = steered(model, hand_task(language), n_seeds=2, max_new_tokens=1)
            found |= {(world, name): judge(claim) for name, claim in claims.items()}
    return found, tables


def test_a_shared_sentiment_is_found_and_a_private_one_is_not(verdicts):
    found, _ = verdicts
    for kind in ("sentiment", "sentiment-mass"):
        for world in ("shared", "apart"):
            assert found[world, f"{kind}/english"].verdict == HOLDS, found[world, f"{kind}/english"]
        assert found["shared", f"{kind}/spanish"].verdict == HOLDS, found["shared", f"{kind}/spanish"]
        assert found["apart", f"{kind}/spanish"].verdict in ABSENT, found["apart", f"{kind}/spanish"]
    for kind in ("native", "native-mass"):
        assert found["shared", f"{kind}/spanish"].verdict == HOLDS
        assert found["apart", f"{kind}/spanish"].verdict in ABSENT


def test_the_table_holds_every_measure_with_its_spread(verdicts):
    _, tables = verdicts
    table = tables["apart", "spanish"]
    dose = table[table.experiment == "sentiment-dose"]
    assert set(dose.series) == {
        "English vector", "Spanish vector", "wrong layer", "random direction", continuations.PAPER}  # fmt: skip
    text = dose[(dose.measure == continuations.SHOWN["written"][0]) & (dose.series == "Spanish vector")]
    text = text[text.reading == "all words"].set_index("strength")
    assert text.level[4.0] > 0.8 > -0.8 > text.level[-4.0] and text.value[4.0] > 0 > text.value[-4.0]
    np.testing.assert_allclose(text.value, text.level - text.level[0.0])
    assert set(text.index) == {-4, -2, 0, 2, 4}
    assert dose.seed_sd.notna().any() and (dose.n + dose.dropped == 24).all()
    ratio, _ = continuations.SHOWN["nats"]
    fluency = dose[dose.measure == ratio]
    assert (fluency.level > 1).all() and (fluency.value > 0).all()
    unsteered = dose[(dose.strength == 0) & (dose.series == "English vector")].set_index("measure").value
    assert unsteered[ratio] == 1 and (unsteered.drop(ratio) == 0).all()
    difference = table[table.experiment == "sentiment-difference"]
    assert (difference[difference.reading != "all words"].value < 0).all()  # the native vector does more
    examples = table[table.experiment == "sentiment-example"]
    assert set(examples.series) == {"English vector", "Spanish vector"} and examples.text.str.len().gt(0).all()


class Silent(Sentiment):
    """What is written holds no word to judge."""

    def write(self, reader, prompts, vectors, at, strengths, n_seeds, seed):
        return [[[""]] * len(strengths)] * len(prompts)


def test_a_push_that_all_prompts_feel_alike_is_no_more_than_random_directions_do():
    """Vectors without sentiment. Each shifts every prompt the same way, so that flipped signs would call half of them
    significant; among random directions they are nothing special."""
    model, alarms, shifts = planted(True), 0, 0
    for k in range(6):
        pair = {"english": (f"n{k} n{k + 9}", f"m{k} m{k + 17}")}
        task = replace(hand_task("english"), vectors=pair, own=SIDES[0])
        found = steered(model, task, k, Silent, strengths=(2.0,), instead=40)[1]
        mass, written = found["sentiment-mass/english"], found["sentiment/english"]
        alarms += mass.p[0] < 0.05
        shifts += mass.low[0] > 0
        assert written.n == 0 and judge(written).verdict == UNTESTABLE and "cannot be told" in moves(written, "x")
    assert shifts >= 2 and alarms <= 1, (shifts, alarms)


class Numbered(Sentiment):
    """What is written says where: layer, number of vectors, prompt, strength and vector."""

    def write(self, reader, prompts, vectors, at, strengths, n_seeds, seed):
        many = vectors.shape[1]
        return [[[f"{at} {many} {i} {s:g} {d}" for d in range(many)] for s in strengths] for i in range(len(prompts))]


@pytest.mark.parametrize("few", [7, 8])
def test_a_prompt_is_compared_where_a_random_direction_wrote_nothing_to_judge(few):
    """Made-up sentiment: each random direction has a number for some prompts only, one for `few` and the largest."""
    having = [few, *range(9, 18)]

    def score(texts):
        return np.array([number(*text.split()) for text in texts])

    def number(at, many, i, s, d):
        at, many, i, s, d = int(at), int(many), int(i), float(s), int(d)
        if many == 1:  # the English vector, and at the last layer the wrong one
            return np.nan if at == 1 and i < 3 else np.random.default_rng([at, i, int(s > 0)]).uniform(-1, 1)
        if (i - d) % 24 >= having[d]:
            return np.nan
        return np.sign(s) * 2 if d == 0 else np.random.default_rng([9, i, int(s > 0), d]).uniform(-1, 1)

    fields = {"n_seeds": 1, "strengths": (2.0,), "max_new_tokens": 1, "score": score}
    claim = steered(planted(True), hand_task("english"), 0, Numbered, **fields)[1]["sentiment/english"]

    def half(at, many, d=0):
        return np.array([(number(at, many, i, 2, d) - number(at, many, i, -2, d)) / 2 for i in range(24)])

    by_direction = [half(1, 10, d) for d in range(10)]
    base = max(np.nanmean(v) for v in by_direction if np.isfinite(v).sum() >= 8)
    assert (base == 2) == (few == 8) and claim.n == 24 - 3 and claim.dropped == {"without a number": 3}
    assert claim.values[0] == pytest.approx(np.nanmean(half(1, 1)) - base)
    assert claim.controls["wrong layer"].values[0] == pytest.approx(half(2, 1)[3:].mean() - base), "of the same prompts"


# ---- whole states ----

UP, DOWN, PAIR, PAIRS = ("3", "5"), ("8", "9"), ("the", "and"), 9


def words_task(language, prompts, up=UP, down=DOWN, own=PAIR):
    return task_of(prompts, language=language, vectors={"english": own}, pleasant=up, unpleasant=down, own=own)


def patched(model, task, english, **options):
    table, [claim] = core.run(SentimentPatch(task, english), model, task.prompts, series=task.language, **options)
    return table, claim


def test_patches_against_one_run_at_a_time(tiny):
    model = tiny("llama")
    oracle = Oracle("llama", model.module, model.tokenizer)
    task = words_task("spanish", [f"el perro {k}" for k in range(8)])
    texts = [f"the dog {k}" for k in range(8)][::-1]
    english = words_task("english", texts, ("cat", "red"), ("dog", "mat"), ("a", "is"))
    table, claim = patched(model, task, english, seed=2, twins=())
    forms = {w: one_token_forms(model.tokenizer, w, task.prompts[0].prompt) for w in (*UP, *DOWN, *PAIR)}
    assert all(forms.values())

    def mass(logprob, out):
        up, down = (
            torch.stack([logprob[i] for w in side if w not in out for i in forms[w]]).logsumexp(0)
            for side in ((*UP, PAIR[0]), (*DOWN, PAIR[1]))
        )
        return float(up - down)

    opposites = [("cat", "dog"), ("red", "mat"), ("a", "is")]
    out = list(zip((*UP, PAIR[0]), (*DOWN, PAIR[1]), strict=True))
    colours = list(zip(sentiment.NEUTRAL[::2], sentiment.NEUTRAL[1::2], strict=True))
    drawn = torch.randn(3, 1, 1, model.hidden_size, generator=torch.Generator().manual_seed(2)).double()[:, 0, 0]
    want = {name: np.zeros(model.n_layers + 1) for name in ("source", "neutral words", "random push", "level", "plain")}
    for prompt, twin in zip(task.prompts, english.prompts, strict=True):
        plain = oracle.logits(oracle.ids(prompt.prompt))[-1].log_softmax(-1)
        for k, pair in enumerate(opposites):
            a, b = (oracle.states(f"{twin.prompt} {word}")[:, -1] for word in pair)
            c, d = (oracle.states(f"{twin.prompt} {word}")[:, -1] for word in colours[k])
            push = (a - b).norm(dim=-1, keepdim=True) / 2 * drawn[k] / drawn[k].norm()
            written = {
                "source": (a, b),
                "neutral words": (c, d),
                "random push": ((a + b) / 2 + push, (a + b) / 2 - push),
            }
            for (name, states), layer in [(x, y) for x in written.items() for y in range(model.n_layers + 1)]:
                two = [mass(oracle.steered(prompt.prompt, layer, s[layer], -1, "replace", 1.0), out[k]) for s in states]
                want[name][layer] += (two[0] - two[1]) / 2 / 24
                want["level"][layer] += two[0] / 24 if name == "source" else 0
            want["plain"] += mass(plain, out[k]) / 24
    np.testing.assert_allclose(claim.values, want["source"], atol=5e-5)
    assert max(abs(want["source"])) > 1e-3 and claim.n == 24 and claim.n_units == 8
    for name in ("neutral words", "random push"):
        np.testing.assert_allclose(claim.controls[name].values, want[name], atol=5e-5)
        assert max(abs(want[name])) > 1e-3
    levels = table[table.experiment == "sentiment-patch-level"].sort_values("layer")
    np.testing.assert_allclose(levels[levels.series == "pleasant word"].value, want["level"], atol=5e-5)
    np.testing.assert_allclose(levels[levels.series == "no patch"].value, want["plain"], atol=5e-5)
    assert claim.least_p == 1 / 10 and judge(claim).verdict == UNTESTABLE, "three pairs are three samples"


def written(shared: bool, told: bool = True):
    """Pleasant and unpleasant English words lie on either side of a direction. Where English is `told`, block 1 makes a
    meaning of it; where Spanish is, block 3 makes of that what the output words read if `shared`. Each has no eyes for
    anything but the other tag where it stands, so that a word before, or a state behind both, says nothing there. Where
    nothing is told, words have their meaning from the start."""
    english, spanish = ([f"{kind}{k}" for k in range(PAIRS) for kind in kinds] for kinds in ("pu", "bm"))
    words = [*english, *spanish, *(f"n{k}" for k in range(24)), *sentiment.NEUTRAL, "en:", "es:"]
    module, tokenizer = empty_llama(words, 40, 3)
    raw, meaning, said, private, word, *tags = range(7)
    with torch.no_grad():
        make = torch.Generator().manual_seed(0)
        rows, head = module.model.embed_tokens.weight, module.lm_head.weight
        rows[:, 8:], head[:, 8:] = (0.3 * torch.randn(len(words) + 1, 32, generator=make) for _ in range(2))
        rows[: len(words) - 2, word] = 1
        for k, text in enumerate(english):
            rows[words.index(text), raw if told else meaning] = 1 - 2 * (k % 2)
        for k, text in enumerate(spanish):
            head[words.index(text), said if shared else private] = 1 - 2 * (k % 2)
        rows[4 * PAIRS : 4 * PAIRS + 24, raw if told else meaning] = 0.3 * torch.randn(
            24, generator=make
        )  # things are liked or not, too
        for text, tag in zip(("en:", "es:"), tags, strict=True):
            rows[words.index(text), tag] = 4
        first, last = module.model.layers[0].self_attn, module.model.layers[2].self_attn
        for attention, (made, of), tag in ((first, (meaning, raw), tags[1]), (last, (said, meaning), tags[0])):
            attention.v_proj.weight.copy_(torch.eye(40))
            attention.o_proj.weight[made, of] = 2
            look_at(attention, word, tag)
    tasks = []
    for language, of in (("english", english), ("spanish", spanish)):
        tag = {"english": "en:", "spanish": "es:"}[language]
        texts = [f"{tag if told else f'n{23 - k}'} n{k}" for k in range(24)]
        tasks.append(words_task(language, texts, tuple(of[:-2:2]), tuple(of[1:-2:2]), tuple(of[-2:])))
    return wrap(module, tokenizer, model_id="shared" if shared else "apart"), *tasks


def test_a_shared_word_s_state_is_found_and_a_private_one_s_is_not():
    model, english, spanish = written(True)
    _, claim = patched(model, spanish, english)
    verdict = judge(claim)
    assert verdict.verdict == HOLDS and verdict.passes == (1, 2) and min(claim.values[1:3]) > 1, verdict.reason
    assert {*claim.controls} == {"neutral words", "random push", "random weights", "embedding layer", "last layer"}
    model, english, spanish = written(False)
    _, claim = patched(model, spanish, english)
    assert judge(claim).verdict in ABSENT and len(claim.controls) == 5


def test_a_word_s_state_that_is_there_from_the_start_is_explained_by_the_embedding_layer():
    model, english, spanish = written(True, told=False)
    _, claim = patched(model, spanish, english)
    assert judge(claim).verdict == EXPLAINED and claim.values[1] > 1 and claim.p[1] < 0.01
    assert claim.controls["embedding layer"].margin.values[1] < claim.least


def test_one_lucky_pair_is_not_sentiment():
    """All prompts feel one pair alike, and the others not at all: flipped prompts would call that significant."""
    model, english, spanish = written(True)
    with torch.no_grad():
        model.module.model.embed_tokens.weight[2 : 2 * PAIRS] = 0.01
    _, claim = patched(model, spanish, english, twins=())
    assert claim.low[1] > 0.05 and claim.p[1] > 0.05 and judge(claim).verdict in ABSENT


def test_patches_of_words_without_a_token_cannot_be_tested_and_still_have_their_curves(tiny):
    model = tiny("llama")
    none = words_task("spanish", [f"el perro {k}" for k in range(8)], ("zzz", "zzzz"), ("zzq", "zzqq"), ("zzw", "zzww"))
    table, claim = patched(model, none, words_task("english", ["the dog"] * 8), twins=())
    assert judge(claim).verdict == UNTESTABLE and claim.n == 0
    assert table[table.experiment == "sentiment-patch-level"].value.isna().all()
    _, few = patched(model, words_task("spanish", ["el perro"] * 3), none)
    assert (few.n, few.dropped["fewer than 8 are left"], judge(few).verdict) == (0, 3, UNTESTABLE)


# ---- what cannot be used ----


def test_words_without_a_token_of_their_own_leave_the_written_measure(tiny):
    """Pleasant and unpleasant words that begin alike: no mass, the paper's layer and coefficient, no crash."""
    task = task_of(pleasant=("three",), unpleasant=("three",), own=("three", "three"))
    table, found = steered(tiny("llama"), task, n_seeds=1, max_new_tokens=2)
    assert found["sentiment-mass/spanish"].n == 0
    assert found["fluency/spanish"].n > 0 and found["fluency/spanish"].layers == (2,)  # 17/32 of three layers
    assert all(judge(claim).verdict == UNTESTABLE for claim in found.values())
    mass = table[(table.experiment == "sentiment-dose") & (table.measure == continuations.SHOWN["mass"][0])]
    assert len(mass) and mass.value.isna().all() and (mass.n == 0).all()


def test_bad_arguments_are_refused_in_a_sentence(tiny):
    with pytest.raises(SemhubError, match="no language 'klingon'"):
        sentiment.task("klingon", 9, seed=0, tagged=True)
    for name in ("n_seeds", "max_new_tokens"):
        with pytest.raises(SemhubError, match=f"{name} is 0"):
            steered(tiny("llama"), task_of(), **{name: 0})


def test_prompts_that_do_not_fit_are_counted(tiny):
    model = tiny("llama")
    most = model.max_length - 3  # one more is put first
    long = "the dog saw the small red house near the river and " * 9
    assert len(model.tokenizer(long)["input_ids"]) > most
    _, claims = steered(model, task_of([*PROMPTS, long]), n_seeds=1, max_new_tokens=2)
    assert all(claim.dropped[core.TOO_LONG] == 1 for claim in claims.values())
    _, claims = steered(model, task_of(), n_seeds=1, max_new_tokens=model.max_length - 5)
    lost = {"longer than the context": 5, "fewer than 8 are left": 7}
    assert all(claim.n == 0 and claim.dropped == lost for claim in claims.values())


def test_words_of_a_vector_that_are_the_same_tokens_are_told_and_not_added(tiny):
    task = replace(task_of(), vectors={"english": ("five", "five"), "spanish": ("three", "five")})
    table, claims = steered(tiny("llama"), task, n_seeds=1, max_new_tokens=2)
    assert all(c.n == 0 and c.dropped == {"five and five are the same tokens": 12} for c in claims.values())
    assert {judge(c).verdict for c in claims.values()} == {UNTESTABLE} and "text" in table


def bert(folder, labels):
    tokenizer = make_tokenizer("piece")
    config = tf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=20, id2label=dict(enumerate(labels)), label2id={v: k for k, v in enumerate(labels)},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = tf.BertForSequenceClassification(config).eval()
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return made, tokenizer


def test_a_classifier_s_own_labels_say_what_is_positive(tmp_path):
    made, tokenizer = bert(tmp_path, ["Negative", "neutral", "POSITIVE"])
    texts = ["the dog saw the house", "", "el perro", "the cat sat on the mat " * 20]
    ours = sentiment_classifier(str(tmp_path))(texts)
    for text, score in zip(texts, ours, strict=True):
        if not text:
            assert math.isnan(score)
            continue
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        if ids.shape[1] > 20:  # cut, the end token kept where the tokenizer adds one
            ids = torch.tensor([tokenizer(text, truncation=True, max_length=20)["input_ids"]])
        share = made(ids).logits.softmax(-1)[0].tolist()
        assert score == pytest.approx(share[2] - share[0], abs=5e-5)
    before = digest(sentiment_classifier(str(tmp_path)))
    assert before == digest(sentiment_classifier(str(tmp_path))), "a step that it judges is kept"
    made.classifier.bias.data += 1
    made.save_pretrained(tmp_path)
    assert before != digest(sentiment_classifier(str(tmp_path)))


def test_a_classifier_without_such_labels_is_refused(tmp_path):
    bert(tmp_path, ["LABEL_0", "LABEL_1"])
    with pytest.raises(SemhubError, match="labels of .* are LABEL_0, LABEL_1"):
        sentiment_classifier(str(tmp_path))
    with pytest.raises(SemhubError, match="neither a folder here nor a model"):
        sentiment_classifier("no/such-classifier")


# ---- the chapter ----


def test_the_chapter_runs_unchanged_on_another_model(rich, tmp_path):  # noqa: F811
    measured = {"sentiment-choice", "sentiment-dose", "sentiment-difference", "sentiment-example"}
    claims, *_ = run("steering", rich, tmp_path, 12, "n_seeds=2", "max_new_tokens=3", measured=measured)
    assert {name.split("/")[0] for name in claims} == {
        "sentiment", "sentiment-mass", "native-mass", "fluency", "relevance", "patch"}  # fmt: skip
    assert {claim["verdict"] for claim in claims.values()} == {UNTESTABLE}  # nine prompts are too few
