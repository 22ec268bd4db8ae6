"""The tuned lens: gradients against autograd over full tables, training that helps and resumes, files that refuse."""

import json

import pytest
import torch
from architectures import PROMPTS, TEXT
from oracle import Oracle
from safetensors.torch import save_file

from semhub_utils import cli, training, tuned
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import core, regions, words
from semhub_utils.identity import FITTED, digest, organism_path
from semhub_utils.lens import available_readings, lens
from semhub_utils.loading import load_model
from semhub_utils.models import randomised, wrap
from semhub_utils.organism import scenes, sounds
from semhub_utils.spokes.items import LensItem
from semhub_utils.spokes.mixed import questions, text_for
from semhub_utils.states import hidden_states

LINES = [f"{text[i:]} {i}" for text in TEXT[:4] for i in range(0, 40, 4)]
ARCHITECTURES = ["llama", "gpt2", "gemma2", "cohere", "granite", "opt-projected"]


def some_translators(model, scale=0.1, seed=0):
    make = torch.Generator().manual_seed(seed)
    shape = model.n_layers, model.hidden_size
    weight = scale * torch.randn(*shape, model.hidden_size, generator=make) / model.hidden_size**0.5
    return tuned.Translators(weight, scale * torch.randn(shape, generator=make))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_divergence_and_its_gradient_against_full_tables(tiny, name):
    """In float64: the value from the oracle's tables, the gradient from autograd through the model's own end."""
    oracle = Oracle(name, tiny(name).module, tiny(name).tokenizer)
    model = wrap(oracle.module, oracle.tokenizer, model_id=name)
    states = oracle.states(PROMPTS[2])[:, 2:5]  # layer row hidden
    kl, gradient = tuned.divergence(model, states[-1], states[:-1], gradient=True)
    own = torch.stack([oracle.normed(h) for h in states[-1]])
    for layer in range(model.n_layers):
        table = torch.stack([oracle.normed(h) for h in states[layer]])
        torch.testing.assert_close(kl[layer], (own.exp() * (own - table)).sum(1), atol=1e-9, rtol=1e-7)
    given = states[:-1].clone().requires_grad_()
    with torch.enable_grad():
        table = model.logits(given.flatten(0, 1)).log_softmax(-1).unflatten(0, given.shape[:2])
        (own.exp() * (own - table)).sum().backward()
    assert (largest := float(given.grad.abs().max())) > 1e-5
    torch.testing.assert_close(gradient, given.grad, atol=1e-7 * largest, rtol=0)
    assert tuned.divergence(model, states[-1], states[:-1])[1] is None


def test_more_positions_than_one_table_holds(tiny):
    model = tiny("llama")
    hidden = hidden_states(model, PROMPTS, positions="all").hidden
    times = 2 + tuned.ENTRIES // model.vocab_size // len(hidden)
    few, many = (
        tuned.divergence(model, h[:, -1], h[:, :2].transpose(0, 1), gradient=True)
        for h in (hidden, hidden.repeat(times, 1, 1))
    )
    for once, again in zip(few, many, strict=True):
        torch.testing.assert_close(again.unflatten(1, (times, -1)), once[:, None].expand(2, times, *once.shape[1:]))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_reading_against_the_oracle(tiny, name):
    """h + A h + b before the final norm; the identity at layer L; zeros are the normed lens; layers may be some."""
    model, targets = tiny(name), torch.tensor([3, 77, 310])
    oracle, found = Oracle(name, model.module, model.tokenizer), some_translators(tiny(name))
    hidden = hidden_states(model, PROMPTS[:2]).hidden
    ours = lens(model, hidden, targets=targets, reading=found).logprob
    for item, prompt in enumerate(PROMPTS[:2]):
        for layer, h in enumerate(oracle.states(prompt)[:, -1]):
            if layer < model.n_layers:
                h = h + found.weight[layer].double() @ h + found.bias[layer].double()
            torch.testing.assert_close(ours[item, layer].double(), oracle.normed(h)[targets], atol=5e-5, rtol=0)
    normed = lens(model, hidden, targets=targets).logprob
    assert (ours[:, :-1] - normed[:, :-1]).abs().amax((0, 2)).min() > 1e-3 and torch.equal(ours[:, -1], normed[:, -1])
    zeros = lens(model, hidden, targets=targets, reading=some_translators(model, 0.0)).logprob
    torch.testing.assert_close(zeros, normed, atol=1e-6, rtol=0)
    part = lens(model, hidden[:, 1:3], targets=targets, reading=found, layers=[1, 2]).logprob
    torch.testing.assert_close(part, ours[:, 1:3])
    with pytest.raises(SemhubError, match="2 states"):
        lens(model, hidden[:, 1:3], targets=targets, reading=found)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """The folder, the translators, and the texts that the steps could draw from."""
    folder, drawn, plain = tmp_path_factory.mktemp("tuned"), set(), training.run

    def watched(stretches, *given, **more):
        drawn.update(encoding.text for encoding in stretches[0][1]().texts)
        return plain(stretches, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "run", watched)
        found = tuned.tune(tiny("llama"), LINES + LINES[:9], folder, source="lines", steps=40)
    return folder, found, drawn


