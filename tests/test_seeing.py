"""Models that see and hear, through the same handle: states, merges and lens against plain transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from architectures import LISTENING, SEEING, make_media_module
from oracle import MediaOracle
from PIL import Image

from semhub_utils import loading
from semhub_utils.cli import main
from semhub_utils.errors import SemhubError
from semhub_utils.identity import of_model
from semhub_utils.inputs import Input, Sound
from semhub_utils.lens import lens
from semhub_utils.loading import load_model, self_check
from semhub_utils.models import LanguageModel, wrap
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, edited_states, generate, next_token_logprobs, patched_states, states_under

MEDIA = [*SEEING, *LISTENING]


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sound(seconds, seed=0, rate=16000):
    return Sound(np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32), rate)


def prompts(model):
    """Text, and pictures or sounds of several sizes, in front, between and more than one where the processor allows."""
    medium = next(iter(model.modalities - {"text"}))
    token = model.placeholder(medium)
    if medium == "image":
        made = [Input(f"el perro{token} three", (picture(20, 30),)), Input("the cat sat", (picture(40, 24, 1),))]
        return [made[0], "three plus five", made[1], Input("8=", (picture(20, 30, 2),)),
                Input(f"{token} plus {token}", (picture(20, 30, 3), picture(20, 30, 4)))]  # fmt: skip
    made = [Input(f"el perro{token} three", (), (sound(0.4),)), Input("the cat sat", (), (sound(0.7, 1),))]
    return [made[0], "three plus five", made[1], Input("8=", (), (sound(0.4, 2),))]


class Plain(MediaOracle):
    """One prompt at a time, in float64, as the library's own documentation does."""

    def __init__(self, name):
        super().__init__(*make_media_module(name))

    @torch.no_grad()
    def run(self, prompt):
        return self.module(**self.ids(prompt), use_cache=False, output_hidden_states=True)


