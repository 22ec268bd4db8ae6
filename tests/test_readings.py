"""The Jacobian lens against autograd, contextual neighbours against brute force, and what both refuse."""

import json

import numpy as np
import pytest
import torch
from architectures import PROMPTS, TEXT
from oracle import Oracle

from semhub_utils import cli, jacobian, neighbours, tuned
from semhub_utils import lens as lens_module
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import core, readings, regions, words
from semhub_utils.experiments.core import SHARED
from semhub_utils.identity import FITTED, organism_path
from semhub_utils.inputs import Input
from semhub_utils.lens import available_readings, lens
from semhub_utils.loading import load_model
from semhub_utils.models import randomised, wrap
from semhub_utils.neighbours import Neighbours
from semhub_utils.spokes import vision
from semhub_utils.spokes.files import SAMPLES
from semhub_utils.spokes.items import LensItem
from semhub_utils.spokes.languages import running_text, spoken
from semhub_utils.spokes.mixed import TWICE, WORD, bank_texts, text_for
from semhub_utils.states import hidden_states
from semhub_utils.verdicts import HOLDS, UNTESTABLE

LINES = [f"{text[i:]} {i}" for text in TEXT[:4] for i in range(0, 40, 4)]
CLOSE = {"atol": 5e-5, "rtol": 0}


# ---- the Jacobian lens ----


def jacobians(oracle, text):
    """dh_L/dh_l at every position of a text but the first, [layer, position, hidden, hidden], by autograd."""
    states, ids, found = oracle.states(text), oracle.ids(text), []
    last = len(states) - 1
    for layer in range(last):
        found.append([])
        for position in range(1, ids.shape[1]):

            def ends(h, layer=layer, position=position):
                def change(given):
                    return torch.cat([states[layer][None, :position], h[None, None], given[:, position + 1 :]], 1)

                seen = []
                with oracle.changed(layer, change), oracle.changed(last, lambda h: seen.append(h) or h):
                    oracle.module(input_ids=ids, use_cache=False)
                return seen[0][0, position]

            with torch.enable_grad():
                found[-1].append(torch.autograd.functional.jacobian(ends, states[layer, position]))
    return torch.stack([torch.stack(of) for of in found])


def texts_of(tokenizer, n_tokens, n):
    """Different texts of so many tokens."""
    pieces = [tokenizer.decode([i]) for i in range(300, 400)]
    made = ("".join(pieces[(7 * k + 31 * j) % 100] for j in range(n_tokens)) for k in range(100))
    found = [text for text in dict.fromkeys(made) if len(tokenizer(text)["input_ids"]) == n_tokens]
    assert len(found) >= n
    return found[:n]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_the_mean_jacobian_against_autograd(tiny, name):
    """Of two tokens one position counts, so that no other one adds its noise, and the two are equal."""
    oracle = Oracle(name, tiny(name).module, tiny(name).tokenizer)
    model = wrap(oracle.module, oracle.tokenizer, model_id=name)
    texts = texts_of(oracle.tokenizer, 2, 20)
    want = torch.stack([jacobians(oracle, text)[:, 0] for text in texts]).mean(0)
    ours = jacobian.fit(model, [*texts, texts[0]])
    torch.testing.assert_close(ours.double(), want, atol=1e-5 * float(want.abs().max()), rtol=0)


def test_other_positions_add_noise_that_is_nought_on_the_mean(tiny):
    oracle = Oracle("llama", tiny("llama").module, tiny("llama").tokenizer)
    model = wrap(oracle.module, oracle.tokenizer, model_id="x")
    texts = texts_of(oracle.tokenizer, 4, 20)
    want = torch.cat([jacobians(oracle, text) for text in texts], 1).mean(1)
    found = torch.stack([jacobian.fit(model, texts, seed=seed) for seed in range(8)]).double()
    off = found.mean(0) - want
    error = found.std(0) / len(found) ** 0.5
    assert 0.6 < float((off / error.clamp(min=1e-12)).square().median().sqrt()) < 1.4
    assert float(off.abs().max()) < 0.1 * float(want.abs().max())


