"""A checkpoint read from a folder or the hub, and checked: that the instruments see what the library computes. What
cannot be loaded gets one sentence.

Errors are relative (`structure.relative_error`), and so are their bounds (`structure.tolerance`): 5e-5 of the largest
value in float32, GGUF files, which are unpacked, too; in half precision, where batches of another shape round
otherwise, the more the more layers; with weights of 8 or 4 bits as in bfloat16.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from tempfile import TemporaryDirectory

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from semhub_utils.devices import placement, values
from semhub_utils.errors import SemhubError, aside, need, need_one_of
from semhub_utils.formats import (
    Source,
    need_known_quantisation,
    need_same_ids,
    quantisation,
    readable,
    source_of,
    with_adapter,
)
from semhub_utils.identity import DTYPES, RANDOM, training
from semhub_utils.inputs import PER_TOKEN, Encoding, Input, Sound, without_video
from semhub_utils.lens import Reading
from semhub_utils.models import LanguageModel, RandomTwin
from semhub_utils.neighbours import Neighbours
from semhub_utils.refused import explained, hush, need_few_layers, need_same_size, need_same_weights, on_no_device
from semhub_utils.spokes.items import each_or_none
from semhub_utils.spokes.mixed import bank_texts
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, states_under
from semhub_utils.structure import need_decoder, relative_error, tolerance
from semhub_utils.tuned import find

# Which of the library's classes reads a checkpoint; those that take pictures or sounds, and so a processor, come first.
AUTO_CLASSES = (
    "AutoModelForMultimodalLM",
    "AutoModelForImageTextToText",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
)
RANDOM_SEED = 1000  # no control has it
hush()


def load_model(
    model_id: str,
    *,
    revision: str | None = None,
    device: str | torch.device | Mapping[str, str] | None = None,
    dtype: str = "float32",
    check: bool = True,
) -> LanguageModel:
    """Load a hub id, a folder, a GGUF file (ID:FILE.gguf for one of the hub), a folder with a PEFT adapter or
    "organism:NAME", and check it (`self_check`); "random:" before it gives random weights in its place, of another seed
    than the controls have. device: of all of it; or "auto", or a device map of accelerate's, spreads it over several,
    memory and disk (`devices.placement`).

    Only safetensors and GGUF are read and no remote code is run. Raises SemhubError with one sentence on anything that
    cannot be loaded: what was given and what would do."""
    need_one_of(dtype, DTYPES, f"dtype was {dtype!r}")
    if model_id.startswith(RANDOM):
        given = {"revision": revision, "device": device, "dtype": dtype, "check": False}
        like = load_model(model_id.removeprefix(RANDOM), **given)
        module, reads = RandomTwin(like, RANDOM_SEED).module, like.processor or like.tokenizer
        model = LanguageModel(module, reads, model_id=model_id, revision=revision)
        if check:
            self_check(model)
        return model
    spread = placement(device)
    target = None if spread else device_of(device)
    with explained(model_id, revision, "file"):
        source = source_of(model_id, revision)
    need(
        not (source.gguf and isinstance(device, Mapping) and "disk" in device.values()),
        f"{model_id} is a GGUF file, of which a device map puts nothing on disk; 'auto,cpu=8GB', which puts "
        "there what does not fit, would do.",
    )
    named, where = source.named, source.options(revision)
    with explained(named, revision, "configuration"), readable(source):
        config = _configuration(source, where)
    need_decoder(not getattr(config, "is_encoder_decoder", False), named, "is an encoder-decoder")
    autos = (getattr(transformers, name) for name in AUTO_CLASSES)
    auto = next((auto for auto in autos if type(config) in auto._model_mapping), None)
    need_decoder(auto, named, f"is of the type {config.model_type!r}, which is none")
    part, reads = "tokenizer", transformers.AutoTokenizer
    if auto is not transformers.AutoModelForCausalLM:
        part, reads = "processor", transformers.AutoProcessor
        if type(config) in PROCESSOR_MAPPING:
            reads = without_video(PROCESSOR_MAPPING[type(config)])
    with explained(named, revision, part), readable(source), aside():
        tokenizer = reads.from_pretrained(source.reads, **where)
        need_same_ids(source, tokenizer)
    options = {"config": config, "dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True}
    kind = source.quantisation or quantisation(config)
    # removed with the object; what lies in safetensors as the model takes it is read from there, and not written here
    folder = TemporaryDirectory(prefix="semhub-offload-", ignore_cleanup_errors=True) if spread else None
    if folder:
        options |= spread | {"offload_folder": folder.name}
    elif kind and not source.gguf:
        options["device_map"] = {"": target}
    if source.gguf and hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    build = partial(on_no_device, auto, config)
    need_same_size(source.place, build)
    with explained(named, revision, "weights", build), readable(source, config):
        module, info = auto.from_pretrained(source.place, ignore_mismatched_sizes=True, **options, **where)
        module = module if "device_map" in options else module.to(target)
    files = source.files(revision)
    need_same_weights(named, module, info, [] if source.gguf else files)
    if source.gguf:
        vars(module.config).pop("quantization_config", None)  # its weights are plain by now
    if source.adapter:
        module = with_adapter(module, source.adapter, source.place)
    with explained(model_id, revision, "model"):
        model = LanguageModel(module, tokenizer, model_id=model_id, revision=revision)
    model.find_readings, model.files, model.offloaded = _readings, files, folder
    model.quantisation, model.base = kind, source.named if source.adapter else ""
    model.card = training(model)
    if check:
        self_check(model)
    return model


def _configuration(source: Source, where: Mapping) -> transformers.PretrainedConfig:
    """What `source` says of itself, looked at before the library makes a list of its layers."""
    if not source.gguf:
        need_few_layers(source.named, transformers.PretrainedConfig.get_config_dict(source.place, **where)[0])
    config = transformers.AutoConfig.from_pretrained(source.place, **where)
    need_few_layers(source.named, config.to_dict())
    need_known_quantisation(config, source.named)
    return config


def _readings(model: LanguageModel) -> dict[str, Reading]:
    """Those that lie beside a model, and that by the texts of its own world, or natural ones."""
    texts = (bank_texts(model.model_id, *of, natural=not model.card) for of in ((), (("en",),)))
    return find(model) | {"neighbours": Neighbours(*texts)}


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of that name; by itself an accelerator if there is one. Raises SemhubError if it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.zeros(1, device=target).item()  # which a device without memory has not
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise SemhubError(f"device was {str(device)!r}, which is not available here; 'cpu' would do.") from error
    return target


# Checks


@dataclass(frozen=True)
class Check:
    """One property of a handle: the largest relative error found, and the bound it has to stay under."""

    name: str
    value: float
    bound: float
    meaning: str

    @property
    def passed(self) -> bool:
        return self.value <= self.bound


def self_check(model: LanguageModel, *, raise_on_failure: bool = True) -> list[Check]:
    """Run every check on a few short prompts made of the tokenizer's own tokens, on some as chapters write them, and,
    where the model takes them, of noise to see and hear. Raises SemhubError naming the model, the check and its figure,
    unless told not to."""
    checks, bound = [], tolerance(model.rounding, model.n_layers)
    with model.store.counted("self-check", off=True), torch.inference_mode():
        seen = _Seen(model)
        for name, (meaning, measure) in CHECKS.items():
            checks.append(Check(name, measure(seen), bound, meaning))
            need(
                checks[-1].passed or not raise_on_failure,
                f"{model.model_id} fails the check {name!r} ({meaning}): {checks[-1].value:.1e} where at most "
                f"{bound:.0e} is rounding; another dtype or checkpoint would do.",
            )
    return checks


class _Seen:
    """A handle and its prompts: at their sites, all positions of a short one and some of a long one, the states of all
    in padded batches, [site, layer, hidden]; and by prompt what the library gives."""

    def __init__(self, model: LanguageModel):
        texts, media = _texts(model), _media(model)
        self.model, self.prompts, self.media = model, texts + media, media
        self.together, self.logits, self.theirs = self.states(self.prompts), [], []
        for prompt in self.prompts:
            given = {name: value.to(model.device) for name, value in prompt.extras().items()}
            given |= {"input_ids": torch.tensor([prompt.ids], device=model.device)}
            out, at = model.module(**given, use_cache=False, output_hidden_states=True), _sites(prompt)
            self.logits.append(out.logits[0, at])
            self.theirs.append([state[0, at].float().cpu() for state in out.hidden_states])

    def states(self, prompts: list[Encoding]) -> Tensor:
        return hidden_states(self.model, prompts, positions=[_sites(p) for p in prompts]).hidden

    def under(self, prompts: list[Encoding], edit: Edit) -> Tensor:
        found = zip(states_under(self.model, prompts, edit), map(_sites, prompts), strict=True)
        return torch.cat([states[sites] for states, sites in found])

    def everywhere(self, prompt: Encoding, layers: list[int]) -> Tensor:
        return hidden_states(self.model, [prompt], positions="all", layers=layers).hidden

    def worst_layer(self, ours: Tensor, reference: Tensor) -> float:
        by_layer = zip(ours.unbind(1), reference.unbind(1), strict=True)
        return _worst(relative_error(a, b, self.model.rounding) for a, b in by_layer)


def _worst(errors: Iterable[float]) -> float:
    """The largest; what is no number stays none, which Python's own `max` may lose."""
    return float(np.max([*errors]))