def test_training_comes_nearer_at_every_layer_on_text_it_has_not_seen(tiny, trained):
    model, (folder, found, drawn) = tiny("llama"), trained
    held = [text for text in LINES + LINES[:9] if text not in drawn]
    assert 2 <= len(set(held)) < len(LINES) / 5
    normed, after = found.about["kl_normed"], found.about["kl_tuned"]
    assert len(after) == model.n_layers and all(a < 0.9 * b for a, b in zip(after, normed, strict=True))
    oracle, about = Oracle("llama", model.module, model.tokenizer), found.about
    total = {"kl_normed": torch.zeros(model.n_layers), "kl_tuned": torch.zeros(model.n_layers)}
    for text in held:
        states = oracle.states(text)
        own = torch.stack([oracle.normed(h) for h in states[-1]])
        for layer in range(model.n_layers):
            h = states[layer]
            moved = h + h @ found.weight[layer].double().T + found.bias[layer].double()
            for name, states_read in (("kl_normed", h), ("kl_tuned", moved)):
                table = torch.stack([oracle.normed(row) for row in states_read])
                total[name][layer] += float((own.exp() * (own - table)).sum())
    count = sum(len(e) for e in model.encode(held))
    assert about["held_out_tokens"] == count
    for name, kl in total.items():
        assert about[name] == pytest.approx((kl / count).tolist(), rel=1e-3)
    assert not (folder / tuned.UNFINISHED).exists()


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tiny, tmp_path, monkeypatch):
    model, given = tiny("llama"), {"source": "lines", "steps": 102}
    whole, other = (tuned.tune(model, LINES, tmp_path / str(seed), seed=seed, **given) for seed in (0, 1))

    def interrupt(stretch, step, seconds):
        if step == 101:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.Stretch, "after", interrupt)
        tuned.tune(model, LINES, tmp_path / "parts", **given)
    with pytest.raises(SemhubError, match="unfinished training with another seed"):
        tuned.tune(model, LINES, tmp_path / "parts", seed=1, **given)
    again = tuned.tune(model, LINES, tmp_path / "parts", **given)
    assert whole.fingerprint == again.fingerprint != other.fingerprint
    assert whole.about["kl_tuned"] == again.about["kl_tuned"]
    made = (tmp_path / "0" / FITTED["tuned"]).stat().st_mtime_ns
    assert tuned.tune(model, LINES, tmp_path / "0", **given).about == whole.about, "what is done is not done again"
    assert (tmp_path / "0" / FITTED["tuned"]).stat().st_mtime_ns == made


