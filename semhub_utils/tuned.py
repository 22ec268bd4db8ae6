"""The tuned lens (Belrose et al., arXiv 2303.08112): a translator per layer, trained to say what the model will say.

The translator of layer l turns a state h into h + A h + b, put before the final norm; at layer L it changes nothing.
A and b are trained to bring the lens near the model's own output: KL(model || lens), in nats, over positions of text
that is stated in the file, and of pictures or sounds where the book's own models take such. Untrained (A = b = 0) it is
the normed lens. A translator may add what the model itself adds later, so it shows what can be foretold from a state,
and the normed lens what stands there.

The states of a batch of texts are read at all layers, the vocabulary passes by in blocks, and the gradient of each
block is worked out by hand: nothing of size layers x positions x vocabulary is made. A stopped training resumes.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding, Input
from semhub_utils.lens import ThroughUnembedding
from semhub_utils.models import LanguageModel
from semhub_utils.organism.world import World
from semhub_utils.states import hidden_states
from semhub_utils.zoo import CARD, PREFIX, atomically, beside
from semhub_utils.zoo import TUNED as FILE

UNFINISHED = "tuned.part.safetensors"
BLOCK = 8192  # tokens of the vocabulary at a time
CHUNK = 256  # longer texts are cut
POSITIONS = 64  # read of one text in one step
STEP_TOKENS = 512
SAVE_EVERY = 50
RATE = 3e-3
GENERATED = 14000  # lines for a shipped model, 2,000 of each type
SENSED = 2000  # pictures or sounds beside them, where the model takes such
LEAST = 20  # different texts
HELD_OUT = 0.1
HELD_OUT_TOKENS = 8192


@dataclass(frozen=True)
class Translators(ThroughUnembedding):
    """The reading "tuned": called with a layer and its states, it gives what is put before the final norm.

    about: what the file says of itself, plain JSON: model, unembedding (its hash), text, tokens, steps, seed, seconds,
    held_out_tokens, and per layer 0..L-1 the held-out KL in nats, kl_tuned and kl_normed.
    """

    weight: Float[Tensor, "layer hidden hidden"]
    bias: Float[Tensor, "layer hidden"]
    about: dict = field(default_factory=dict)
    name: ClassVar[str] = "tuned"
    random_weights: ClassVar[bool] = False  # other weights would need translators of their own

    def inputs(self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int]) -> Tensor:
        found = [model.normalise(self(layer, hidden[:, k])) for k, layer in enumerate(layers)]
        return torch.stack(found, dim=1)

    def __call__(self, layer: int, h: Float[Tensor, "*row hidden"]) -> Float[Tensor, "*row hidden"]:
        if layer == len(self.weight):
            return h
        weight, bias = (part[layer].to(h.device, h.dtype) for part in (self.weight, self.bias))
        return h + h @ weight.T + bias

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the values."""
        return _digest(self.weight, self.bias)


def unembedding_hash(model: LanguageModel) -> str:
    """16 hex digits of a SHA-256 over the unembedding in bfloat16, so that the dtype it is loaded in hardly counts."""
    return _digest(model.unembedding.detach().to(torch.bfloat16).view(torch.int16))


def _digest(*tensors: Tensor) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{tuple(tensor.shape)}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


# Files


def save(translators: Translators, path: str | Path) -> Path:
    """Write in half precision, whole or not at all."""
    tensors = {"weight": translators.weight.half().contiguous(), "bias": translators.bias.half().contiguous()}
    return _write(Path(path), tensors, translators.about)


def load(path: str | Path, model: LanguageModel) -> Translators:
    """Translators for `model`. SemhubError if the file cannot be read, or was made for another unembedding."""
    tensors, about = _read(Path(path))
    if not {"weight", "bias"} <= set(tensors) or "unembedding" not in about:
        raise SemhubError(f"{path} holds no tuned lens; a file written by `semhub tune` would do.")
    if about["unembedding"] != unembedding_hash(model):
        raise SemhubError(
            f"The tuned lens {path} was trained for {about.get('model')} and not for the unembedding of "
            f"{model.model_id}; `semhub tune {model.model_id}` makes one."
        )
    weight, bias = (tensors[name].float() for name in ("weight", "bias"))
    if weight.shape != (model.n_layers, model.hidden_size, model.hidden_size) or bias.shape != weight.shape[:2]:
        raise SemhubError(
            f"The tuned lens {path} has shape {tuple(weight.shape)} and {model.model_id} has {model.n_layers} layers "
            f"of {model.hidden_size}; `semhub tune {model.model_id}` makes one that fits."
        )
    return Translators(weight, bias, about)