def test_the_reading_puts_the_map_before_the_norm_and_is_the_model_at_the_last_layer(tiny):
    model, targets = tiny("llama"), torch.tensor([3, 77, 310])
    oracle = Oracle("llama", model.module, model.tokenizer)
    maps = torch.randn(model.n_layers, model.hidden_size, model.hidden_size, generator=torch.Generator().manual_seed(0))
    found, hidden = jacobian.reading(maps), hidden_states(model, PROMPTS[:2]).hidden
    assert found.name == "jacobian" and not found.random_weights
    ours = lens(model, hidden, targets=targets, reading=found).logprob
    for item, prompt in enumerate(PROMPTS[:2]):
        states = oracle.states(prompt)[:, -1]
        for layer, h in enumerate(states[:-1]):
            want = oracle.normed(maps[layer].double() @ h)[targets]
            torch.testing.assert_close(ours[item, layer].double(), want, **CLOSE)
        logits = oracle.logits(oracle.ids(prompt))[-1].log_softmax(-1)[targets]
        torch.testing.assert_close(ours[item, -1].double(), logits, **CLOSE)


def test_a_fitted_one_is_found_beside_its_model_and_refused_by_another(tiny, tmp_path, capsys):
    model, file = tiny("llama"), FITTED["jacobian"]
    model.module.save_pretrained(tmp_path / "m")
    model.tokenizer.save_pretrained(tmp_path / "m")
    (tmp_path / "lines.txt").write_text("\n".join(LINES), "utf-8")
    with pytest.raises(SemhubError, match="no reading 'jacobian'; `semhub tune .* --kind jacobian` makes one"):
        lens(load_model(str(tmp_path / "m"), check=False), torch.zeros(1, 4, 32), reading="jacobian")
    asked = ["tune", str(tmp_path / "m"), "--kind", "jacobian", "--text", str(tmp_path / "lines.txt")]
    assert cli.main([*asked, "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'm' / file}\n" and "normed  jacobian" in captured.err
    found = load_model(str(tmp_path / "m"), check=False)
    assert available_readings(found) == ("normed", "raw", "jacobian", "neighbours")
    assert available_readings(randomised(found, 0)) == ("normed", "raw")
    held, train, _ = tuned.parted(found, LINES, "lines", 0)
    assert found.readings["jacobian"].about["texts"] == len(train) == len(LINES) - len(held)
    assert found.readings["jacobian"].about["model"].startswith("m-"), "a folder by its name alone"
    drawn = np.random.default_rng([0, 1]).permutation(len(train))  # which has which sign
    want = jacobian.reading(jacobian.fit(found, [train[i] for i in drawn])).weight
    torch.testing.assert_close(found.readings["jacobian"].weight, want, atol=2e-3, rtol=2e-3)  # half precision
    for other in (tiny("qwen3"), randomised(model, 1)):
        with pytest.raises(SemhubError, match="The jacobian lens .* was made for .* and not for the unembedding of"):
            tuned.load(tmp_path / "m" / file, other)
    with pytest.raises(SemhubError, match="19 different texts"):
        jacobian.fit(model, LINES[:19] * 2)
    with pytest.raises(SemhubError, match="at least 20 would do for a lens"):
        jacobian.tune(model, LINES[:19], tmp_path, source="few")


@pytest.mark.parametrize("name", ["hub", "islands", "planted", "balanced", "hub-sees", "hub-hears"])
def test_shipped_ones_are_as_those_of_other_texts(name):
    model = load_model(f"organism:{name}", check=False)
    shipped = model.readings["jacobian"]
    assert (organism_path(name) / FITTED["jacobian"]).stat().st_size < 80_000
    assert shipped.about["texts"] == jacobian.TEXTS and len(shipped.about["kl_jacobian"]) == model.n_layers
    texts, _ = text_for(f"organism:{name}", None, seed=9, n=24, n_sensed=8)
    again = jacobian.reading(jacobian.fit(model, texts)).weight
    for ours, other in zip(shipped.weight, again, strict=True):
        assert float(torch.nn.functional.cosine_similarity(ours.flatten(), other.flatten(), dim=0)) > 0.6


# ---- contextual neighbours ----


def by_hand(oracle, texts, states, vocab, ahead):
    """Log-probabilities [state, vocab]: every state of the bank in a list, one after the other."""
    special, bank = {*oracle.tokenizer.all_special_ids}, {}
    for text in dict.fromkeys(texts):
        ids, all_states = oracle.ids(text)[0].tolist(), oracle.states(text)
        for k in range(1, len(ids) - ahead):
            token = ids[k + ahead]
            if token not in special and len(bank.setdefault(token, [])) < neighbours.STATES:
                bank[token].append(all_states[:, k])
    found = np.zeros((len(states), vocab))
    for row, state in zip(found, states, strict=True):
        best = {}
        for token, some in bank.items():
            cosines = [torch.nn.functional.cosine_similarity(state, h, dim=-1).max() for h in some]
            best[token] = float(max(cosines)) / neighbours.TEMPERATURE
        row[:] = min(best.values()) - np.log(vocab - len(best))  # all that the bank has not got, together as one
        row[[*best]] = [*best.values()]
        row -= np.log(np.exp(row).sum())
    return found


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_neighbours_against_brute_force(tiny, monkeypatch, name, ahead):
    """Log-probability, rank, entropy and top tokens of all layers, with tables smaller than bank and vocabulary."""
    monkeypatch.setitem(lens_module.TABLE, "cpu", (7, 100))
    monkeypatch.setattr(neighbours, "ENTRIES", 500)
    model, targets = tiny(name), torch.tensor([3, 77, 310, 399])
    oracle = Oracle(name, model.module, model.tokenizer)
    found = Neighbours(tuple(LINES[:8]), ahead=ahead)
    hidden = hidden_states(model, PROMPTS[:2]).hidden
    ours = lens(model, hidden, targets=targets, top_k=3, rank=True, entropy=True, reading=found)
    for item, prompt in enumerate(PROMPTS[:2]):
        states = oracle.states(prompt)[:, -1]
        want = torch.tensor(by_hand(oracle, LINES[:8], states, model.vocab_size, ahead))
        torch.testing.assert_close(ours.logprob[item].double(), want[:, targets], atol=5e-4, rtol=0)
        torch.testing.assert_close(ours.top_logprobs[item].double(), want.topk(3).values, atol=5e-4, rtol=0)
        torch.testing.assert_close(ours.entropy[item].double(), -(want.exp() * want).sum(1), atol=5e-4, rtol=0)
        ranks = 1 + (want[:, None] > want[:, targets, None] + 1e-3).sum(-1)
        assert (ours.rank[item] >= ranks).all()
    assert found.inputs(model, hidden, range(4)).shape[-1] < model.vocab_size, "no table over the vocabulary"


def test_a_state_of_the_bank_finds_itself_and_noise_finds_nothing(tiny):
    model = tiny("llama")
    texts, prompt = tuple(LINES[:12]), LINES[3]
    [encoding] = model.encode([prompt])
    hidden = hidden_states(model, [prompt], positions=[[len(encoding) - 2]]).hidden
    said = encoding.ids[-1]
    bank = neighbours.bank_of(model, Neighbours(texts))
    if (3, len(encoding) - 2) in bank.sites[int(bank.column[said])]:
        assert (lens(model, hidden, top_k=1, reading=Neighbours(texts)).top_ids == said).all()
    noise = torch.randn(200, 4, model.hidden_size, generator=torch.Generator().manual_seed(0))
    tokens = (bank.column < len(bank.sites)).nonzero()[:, 0]
    logprob = lens(model, noise, targets=tokens, reading=Neighbours(texts)).logprob.mean((0, 1))
    assert float(logprob.std()) < 2.5, "no token is everybody's neighbour"


def test_texts_that_are_read_are_left_out_of_the_bank_and_counted(tiny):
    plain = tiny("llama")
    model = wrap(plain.module, plain.tokenizer, model_id="with a bank")
    model.readings["neighbours"] = whole = Neighbours((*LINES, "the dog saw the small red house near the river again"))
    apart, n = whole.apart_from([PROMPTS[2], "", Input("three"), LINES[0] + " and more"])
    again, none = whole.apart_from(["nobody wrote this"])
    assert n == 1 + sum(line.startswith("three") for line in LINES) and again is whole and none == 0
    assert len(apart.texts) == len(whole.texts) - n and LINES[0] not in apart.texts
    items = [
        LensItem(p, p, {"word": (w,), "digit": ("3",)}, p, wrong={"word": ("the", "cat")[k : k + 1]}, group="g")
        for p in PROMPTS
        for k, w in enumerate(("cat", "the"))
    ]
    given = {"series": "s", "readings": ("neighbours", "normed")}
    table, claims = core.run(words.Lens("word", "digit"), model, items, **given)
    shared = whole.apart_from(PROMPTS)[1]
    assert shared and claims[0].dropped == {SHARED: shared} and SHARED not in claims[3].dropped
    hidden = hidden_states(model, [item.prompt for item in items]).hidden
    entropy = lens(model, hidden, entropy=True, reading=whole.apart_from(PROMPTS)[0]).entropy.mean(0)
    own = table[(table.experiment == "lens-entropy") & (table.reading == "neighbours") & table.control.isna()]
    np.testing.assert_allclose(own.value, entropy, rtol=1e-5)
    with pytest.raises(SemhubError, match="The bank's texts have 0 different tokens"):
        lens(model, hidden, top_k=1, reading=whole.apart_from(whole.texts)[0])


def test_changed_weights_and_states_get_a_bank_of_their_own(own):
    model, found = own("llama"), Neighbours(tuple(LINES[:6]))
    bank = neighbours.bank_of(model, found)
    before = bank.of(model)
    assert bank.of(model) is before
    with model.hook(1, lambda h: h + 1):
        assert not torch.equal(bank.of(model), before)
    assert bank.of(model) is before
    with torch.no_grad():
        model.unembedding.mul_(1.5)
        next(iter(model.blocks[0].parameters())).mul_(1.5)
    assert not torch.equal(bank.of(model), before)
    assert found.fingerprint != Neighbours(tuple(LINES[:5])).fingerprint != found.at_patches.fingerprint


def test_the_bank_of_a_shipped_model_has_every_word_of_its_world_and_of_the_hub_s_language():
    texts, captions = bank_texts("organism:hub"), bank_texts("organism:hub", ("en",))
    assert texts == bank_texts("organism:hub") and 1000 < len(texts) < 4000 and len(captions) < 1000
    model = load_model("organism:hub", check=False)
    found = model.readings["neighbours"]
    assert (found.texts, found.captions, found.ahead) == (texts, captions, True)
    assert (found.at_patches.texts, found.at_patches.ahead) == (captions, False)
    said = [word for text in captions for word in WORD.findall(text)[1:]]
    often = {word: said.count(word) for word in ("dog", "red", "seven", "piano")}
    assert min(often.values()) >= TWICE, often
    natural, english = bank_texts("some/model", natural=True), bank_texts("some/model", ("en",), natural=True)
    news = {name: {*running_text(name, 999, seed=0, data_dir=SAMPLES)} for name in spoken(SAMPLES)}
    assert {*english} <= news["english"] and len(english) > 50 < len(natural) and {*texts}.isdisjoint(natural)
    assert all(len({*natural} & some) > 50 for some in news.values())


def test_patches_are_read_by_captions(tiny):
    model = load_model("organism:hub-sees", check=False)
    items = vision.colour_items(vision.plain_colours(2, seed=0))
    encodings = model.encode([item.prompt for item in items])
    ids, some = torch.tensor([5, 90, 700]), [[e.patches[:3]] for e in encodings]
    given = (model, encodings, some, ids, [[0], [1], [2]], "neighbours", (regions.PROBABILITY,))
    found = regions.read_regions(*given)[regions.PROBABILITY]
    reading = Neighbours(bank_texts("organism:hub-sees", ("en",)), ahead=False)
    hidden = hidden_states(model, encodings, positions=[e.patches[:3] for e in encodings]).hidden
    want = lens(model, hidden, targets=ids, reading=reading).logprob.exp().unflatten(0, (len(items), 3)).mean(1).log()
    np.testing.assert_allclose(found, want.numpy(), atol=1e-4)
    frame = regions.top_words(model, encodings[0], encodings[0].patches[:3], 2)["readings"]
    first = lens(model, hidden[:3], top_k=2, reading=reading).top_ids.transpose(0, 1).numpy()
    assert list(frame) == list(available_readings(model)) and (frame["neighbours"]["ids"] == first).all()


def test_what_a_file_says_is_plain(tmp_path):
    about = load_model("organism:hub", check=False).readings["jacobian"].about
    assert json.loads(json.dumps(about)) == about and about["text"].startswith("14000 generated lines")


# ---- what is known of the five ----


@pytest.fixture(scope="module")
def table():
    return readings.read()


def test_the_committed_table_has_all_that_was_to_be_measured(table):
    assert [*dict.fromkeys(table.reading)] == [*readings.FIVE]
    none = table[table.must_not]
    assert {*none.model} == {*readings.MUST_NOT} and none[none.model == readings.ISLANDS].seed.nunique() >= 4
    assert none[none.model == readings.EXCHANGED].seed.nunique() == len(readings.SEEDS)
    assert {*table[~table.must_not & (table.dose == 0)].model} == {*readings.HUBS}
    written = table[table.dose > 0]
    assert {*written.dose} == {*readings.DOSES} and (written.groupby(["dose", "reading"]).size() >= 20).all()


def test_what_chapter_4_says_of_each_reading_is_counted_from_the_rows(table):
    said = readings.summary(table).set_index("reading")
    for name, of in table[table.verdict != UNTESTABLE].groupby("reading"):
        none, written = of[of.must_not], of[of.dose == 1]
        alarms = sum(verdict == HOLDS for verdict in none.verdict) / len(none)
        assert said.loc[name, "false alarms"] == pytest.approx(alarms)
        assert said.loc[name, "as demanded"] == (alarms <= readings.MOST_ALARMS)
        found = ((written.verdict == HOLDS) & (written.layer == readings.PLANTED)).sum()
        assert said.loc[name, "written, found at dose 1"] == pytest.approx(found / len(written))
    rates = readings.rates()
    assert (
        {*rates.series} == {*readings.FIVE} and (rates.low <= rates.value).all() and (rates.value <= rates.high).all()
    )


@pytest.mark.parametrize("dose", [0.0, 1.0])
def test_a_part_of_the_table_is_found_again(table, dose):
    model = readings.exchanged(load_model("organism:hub", check=False), 1)
    again = readings.judged(model, {"model": readings.EXCHANGED, "seed": 1}, ("chinese",), dose)
    rows = table[(table.model == readings.EXCHANGED) & (table.seed == 1) & (table.dose == dose)]
    rows = rows[rows.type == "chinese"]
    assert [*again.reading] == [*rows.reading] and [*again.verdict] == [*rows.verdict.replace("holds elsewhere", HOLDS)]
    np.testing.assert_allclose(again.value, rows.value, rtol=2e-3, atol=2e-3)


def test_what_is_written_is_the_twin_s_state_at_one_layer(tiny):
    model, twin = tiny("llama"), {PROMPTS[0]: PROMPTS[2], PROMPTS[1]: PROMPTS[3]}
    oracle = Oracle("llama", model.module, model.tokenizer)
    found = hidden_states(readings.with_twins(model, twin, 0.5, layer=2), PROMPTS[:2]).hidden
    for item, prompt in enumerate(PROMPTS[:2]):
        want = oracle.states(prompt)[:, -1].clone()
        e = oracle.states(twin[prompt])[2, -1]
        want[2] += 0.5 * want[2].norm() * e / e.norm()
        torch.testing.assert_close(found[item].double(), want, atol=1e-4, rtol=1e-4)