def test_a_file_comes_back_and_refuses_another_model(tiny, trained, tmp_path):
    folder, found, _ = trained
    path = folder / FITTED["tuned"]
    again = tuned.load(path, tiny("llama"))
    assert torch.equal(again.weight, found.weight) and again.about["text"] == "lines"
    for other in (tiny("qwen3"), randomised(tiny("llama"), 1)):
        with pytest.raises(SemhubError, match="was made for tiny-llama and not for"):
            tuned.load(path, other)
    part = {name: getattr(found, name)[:2].half() for name in ("weight", "bias")}
    save_file(part, tmp_path / "x", {"about": json.dumps(found.about)})
    with pytest.raises(SemhubError, match=r"has shape \(2, "):
        tuned.load(tmp_path / "x", tiny("llama"))
    save_file({"weight": found.weight}, tmp_path / "y")
    with pytest.raises(SemhubError, match="holds no reading"):
        tuned.load(tmp_path / "y", tiny("llama"))
    for bad in (tmp_path / "none", tmp_path / "z"):
        (tmp_path / "z").write_text("no safetensors")
        with pytest.raises(SemhubError, match="cannot be read"):
            tuned.load(bad, tiny("llama"))


def test_the_dtype_a_model_is_loaded_in_does_not_count(tiny):
    model = tiny("llama")
    for dtype in (torch.float64, torch.bfloat16):
        same = wrap(type(model.module)(model.module.config).to(dtype), model.tokenizer, model_id="x")
        same.module.load_state_dict(model.module.state_dict())
        assert tuned.unembedding_hash(same) == tuned.unembedding_hash(model)


@pytest.mark.parametrize(("texts", "steps", "sentence"), [
    (["a b c"] * 50, 5, "1 different texts"), ([], 5, "0 different texts"), ([" ", ""] * 30, 5, "0 different"),
    (LINES, 0, "steps was 0"),
])  # fmt: skip
def test_too_little_is_refused(tiny, tmp_path, texts, steps, sentence):
    with pytest.raises(SemhubError, match=sentence):
        tuned.tune(tiny("llama"), texts, tmp_path, source="x", steps=steps)


def test_long_texts_are_cut_to_the_context(tiny):
    model = tiny("gpt2")
    [text] = [" ".join(TEXT[:3] * 5)]
    pieces = tuned.cut(model, [text, "three"])
    ids = model.tokenizer(text)["input_ids"]
    assert [i for piece in pieces[:-1] for i in piece.ids] == ids and len(ids) > model.max_length
    assert max(map(len, pieces)) == model.max_length


# ---- found beside the model ----


def test_a_model_has_a_third_reading_where_translators_lie_beside_it(tiny, trained, tmp_path):
    model = tiny("llama")
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert available_readings(load_model(str(tmp_path), check=False)) == ("normed", "raw", "neighbours")
    with pytest.raises(SemhubError, match="has no reading 'tuned'; `semhub tune"):
        lens(load_model(str(tmp_path), check=False), torch.zeros(1, 4, model.hidden_size), top_k=1, reading="tuned")
    (tmp_path / FITTED["tuned"]).write_bytes((trained[0] / FITTED["tuned"]).read_bytes())
    found = load_model(str(tmp_path), check=False)
    assert available_readings(found) == ("normed", "raw", "tuned", "neighbours")
    assert available_readings(randomised(found, 0)) == ("normed", "raw")
    hidden = hidden_states(found, PROMPTS).hidden
    named, given = (lens(found, hidden, top_k=3, reading=r).top_logprobs for r in ("tuned", found.readings["tuned"]))
    assert torch.equal(named, given)
    items = [
        LensItem(p, p, {"word": ("the",), "digit": ("3",)}, p, wrong={"word": ("cat", "plus")}, group="g")
        for p in PROMPTS
    ]
    table, claims = core.run(words.Lens("word", "digit"), found, items, series="n", readings=("normed", "raw", "tuned"))
    assert [c.reading for c in claims] == ["normed"] * 3 + ["raw"] * 3 + ["tuned"] * 3
    assert set(table.reading) == {"normed", "raw", "tuned"} and {type(r) for r in table.reading} == {str}
    assert "random weights" in claims[0].controls and "random weights" not in claims[6].controls
    own = table[(table.experiment == "lens-entropy") & table.control.isna()].pivot(
        index="layer", columns="reading", values="value"
    )
    assert abs(own.tuned - own.normed)[:-1].min() > 1e-5 and own.tuned.iloc[-1] == own.normed.iloc[-1]
    [grid] = regions.lens_grid(found, {"x": PROMPTS[0]}, ["the"], top_k=2)
    assert list(grid["readings"]) == ["normed", "raw", "tuned", "neighbours"]
    before = digest(found)
    found.readings["tuned"] = some_translators(found)
    assert digest(found) != before, "another lens is another result"