def find(model: LanguageModel) -> Translators | None:
    """The tuned lens beside the model, or None where there is none. Raises as `load`."""
    try:
        path = beside(model.model_id, model.revision)
    except SemhubError:  # the name of no shipped model
        return None
    return load(path, model) if path.is_file() else None


def _write(path: Path, tensors: dict[str, Tensor], about: dict) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda to: save_file(tensors, to, {"about": json.dumps(about, ensure_ascii=False)}))
    except OSError as error:
        raise SemhubError(
            f"{path} cannot be written ({error.strerror}); --out with another folder would do."
        ) from error
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    try:
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            return tensors, json.loads((opened.metadata() or {}).get("about", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise SemhubError(f"{path} cannot be read as safetensors; a file written by `semhub tune` would do.") from error


# The divergence


def divergence(
    model: LanguageModel,
    final: Float[Tensor, "row hidden"],
    states: Float[Tensor, "layer row hidden"],
    *,
    gradient: bool = False,
) -> tuple[Float[Tensor, "layer row"], Float[Tensor, "layer row hidden"] | None]:
    """KL(model's own output || lens of `states`), in nats, and if asked its gradient with respect to `states`.

    final: the states at layer L. The vocabulary passes by twice: for the normalisers, then for the sums.
    """
    given = states.detach().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        inputs = [model.normalise(h) for h in given]
    with torch.no_grad():
        own = model.normalise(final)
        blocks = [slice(start, start + BLOCK) for start in range(0, model.vocab_size, BLOCK)]
        # one block tells its own normalisers
        totals = [_log_total(model, x, blocks) for x in (own, *inputs)] if len(blocks) > 1 else None
        kl, back = [0.0] * len(inputs), [0.0] * len(inputs)
        for block in blocks:
            log_p = model.unembed(own, block)
            log_p = log_p - (totals[0] if totals else log_p.logsumexp(1, keepdim=True))
            p = log_p.exp()
            for k, x in enumerate(inputs):
                logits = model.unembed(x, block)
                log_q = logits - (totals[k + 1] if totals else logits.logsumexp(1, keepdim=True))
                kl[k] += torch.linalg.vecdot(p, log_p - log_q)
                if gradient:
                    back[k] += _back(model, log_q.exp_().sub_(p), logits, block)
        kl = torch.stack(kl)
    if not gradient:
        return kl, None
    (found,) = torch.autograd.grad(inputs, given, [g.to(x.dtype) for g, x in zip(back, inputs, strict=True)])
    return kl, found


def _log_total(model: LanguageModel, x: Tensor, blocks: list[slice]) -> Tensor:
    return torch.stack([model.unembed(x, block).logsumexp(1) for block in blocks]).logsumexp(0)[:, None]


def _back(model: LanguageModel, by_logit: Tensor, logits: Tensor, block: slice) -> Tensor:
    """From the gradient by logit to that by the unembedding's input: the way back through cap, scale and product."""
    if (cap := model.structure.logit_cap) is not None:
        by_logit = by_logit * (1 - (logits / cap) ** 2)
    return by_logit * model.structure.logit_scale @ model.unembedding[block].to(by_logit.dtype)


def held_out_kl(
    model: LanguageModel, encodings: Sequence[Encoding], reading: Callable[[int, Tensor], Tensor] | None = None
) -> Float[np.ndarray, " layer"]:
    """Mean KL(model || lens) by layer 0..L-1 over every position of the texts, in nats; `reading` None is the normed
    lens."""
    total, count = np.zeros(model.n_layers), 0
    for some in _batches(encodings):
        final, states = _states(model, some, [range(len(e)) for e in some])
        if reading is not None:
            states = torch.stack([reading(layer, h) for layer, h in enumerate(states)])
        total += divergence(model, final, states)[0].sum(1).double().cpu().numpy()
        count += len(final)
    return total / count


def _states(model: LanguageModel, encodings: Sequence[Encoding], positions) -> tuple[Tensor, Tensor]:
    """The states at layer L, and those of the layers below, layer first, on the model's device."""
    with model.store.counted("training", off=True):
        hidden = hidden_states(model, encodings, positions=[list(row) for row in positions]).hidden.to(model.device)
    return hidden[:, -1], hidden[:, :-1].transpose(0, 1)


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[Encoding]]:
    batch: list[Encoding] = []
    for encoding in encodings:
        batch.append(encoding)
        if sum(map(len, batch)) >= STEP_TOKENS:
            yield batch
            batch = []
    if batch:
        yield batch


# Training


def text_for(
    model_id: str, file: Path | None, *, seed: int, say: Callable[[str], None] = print
) -> tuple[list[str | Input], str]:
    """What to train on, and what it is in words: the lines of `file`, or for a model that `semhub train` made, lines of
    its own world, drawn by `seed`, with questions about pictures or sounds among them if it takes such. Raises
    SemhubError where neither is there."""
    # items are none of a lens's business; only the command asks for them
    from semhub_utils.spokes import audio, files, languages, vision

    if file is not None:
        skipped = files.Skipped()
        found = files.some([line for _, line in files.lines(file, skipped)], file, "text", skipped)
        if skipped.counts:
            say(str(skipped))
        return found, f"{file.name}, {len(found)} lines"
    card = beside(model_id).with_name(CARD)
    if not card.is_file():
        raise SemhubError(
            f"No text was given for the tuned lens of {model_id}; --text FILE, with a text a line of the kind the "
            "model was trained on, would do."
        )
    told = json.loads(card.read_text("utf-8"))
    sense = told.get("sense", {}).get("name")
    if sense:  # what sees or hears was taught its texts as its trunk
        told = json.loads(beside(PREFIX + told["trunk"]["name"]).with_name(CARD).read_text("utf-8"))
    found = languages.mixed_text(GENERATED, seed=seed, world=World(**told["recipe"]["world"]))
    if sense:
        found += (audio if sense == "hears" else vision).mixed_questions(SENSED, seed=seed)
        random.Random(seed).shuffle(found)
    beside_them = {"sees": f" and {SENSED} pictures", "hears": f" and {SENSED} sounds"}.get(sense, "")
    return found, f"{GENERATED} generated lines of all types{beside_them}, seed {seed}"


def summary(found: Translators) -> str:
    """The held-out KL by layer as a text table, and what it was trained on."""
    about = found.about
    how = f"{about['tokens']} tokens of {about['text']}, {about['steps']} steps, {about['seconds']:.0f} s"
    lines = [f"{about['model']}: {how}", "held-out KL to the model's own output, in nats", "layer   normed    tuned"]
    rows = list(zip(about["kl_normed"], about["kl_tuned"], strict=True))
    lines += [f"{layer:5}{normed:9.4f}{tuned:9.4f}" for layer, (normed, tuned) in enumerate(rows)]
    if worse := [str(layer) for layer, (normed, tuned) in enumerate(rows) if tuned > normed]:
        lines.append(f"At layer {', '.join(worse)} the normed lens is nearer: more text or more steps would do.")
    return "\n".join(lines)


def tune(
    model: LanguageModel,
    texts: Sequence[str | Input],
    folder: str | Path,
    *,
    source: str,
    steps: int = 250,
    seed: int = 0,
    stop_at: int | None = None,
    progress: bool = True,
) -> Translators | None:
    """Train translators on `texts` and save them as `folder`/tuned.safetensors, with what they were trained on
    (`source`, for the reader) and how far they are from the model's output on a tenth of the texts, held out.

    AdamW; every step reads `STEP_TOKENS` tokens of texts drawn by seed and step, so a training that was stopped, by
    `stop_at` too (then None is returned), goes on as if it had not been. What is there already is returned as it is.
    Raises SemhubError on too few texts, on bad numbers, or where a training with other settings was left unfinished.
    """
    if steps < 1 or seed < 0:
        raise SemhubError(f"steps was {steps} and seed {seed}; steps from 1 and a seed from 0 would do.")
    encodings = _cut(model, texts)
    different = list(dict.fromkeys(map(_content, encodings)))  # what is held out is nowhere in what is trained on
    if len(different) < LEAST:
        raise SemhubError(f"{source}: {len(different)} different texts; at least {LEAST} would do for a tuned lens.")
    order = np.random.default_rng([seed, 0]).permutation(len(different))
    out = {different[i] for i in order[: int(HELD_OUT * len(different))]}
    held, train = ([e for e in encodings if (_content(e) in out) == side] for side in (True, False))
    held = held[: max(1, HELD_OUT_TOKENS * len(held) // sum(map(len, held)))]
    ids = json.dumps([e.ids for e in encodings])
    settings = {
        "model": model.model_id, "revision": model.revision, "unembedding": unembedding_hash(model),
        "weights": model.fingerprint, "text": source, "text_hash": hashlib.sha256(ids.encode()).hexdigest()[:16],
        "steps": steps, "seed": seed,
    }  # fmt: skip
    done, part = Path(folder) / FILE, Path(folder) / UNFINISHED
    if done.is_file() and settings.items() <= _read(done)[1].items():
        return load(done, model)
    shape = model.n_layers, model.hidden_size
    weight, bias = (torch.zeros(*shape, *more, device=model.device) for more in ((model.hidden_size,), ()))
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, betas=(0.9, 0.99), weight_decay=0.0, foreach=True)
    begun, seconds = _resume(part, settings, weight, bias, optimizer)
    began = time.monotonic() - seconds
    bar = tqdm(total=steps, initial=begun, disable=not progress, desc="tuned lens", unit="step", mininterval=1)
    last = min(steps, stop_at or steps)
    for step in range(begun + 1, last + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / 20) * (1 - (step - 1) / steps)
        kl = _step(model, train, weight, bias, optimizer, np.random.default_rng([seed, step]))
        bar.update()
        bar.set_postfix_str(f"KL {kl:.3f} nats", refresh=False)
        if step % SAVE_EVERY == 0 or step == last:
            state = {f"{k}.{name}": v for k, p in enumerate((weight, bias)) for name, v in optimizer.state[p].items()}
            about = settings | {"step": step, "seconds": round(time.monotonic() - began, 1)}
            _write(part, {"weight": weight, "bias": bias} | {k: v.contiguous() for k, v in state.items()}, about)
    bar.close()
    if last < steps:
        return None
    half = Translators(*(p.half().float().cpu() for p in (weight, bias)))  # as it is stored
    about = settings | {
        "layers": model.n_layers,
        "tokens": sum(map(len, train)),
        "held_out_tokens": sum(map(len, held)),
        "kl_tuned": [float(f"{x:.5g}") for x in held_out_kl(model, held, half)],
        "kl_normed": [float(f"{x:.5g}") for x in held_out_kl(model, held)],
        "seconds": round(time.monotonic() - began, 1),
    }
    save(Translators(half.weight, half.bias, about), done)
    part.unlink(missing_ok=True)
    return load(done, model)


def _content(encoding: Encoding) -> str | int:
    """What is the same in two encodings of one text; pictures and sounds are all different."""
    return id(encoding) if encoding.patches else encoding.text


def _cut(model: LanguageModel, texts: Sequence[str | Input]) -> list[Encoding]:
    """The texts' tokens, long ones in pieces; one with a picture or a sound stays whole. Raises SemhubError on a token
    that the model does not know."""
    longest, found = min(CHUNK, model.max_length or CHUNK), []
    texts = [text for text in texts if isinstance(text, Input) or text.strip()]
    plain = [text for text in texts if isinstance(text, str)]
    tokens = iter(model.tokenizer(plain, verbose=False)["input_ids"] if plain else [])
    sensed = iter(model.encode([text for text in texts if isinstance(text, Input)]))
    for text in texts:
        if isinstance(text, Input):
            found.append(next(sensed))
            continue
        ids = next(tokens)
        if ids and max(ids) >= model.vocab_size:
            raise SemhubError(f"The text {text[:40]!r} has a token that {model.model_id} does not know.")
        pieces = [list(ids[start : start + longest]) for start in range(0, len(ids), longest)]
        found += [Encoding(piece, [(0, 0)] * len(piece), text) for piece in pieces]
    return found


def _resume(part: Path, settings: dict, weight: Tensor, bias: Tensor, optimizer) -> tuple[int, float]:
    """Take up an unfinished training: how many steps and seconds it had; (0, 0.0) where there is none."""
    if not part.is_file():
        return 0, 0.0
    tensors, about = _read(part)
    if not settings.items() <= about.items():
        other = ", ".join(name for name in settings if settings[name] != about.get(name))
        raise SemhubError(
            f"{part} is an unfinished training with another {other}; the settings it was begun with, another folder, "
            "or that file removed, would do."
        )
    for k, p in enumerate((weight, bias)):
        p.copy_(tensors[("weight", "bias")[k]])
        names = [name for name in tensors if name.startswith(f"{k}.")]
        optimizer.state[p] = {
            name.split(".")[1]: tensors[name] if name.endswith("step") else tensors[name].to(p.device) for name in names
        }
    return about["step"], about["seconds"]


def _step(model: LanguageModel, texts: Sequence[Encoding], weight: Tensor, bias: Tensor, optimizer, rng) -> float:
    """One update on texts drawn by `rng`; the mean KL over positions and layers before it, in nats."""
    some, tokens = [], 0
    while tokens < STEP_TOKENS:
        some.append(texts[rng.integers(len(texts))])
        tokens += min(len(some[-1]), POSITIONS)
    positions = [np.sort(rng.permutation(len(e))[:POSITIONS]).tolist() for e in some]
    final, h = _states(model, some, positions)
    translated = h + torch.baddbmm(bias[:, None], h, weight.transpose(1, 2))
    kl, by_state = divergence(model, final, translated, gradient=True)
    by_state = by_state.float() / len(final)
    weight.grad, bias.grad = by_state.transpose(1, 2) @ h, by_state.sum(1)
    optimizer.step()
    return float(kl.mean())