def close(ours, theirs, **bound):
    torch.testing.assert_close(ours.double(), theirs, atol=5e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", MEDIA)
def test_every_architecture_passes_its_checks(media, name):
    model = media(name)
    found = self_check(model)
    assert [check.name for check in found] == list(loading.CHECKS)
    assert model.modalities == {"text", "image" if name in SEEING else "sound"} and model.n_layers == 3


@pytest.mark.parametrize("name", MEDIA)
def test_states_and_lens_agree_with_one_at_a_time(media, name):
    """All prompts in one call: every position of every layer before the last, and the model's own log-probabilities."""
    model, plain = media(name), Plain(name)
    items = prompts(model)
    ours = hidden_states(model, items, positions="all")
    for item, prompt in enumerate(items):
        theirs, mine = plain.run(prompt), ours.hidden[ours.item == item]
        close(mine[:, :-1], torch.stack([h[0] for h in theirs.hidden_states[:-1]], dim=1))
        targets = model.text_vocab.nonzero()[:, 0]
        close(lens(model, mine[:, -1:], targets=targets).logprob[:, 0], theirs.logits[0].log_softmax(-1)[:, targets])


@pytest.mark.parametrize("name", MEDIA)
def test_edits_of_patches_and_generation_agree_with_plain_hooks(media, name):
    model, plain = media(name), Plain(name)
    items = prompts(model)[:2] + prompts(model)[3:4]
    encodings = model.encode(items)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    edit = Edit((2,), vector, positions=[encoding.patches[1:] for encoding in encodings])
    ours = next_token_logprobs(model, items, torch.arange(9), edit=edit, strengths=(0.0, 2.0))
    written = generate(model, items, max_new_tokens=3, edit=edit, strengths=(0.0, 2.0))
    for item, (prompt, encoding) in enumerate(zip(items, encodings, strict=True)):
        for column, strength in enumerate((0.0, 2.0)):
            done = []

            def add(block, args, output, places=encoding.patches[1:], strength=strength, done=done):
                if not done:
                    output = output[0] if isinstance(output, tuple) else output
                    output[0, places] += strength * vector.double()
                    done.append(True)

            handle = plain.blocks[1].register_forward_hook(add)
            close(ours[item, column], plain.run(prompt).logits[0, -1].log_softmax(-1)[:9])
            done.clear()
            given = plain.ids(prompt)
            length = given["input_ids"].shape[1]
            end = {"eos_token_id": model.tokenizer.eos_token_id, "pad_token_id": model.tokenizer.pad_token_id}
            given.pop("labels", None)
            out = plain.module.generate(**given, max_new_tokens=3, do_sample=False, **end)
            handle.remove()
            assert written[item][column] == model.tokenizer.decode(out[0, length:], skip_special_tokens=True)


@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl", "qwen2-audio"])
def test_patching_the_last_token_behind_a_picture_is_replacing_it(media, name):
    model, items = media(name), prompts(media(name))
    vectors = torch.randn(len(items), 2, 32, generator=torch.Generator().manual_seed(0))
    ends = patched_states(model, items, vectors, layers=(1, 3))
    for column, layer in enumerate((1, 3)):
        edit = Edit((layer,), vectors[:, column], mode="replace")
        close(ends[:, column], torch.stack([some[-1, 3] for some in states_under(model, items, edit)]).double())


def given_again(model, monkeypatch):
    """Which forwards are given a picture or sound."""
    run, given = model.run, []
    told = lambda ids, extras=None, **how: given.append(any(v.is_floating_point() for v in (extras or {}).values()))  # noqa: E731
    monkeypatch.setattr(model, "run", lambda *args, **how: told(*args, **how) or run(*args, **how))
    return given


@pytest.mark.parametrize("name", MEDIA)
def test_edited_forwards_do_not_read_pictures_and_sounds_again(media, name, monkeypatch):
    model = wrap(*make_media_module(name), model_id=name)
    items = [item for item in prompts(model) if isinstance(item, Input)][:2]
    places, vector = [e.patches for e in model.encode(items)], torch.ones(32)
    edits = [Edit((layer,), vector, places, mode) for layer in range(4) for mode in ("add", "turn")]
    edited_states(model, items, edits[:1])  # what is kept, and how far the model can be followed, is known then
    given = given_again(model, monkeypatch)
    ours = edited_states(model, items, edits)
    assert given and any(given) != model.begins[True]
    for item, prompt in enumerate(items):
        for column, edit in enumerate(edits):
            one = states_under(model, [prompt], replace(edit, positions=places[item]))[0]
            close(ours[item, column], one[-1, 3].double())


def test_a_model_that_looks_at_its_picture_again_is_run_whole(monkeypatch):
    model = wrap(*make_media_module("llava"), model_id="llava")
    last, seen = model.blocks[2].forward, {}
    model.module.base_model.multi_modal_projector.register_forward_hook(lambda part, a, out: seen.update(at=out[0, 0]))
    items = [item for item in prompts(model) if isinstance(item, Input)][:1]
    plain = edited_states(model, items, [Edit((1,), torch.ones(32))])
    assert model.begins == {True: True}
    model.blocks[2].forward = lambda *args, **how: last(*args, **how) + seen.pop("at", 0)
    model.begins.clear()
    model.store.clear()
    given = given_again(model, monkeypatch)
    again = edited_states(model, items, [Edit((1,), torch.ones(32))])
    assert model.begins == {True: False} and given[-1]
    assert (again - plain).abs().max() > 1e-3
    close(again[0, 0], states_under(model, items, Edit((1,), torch.ones(32)))[0][-1, 3].double())


def test_one_model_sees_and_hears(media):
    """Both in one prompt, between the special tokens by which the model finds them."""
    model, plain = media("qwen2.5-omni"), Plain("qwen2.5-omni")
    assert model.modalities == {"text", "image", "sound"} and all(check.passed for check in self_check(model))
    item = Input("three plus", (picture(20, 30),), (sound(0.5),))
    (encoding,) = model.encode([item])
    assert encoding.text.startswith("<boi><image>") and encoding.text.endswith("<audio><eoa>three plus")
    assert len(encoding.patches) == 8 + 12 and encoding.frames == encoding.patches[8:] and encoding.grid is None
    ours = hidden_states(model, [item, Input("8=", (picture(20, 30, 1),)), "el perro"], positions="all")
    theirs = plain.run(replace(item, text="<boi><image><eoi><boa><audio><eoa>three plus")).hidden_states[:-1]
    close(ours.hidden[ours.item == 0][:, :-1], torch.stack([h[0] for h in theirs], dim=1))


# Where pictures and sounds stand


def test_positions_grids_and_texts(media):
    rectangles = {"llava": (4, 4), "llava-interleave": (4, 4), "chameleon": (8, 8), "gemma3": (2, 2)}
    rectangles |= dict.fromkeys(("qwen2.5-vl", "qwen3-vl"), (2, 4))
    found = {name: media(name).encode(prompts(media(name))) for name in MEDIA}
    for name, encodings in found.items():
        tokenizer, (first, text, second, *_) = media(name).tokenizer, encodings
        assert first.grid == rectangles.get(name) and text.grid is None and not text.patches
        marks = {tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "<audio>")}
        assert {first.ids[place] for place in first.patches} <= marks and not marks & set(text.ids)
        words = [encoding.text[a:b] for encoding in encodings for a, b in encoding.offsets]
        assert words.count("<image>") + words.count("<audio>") == sum(len(encoding.patches) for encoding in encodings)
        assert "".join(second.text[a:b] for a, b in second.offsets).endswith("thecatsat")
        assert (first.frames == first.patches) == (name in LISTENING)
    tall, two = found["qwen2.5-vl"][2], found["llava"][4]
    assert tall.grid == (5, 3) and two.grid is None and len(two.patches) == 32
    assert found["qwen2-audio"][0].seconds == pytest.approx(0.04) and found["glm-asr"][0].seconds == pytest.approx(0.08)
    assert len(found["qwen2-audio"][2].frames) == 17  # 0.7 s