WOULD = "the tokenizer the model was trained with would do"
PLAIN = "hello", " hello"


def _spread(model: LanguageModel) -> list[int]:
    """16 ordinary tokens spread over the vocabulary."""
    special = set(model.tokenizer.all_special_ids)
    ids = [i for i in sorted(model.tokenizer.get_vocab().values()) if i not in special and i < model.vocab_size]
    need(ids, f"The tokenizer of {model.model_id} has no ordinary token that the model knows; {WOULD}.")
    return [ids[k * len(ids) // 16] for k in range(16)]


def _texts(model: LanguageModel) -> list[Encoding]:
    """Three prompts of different lengths from ordinary tokens, and some as chapters write them, with what the tokenizer
    or the `anchor` puts in front, as far as the model takes them. Raises SemhubError where it takes none of
    these, and where the tokenizer breaks on one, or reads a plain word as nothing."""
    spread = _spread(model)
    found = [Encoding(spread[a:b], [(0, 0)] * (b - a), "") for a, b in ((0, 8), (8, 11), (11, 16))]
    written = ("3+5=", "The cat sees", f"{model.anchor}red", "这代表了")
    for text in (*written, *PLAIN):
        ids = model.by_tokenizer(text, add_special_tokens=False).input_ids
        need(ids or text not in PLAIN, f"The tokenizer of {model.model_id} reads {text!r} as no token at all; {WOULD}.")
    read = each_or_none(*(partial(model.encode, [text]) for text in written))
    return [*found, *chain(*read)]


def _media(model: LanguageModel) -> list[Encoding]:
    """For each of what else than text the model takes, a prompt that holds it, one that begins with it, larger, and the
    first again with another content."""
    spread = _spread(model)
    noise, words = np.random.default_rng(0), [model.tokenizer.decode(spread[a:b]) for a, b in ((0, 3), (3, 9))]

    def picture(size: tuple[int, int]) -> Image.Image:
        return Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8))

    def sound(seconds: float) -> Sound:
        rate = model.reader.hearing.sampling_rate
        return Sound(noise.uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32), rate)

    media: list[Input] = []
    for medium, made, sizes in (("image", picture, ((40, 60), (70, 40), (40, 60))), ("sound", sound, (0.5, 0.9, 0.5))):
        if medium in model.modalities:
            between = words[0] + model.placeholder(medium) + words[1]
            read = zip((between, words[1], between), map(made, sizes), strict=True)
            media += [Input(text, **{f"{medium}s": (content,)}) for text, content in read]
    return model.encode(media)