@pytest.mark.parametrize("name", ["hub", "islands", "planted", "hub-sees", "hub-hears"])
def test_shipped_translators_are_nearer_than_the_normed_lens_at_every_layer(name):
    model = load_model(f"organism:{name}", check=False)
    about = model.readings["tuned"].about
    assert len(about["kl_tuned"]) == model.n_layers == about["layers"]
    assert all(tuned_kl <= normed for tuned_kl, normed in zip(about["kl_tuned"], about["kl_normed"], strict=True))
    assert (organism_path(name) / FITTED["tuned"]).stat().st_size < 80_000
    sensed = {"hub-sees": " and 2000 pictures", "hub-hears": " and 2000 sounds"}.get(name, "")
    assert about["text"] == f"14000 generated lines of all types{sensed}, seed 0"
    texts, _ = text_for(f"organism:{name}", None, seed=7, n=100, n_sensed=30)  # drawn anew
    lines = [line for line in texts if isinstance(line, str)]
    trunk = text_for("organism:hub", None, seed=7, n=100)[0] if sensed else texts
    assert sorted(lines) == sorted(trunk) and len(texts) == len(lines) + 30 * bool(sensed)
    encodings = tuned.cut(model, texts)
    for with_patches in (False, True)[: 1 + bool(sensed)]:
        some = [e for e in encodings if bool(e.patches) == with_patches]
        after, normed = (tuned.held_out_kl(model, some, reading) for reading in (model.readings["tuned"], None))
        assert (after <= normed).all()


@pytest.mark.parametrize("sense", ["sees", "hears"])
def test_a_sense_s_lens_is_trained_on_what_the_sense_was_and_on_nothing_held_out(sense, monkeypatch):
    drawn, spoke = [], {"sees": scenes, "hears": sounds}[sense]
    plain = spoke.draw
    monkeypatch.setattr(spoke, "draw", lambda *given, **more: drawn.append(plain(*given, **more)) or drawn[-1])
    found = questions(sense, 41, seed=3)
    assert len(found) == 41 and [i.text for i in found] == [i.text for i in questions(sense, 41, seed=3)]
    for given in found:
        assert given.text.count(f"<{'image' if sense == 'sees' else 'sound'}>") == len(given.images + given.sounds) == 1
    if sense == "sees":
        held = [scene for scene in drawn if scenes.held_out().shows(scene)]
    else:
        held = {(c.source, c.pitch_name, c.length_name) for c in drawn} & sounds.held_out()
    assert len(drawn) > 40 and not held
    some = questions(sense, 2, seed=3)
    model = load_model(f"organism:hub-{sense}", check=False)
    first, other = tuned.cut(model, some)
    assert first.patches and tuned.content(first) != tuned.content(other), "two pictures are two texts"


# ---- the command ----


def test_the_command_trains_from_a_file(tiny, tmp_path, capsys):
    model = tiny("llama")
    model.module.save_pretrained(tmp_path / "m")
    model.tokenizer.save_pretrained(tmp_path / "m")
    (tmp_path / "lines.txt").write_bytes("\r\n".join(["\ufeff" + LINES[0], "", *LINES[1:]]).encode())
    asked = ["tune", str(tmp_path / "m"), "--steps", "3", "--device", "cpu"]
    assert cli.main(asked) == 2
    assert "--text FILE" in capsys.readouterr().err
    assert cli.main([*asked, "--text", str(tmp_path / "lines.txt")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'm' / 'tuned.safetensors'}\n"
    assert "1 × empty line" in captured.err and "3 steps" in captured.err and "normed    tuned" in captured.err
    found = load_model(str(tmp_path / "m"), check=False).readings["tuned"]
    assert found.about["text"] == f"lines.txt, {len(LINES)} lines"
    low = [*asked, "--text", str(tmp_path / "lines.txt"), "--dtype", "bfloat16", "--out", str(tmp_path / "low")]
    assert cli.main(low) == 0 and (tmp_path / "low" / FITTED["tuned"]).is_file()