@pytest.mark.parametrize("name", ["llava", "llava-interleave", "qwen2.5-vl", "qwen3-vl", "gemma3"])
def test_the_grid_is_in_reading_order(media, name):
    """Where a picture changes in one cell of the grid, the embeddings change most there."""
    model, wide = media(name), 32 if name == "llava" else 48  # which cuts off what is not square
    base = Image.new("RGB", (wide, 32), (128,) * 3)
    (encoding,) = model.encode([Input("8", (base,))])
    rows, columns = encoding.grid
    height, width = 32 // rows, wide // columns
    places, items = [(0, columns - 1), (rows - 1, 0), (rows // 2, columns // 2)], [Input("8", (base,))]
    for row, column in places:
        other = base.copy()
        other.paste(picture(height, width, 5), (column * width, row * height))
        items.append(Input("8", (other,)))
    states = hidden_states(model, items, positions=[encoding.patches] * len(items), layers=[0]).hidden[:, 0]
    states = states.unflatten(0, (len(items), -1))
    assert [divmod(int(moved.argmax()), columns) for moved in (states[1:] - states[0]).norm(dim=-1)] == places


def test_what_of_a_picture_the_grid_covers(media):
    def views(name, *sizes):
        return [encoding.view for encoding in media(name).encode([Input("a", (Image.new("RGB", s),)) for s in sizes])]

    whole, wide, tall, dot = views("llava", (32, 32), (48, 32), (32, 48), (1, 1))  # resized to 16 and cut to the middle
    assert whole == pytest.approx((0, 0, 1, 1), abs=0.004) and dot == pytest.approx((0, 0, 1, 1), abs=0.02)
    assert wide == pytest.approx((1 / 6, 0, 5 / 6, 1), abs=0.004)
    assert tall == pytest.approx((0, 1 / 6, 1, 5 / 6), abs=0.004)
    for name in ("llava-interleave", "qwen2.5-vl", "gemma3"):  # squeezed
        assert views(name, (48, 32))[0] == pytest.approx((0, 0, 1, 1), abs=0.004)


def test_a_placeholder_in_front_is_the_default_and_size_does_not_matter(media):
    model = media("qwen2.5-vl")
    token = model.placeholder("image")
    one, same = model.encode([Input("three", (picture(20, 30),)), Input(token + "three", (picture(20, 30),))])
    assert one.ids == same.ids and one.text == same.text == token * 8 + "three"
    tiny_and_long = model.encode([Input("a", (picture(1, 1),)), Input("a", (picture(3, 40),))])
    assert all(len(encoding.patches) == np.prod(encoding.grid) for encoding in tiny_and_long)


def test_sounds_of_any_rate(media):
    tones = [np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) for rate in (8000, 16000)]
    at_8k, at_16k = media("qwen2-audio").encode([Input("a", (), (Sound(tone, len(tone)),)) for tone in tones])
    assert at_8k.ids == at_16k.ids
    assert float((at_8k.extras()["input_features"] - at_16k.extras()["input_features"])[..., 5:-5].abs().max()) < 0.05


@pytest.mark.parametrize("name", ["llava", "idefics3", "qwen2-audio"])
def test_what_does_not_fit_is_made_anew(media, name, monkeypatch):
    model, items = media(name), prompts(media(name))
    kept = hidden_states(model, items, max_batch_tokens=60)
    monkeypatch.setattr("semhub_utils.inputs.KEPT_BYTES", 4000)  # one of them
    encodings = model.encode(items)
    assert any(encoding.extras()[name] is not of for encoding in encodings for name, of in encoding.extras().items())
    assert [encoding.kind for encoding in encodings] == [encoding.kind for encoding in model.encode(items)]
    torch.testing.assert_close(hidden_states(model, items, max_batch_tokens=60).hidden, kept.hidden)


# What a check catches


@pytest.mark.parametrize(
    ("spoil", "fails"),
    [(torch.zeros_like, {"merge", "content"}), (lambda mask: mask.roll(1, dims=1), {"merge"})],
    ids=["not merged", "one patch too few"],
)
def test_a_picture_that_is_merged_wrongly_is_caught(spoil, fails):
    module, processor = make_media_module("llava")
    real = module.model.get_placeholder_mask
    module.model.get_placeholder_mask = lambda *args, **named: spoil(real(*args, **named))
    found = self_check(wrap(module, processor, model_id="spoiled"), raise_on_failure=False)
    failed = {check.name for check in found if not check.passed}
    assert fails <= failed and "lens" not in failed


def test_a_picture_seen_before_it_stands_is_caught(media):
    model = wrap(media("llava").module, media("llava").processor, model_id="early")
    with model.hook(1, lambda h: h + h.mean(1, keepdim=True) * 0.01):
        found = {check.name: check.passed for check in self_check(model, raise_on_failure=False)}
    assert not found["content"] and found["merge"]


def test_a_model_that_reads_both_ways_is_refused():
    with pytest.raises(SemhubError, match="paligemma reads later tokens at earlier positions"):
        wrap(*make_media_module("paligemma"), model_id="paligemma")


# Image tokens in the vocabulary


@pytest.mark.parametrize("reading", ["raw", "normed"])
def test_image_tokens_are_left_out_of_the_text_lens(media, reading):
    model = media("chameleon")
    images = (~model.text_vocab).nonzero()[:, 0]
    assert images.tolist() == list(range(20, 50)) and media("llava").text_vocab.all()
    hidden = (model.unembedding[images[:4]] * 50)[:, None].detach()  # states that say image tokens and nothing else
    asked = {"targets": torch.arange(model.vocab_size), "top_k": 5, "rank": True, "entropy": True}
    read = lens(model, hidden, **asked, reading=reading, layers=[1])
    assert not set(read.top_ids.flatten().tolist()) & set(images.tolist())
    torch.testing.assert_close(read.logprob.exp().sum(-1), torch.ones(4, 1))
    assert float(read.logprob[..., images].exp().max()) == 0 and bool(read.entropy.isfinite().all())
    assert int(read.rank[..., images].min()) > model.vocab_size - len(images)
    with_them = model.normalise(hidden[:, 0], norm=False) @ model.unembedding.T  # what the lens would have said
    assert set(with_them.argmax(-1).tolist()) <= set(images.tolist())


def test_a_whole_block_of_image_tokens(media, monkeypatch):
    """Blocks of the vocabulary that hold nothing else, the first among them, add nothing."""
    model = media("chameleon")
    hidden = hidden_states(model, ["three plus five", "8=3+"], layers=[1, 3]).hidden
    whole = lens(model, hidden, top_k=3, entropy=True)
    monkeypatch.setattr("semhub_utils.lens.TABLE", {"cpu": (7, 10), "other": (7, 10)})
    never = model.structure.never.clone()
    pieces = lens(model, hidden, top_k=3, entropy=True)
    torch.testing.assert_close(pieces.entropy, whole.entropy)
    assert torch.equal(pieces.top_ids, whole.top_ids)
    never[:12] = True
    monkeypatch.setattr(model.structure, "never", never)
    logits = model.logits(hidden[:, 0])[:, ~never].log_softmax(-1)
    read = lens(model, hidden[:, :1], entropy=True)
    torch.testing.assert_close(read.entropy[:, 0], -(logits.exp() * logits).sum(-1))


# Folders, twins, refusals


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen2-audio"])
def test_load_and_check_a_folder(media, name, tmp_path, capsys):
    model = media(name)
    model.module.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), check=False)
    assert of_model(loaded) == of_model(load_model(str(tmp_path), check=False))
    assert loaded.modalities == model.modalities
    items = prompts(model)[:2]
    torch.testing.assert_close(hidden_states(loaded, items).hidden, hidden_states(model, items).hidden)
    assert main(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"takes {'image' if name in SEEING else 'sound'}, text" in out and "FAIL" not in out and "merge" in out


def test_the_chat_template_on_request(media):
    model = wrap(*make_media_module("llava"), model_id="chatty")
    with pytest.raises(SemhubError, match="chatty has no chat template"):
        model.chat("three")
    model.processor.chat_template = (
        "<end>{% for m in messages %}USER: {% for c in m['content'] %}"
        "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    asked = model.chat(Input("three", (picture(4, 4),)))
    assert asked.text == "<end>USER: <image>three ASSISTANT:" and len(model.encode([asked])[0].patches) == 16
    assert model.chat("three").text == "<end>USER: three ASSISTANT:"


@pytest.mark.parametrize(
    ("name", "prompt", "said"),
    [
        ("llava", Input(""), "Prompt 0 is empty"),
        ("llava", Input("see <image>"), "Prompt 0 holds 0 images and 1 times <image>; as many, or none, would do"),
        ("llava", Input("a", (), (sound(0.1),)), "Prompt 0 holds 1 sounds, which tiny-llava does not take"),
        ("llava", Input("<image><image>", (picture(4, 4),)), "holds 1 images and 2 times <image>; as many, or none"),
        ("llava", Input("a", (picture(4, 4),) * 20), r"has 3\d\d tokens; tiny-llava takes at most 256"),
        ("qwen2-audio", Input("a", (), (Sound(np.zeros(0, np.float32), 16000),)), "empty or not finite"),
        ("qwen2-audio", Input("a", (), (Sound(np.full(99, np.nan, np.float32), 16000),)), "empty or not finite"),
        ("qwen2.5-vl", Input("a", (picture(2, 600),)), "cannot be read by the processor .*aspect ratio"),
    ],
)  # fmt: skip
def test_what_is_refused(media, name, prompt, said):
    with pytest.raises(SemhubError, match=said):
        media(name).encode([prompt])


def test_text_models_take_no_pictures(tiny):
    model = tiny("llama")
    assert isinstance(model, LanguageModel) and model.modalities == {"text"}
    with pytest.raises(SemhubError, match="Prompt 0 holds 1 images, which tiny-llama does not take"):
        model.encode([Input("a", (picture(4, 4),))])
    with pytest.raises(SemhubError, match="takes text, but no 'image'"):
        model.placeholder("image")
    assert model.encode([Input("three"), "three"])[0] == model.encode(["three"])[0]