def _sites(prompt: Encoding) -> list[int]:
    n = len(prompt)
    return sorted({k * (n - 1) // 63 for k in range(64)} if n > 64 else range(n))


def _all_are_numbers(seen: _Seen) -> float:
    """Of the weights, and of what both ways read: a state beyond the range of half precision is none."""
    names = {name for name, part in seen.model.module.named_parameters() if part.is_floating_point()}
    weights = (part for name, part in values(seen.model.module) if name in names)
    made = (part for _, part in seen.model.module.named_buffers() if part.is_floating_point() and not part.is_meta)
    if any(bool((~part.isfinite() & (part != float("-inf"))).any()) for part in made):  # a mask may be -inf
        return float("inf")
    read = [seen.together, *seen.logits, *(state for states in seen.theirs for state in states)]
    return 0.0 if all(bool(part.isfinite().all()) for part in chain(read, weights)) else float("inf")


def _lens_is_model(seen: _Seen) -> float:
    ours = seen.model.logits(seen.together[:, -1])
    both = (some[:, seen.model.text_vocab].float().cpu() for some in (ours, torch.cat(seen.logits)))
    return relative_error(*both, seen.model.rounding)


def _batch_is_single(seen: _Seen) -> float:
    return seen.worst_layer(seen.together, torch.cat([seen.states([prompt]) for prompt in seen.prompts]))


def _layers_are_library(seen: _Seen) -> float:
    """The library lists L+1 states: layers 0 to L-1 (state-space models: 1 to L), then the normed last one."""
    model, found = seen.model, []
    for n in [0, *range(len(seen.prompts) - len(seen.media), len(seen.prompts), 3)]:
        ours, (*theirs, last) = seen.states([seen.prompts[n]]), seen.theirs[n]
        if len(theirs) != model.n_layers:
            return float("inf")
        normed = model.normalise(ours[:, -1]).float().cpu() / model.structure.tail_scale
        ends = [end.cpu() for end in (normed, ours[:, -1]) if end.shape == last.shape]
        found.append(np.min([relative_error(end, last, model.rounding) for end in ends]))
        inner = torch.stack(theirs, dim=1)
        found.append(np.min([seen.worst_layer(some.cpu(), inner) for some in (ours[:, :-1], ours[:, 1:])]))
    return _worst(found)


def _merge_is_where_said(seen: _Seen) -> float:
    """The positions whose embeddings are others than those of the same ids read as text."""
    for prompt in seen.media:
        plain = {name: value for name, value in prompt.extras().items() if name in PER_TOKEN}
        read, as_text = (seen.everywhere(one, [0])[:, 0] for one in (prompt, replace(prompt, extras=plain.copy)))
        merged = (read != as_text).any(1).nonzero()[:, 0].tolist()
        if merged != prompt.patches or (prompt.grid and prompt.grid[0] * prompt.grid[1] != len(merged)):
            return float("inf")
    return 0.0


def _content_is_seen(seen: _Seen) -> float:
    """Another picture or sound changes states where it stands and behind it, and none before."""
    found = [0.0]
    for one, other in zip(seen.media[::3], seen.media[2::3], strict=True):
        first, last = one.patches[0], one.patches[-1]
        a, b = (seen.everywhere(prompt, [0, seen.model.n_layers]) for prompt in (one, other))
        if one.ids != other.ids or not (a != b)[one.patches, 0].any() or not (a != b)[last + 1 :, 1].any():
            return float("inf")
        if first:
            found.append(seen.worst_layer(a[:first], b[:first]))
    return _worst(found)


def _zero_changes_nothing(seen: _Seen) -> float:
    zero = torch.zeros(seen.model.hidden_size)
    nothing = Edit(tuple(range(seen.model.n_layers + 1)), zero, positions="all")
    return seen.worst_layer(seen.under(seen.prompts, nothing), seen.together)


def _edit_lands(seen: _Seen) -> float:
    layer, some = (seen.model.n_layers + 1) // 2, seen.prompts[:1]
    before = seen.states(some)
    vector = before[0, layer].roll(1)
    after = seen.under(some, Edit((layer,), vector))
    expected = before[:, : layer + 1].clone()
    expected[-1, layer] += vector
    above = float("inf") if torch.equal(after[-1, -1], before[-1, -1]) else 0.0
    return _worst((seen.worst_layer(after[:, : layer + 1], expected), above))


def _future_is_unseen(seen: _Seen) -> float:
    whole, n = seen.prompts[0], len(seen.prompts[0]) - 1
    other = replace(whole, ids=[*whole.ids[:n], seen.prompts[1].ids[0]])
    return seen.worst_layer(*(seen.states([prompt])[:n] for prompt in (whole, other)))


CHECKS: dict[str, tuple[str, Callable[[_Seen], float]]] = {
    "finite": ("weights, states and logits are numbers, on prompts as chapters write them too", _all_are_numbers),
    "lens": ("the normed lens of the last layer gives the model's own logits", _lens_is_model),
    "batch": ("a padded batch gives the states of one prompt at a time", _batch_is_single),
    "layers": ("layers are as many and in the order of the library's hidden states", _layers_are_library),
    "zero": ("adding zero everywhere changes nothing", _zero_changes_nothing),
    "edit": ("an edit changes its own layer and position by its vector and reaches the output", _edit_lands),
    "merge": ("pictures and sounds stand where the encoding says, and nowhere else", _merge_is_where_said),
    "content": ("another picture or sound changes the states from where it stands, and none before", _content_is_seen),
    "causal": ("a later token does not change an earlier state", _future_is_unseen),
}
