"""The tuned lens (Belrose et al., arXiv 2303.08112): a translator per layer, trained to say what the model will say.

The translator of layer l turns a state h into h + A h + b, put before the final norm; at layer L it changes nothing.
A and b are trained to bring the lens near the model's own output: KL(model || lens), in nats, over positions of text
that is stated in the file, and of pictures or sounds where the book's own models take such. Untrained (A = b = 0) it is
the normed lens. A translator may add what the model itself adds later, so it shows what can be foretold from a state,
and the normed lens what stands there. A stopped training resumes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils import training
from semhub_utils.errors import SemhubError, need
from semhub_utils.identity import FITTED, beside, of_model, placeless
from semhub_utils.inputs import Encoding, Input
from semhub_utils.lens import ThroughUnembedding
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states

UNFINISHED = "tuned.part.safetensors"
ENTRIES = 2**24  # of the largest table of positions and tokens
CHUNK = 256  # longer texts are cut
POSITIONS = 64  # read of one text in one step
STEP_TOKENS = 512
RATE = 3e-3
LEAST = 20  # different texts
HELD_OUT, HELD_OUT_TOKENS = 0.1, 8192


@dataclass(frozen=True)
class Translators(ThroughUnembedding):
    """A reading that is a map of each layer: called with a layer and its states, it gives what is put before the final
    norm. name: "tuned", or what else made it, such as "jacobian".

    about: what the file says of itself, plain JSON: reading (its name), model, unembedding (its hash), text, tokens,
    seed, seconds, held_out_tokens, and per layer 0..L-1 the held-out KL in nats, kl_<name> and kl_normed.
    """

    weight: Float[Tensor, "layer hidden hidden"]
    bias: Float[Tensor, "layer hidden"]
    about: dict = field(default_factory=dict)
    name: str = "tuned"
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


def load(path: str | Path, model: LanguageModel) -> Translators:
    """Translators for `model`, of the reading that the file names. SemhubError if it cannot be read, or was made for
    another unembedding."""
    tensors, about = training.read(Path(path))
    known = {"weight", "bias"} <= set(tensors) and "unembedding" in about
    need(known, f"{path} holds no reading; a file written by `semhub tune` would do.")
    name = about.get("reading", "tuned")
    makes = f"`semhub tune {model.model_id} --kind {name}` makes one"
    need(
        about["unembedding"] == unembedding_hash(model),
        f"The {name} lens {path} was made for {about.get('model')} and not for the unembedding of {model.model_id}; "
        f"{makes}.",
    )
    weight, bias = (tensors[name].float() for name in ("weight", "bias"))
    shape = model.n_layers, model.hidden_size
    need(
        (weight.shape, bias.shape) == ((*shape, model.hidden_size), shape),
        f"The {name} lens {path} has shape {tuple(weight.shape)} and {model.model_id} has {model.n_layers} layers "
        f"of {model.hidden_size}; {makes} that fits.",
    )
    return Translators(weight, bias, about, name)


def find(model: LanguageModel) -> dict[str, Translators]:
    """Those that lie beside the model, by name. Raises as `load`."""
    try:
        folder = beside(model.model_id, model.revision)
    except SemhubError:  # the name of no shipped model
        return {}
    return {name: load(folder / file, model) for name, file in FITTED.items() if (folder / file).is_file()}


def save(
    model: LanguageModel, found: Translators, folder: str | Path, held: Sequence[Encoding], about: dict
) -> Translators:
    """Write what was made of `model`, in half precision, with how far it is from the model's output on texts held out;
    what is read then. about: what the file says besides."""
    stored = {name: getattr(found, name).half().cpu() for name in ("weight", "bias")}
    reading = Translators(**{name: of.float() for name, of in stored.items()})
    about = {"reading": found.name, "layers": model.n_layers, "held_out_tokens": sum(map(len, held))} | about
    for name, of in ((found.name, reading), ("normed", None)):
        about[f"kl_{name}"] = [float(f"{x:.5g}") for x in held_out_kl(model, held, of)]
    path = Path(folder) / FITTED[found.name]
    training.save(path, stored, about)
    return load(path, model)


# The divergence


def divergence(
    model: LanguageModel,
    final: Float[Tensor, "row hidden"],
    states: Float[Tensor, "layer row hidden"],
    *,
    gradient: bool = False,
) -> tuple[Float[Tensor, "layer row"], Float[Tensor, "layer row hidden"] | None]:
    """KL(model's own output || lens of `states`), in nats, and if asked its gradient with respect to `states`.

    final: the states at layer L. One layer after the other, and no table of more than ENTRIES. By a logit the gradient
    is the difference of the two probabilities; from there it goes back through cap, scale, product and norm.
    """
    structure, width = model.structure, torch.promote_types(states.dtype, torch.float32)
    kl, found = torch.zeros(states.shape[:2], device=states.device, dtype=width), torch.zeros_like(states)
    for rows in torch.arange(len(final)).split(max(1, ENTRIES // model.vocab_size)):
        with torch.no_grad():
            log_p = _log_softmax(model.logits(final[rows]))
            p = log_p.exp()
        for layer, of in enumerate(states[:, rows]):
            h = of.detach().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                x = model.normalise(h)
            with torch.no_grad():
                logits = model.unembed(x)
                log_q = _log_softmax(logits)
                kl[layer, rows] = torch.linalg.vecdot(p, log_p - log_q)
                if not gradient:
                    continue
                by_logit = log_q.exp_().sub_(p)
                if (cap := structure.logit_cap) is not None:
                    by_logit *= 1 - (logits / cap) ** 2
                back = by_logit * structure.logit_scale @ model.unembedding.to(by_logit.dtype)
            (found[layer, rows],) = torch.autograd.grad(x, h, back.to(x.dtype))
    return kl, found if gradient else None


def _log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.logsumexp(1, keepdim=True)


def held_out_kl(
    model: LanguageModel, encodings: Sequence[Encoding], reading: Callable[[int, Tensor], Tensor] | None = None
) -> Float[np.ndarray, " layer"]:
    """Mean KL(model || lens) by layer 0..L-1 over every position of the texts, in nats; `reading` None is the normed
    lens."""
    total, some = np.zeros(model.n_layers), STEP_TOKENS // CHUNK
    for batch in (encodings[first : first + some] for first in range(0, len(encodings), some)):
        final, states = _states(model, batch, [list(range(len(e))) for e in batch])
        if reading is not None:
            states = torch.stack([reading(layer, h) for layer, h in enumerate(states)])
        total += divergence(model, final, states)[0].sum(1).double().cpu().numpy()
    return total / sum(map(len, encodings))


def _states(model: LanguageModel, encodings: Sequence[Encoding], positions: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The states at layer L, and those of the layers below, layer first, on the model's device."""
    with model.store.counted("training", off=True):
        hidden = hidden_states(model, encodings, positions=positions).hidden.to(model.device)
    return hidden[:, -1], hidden[:, :-1].transpose(0, 1)


# Training


def summary(found: Translators) -> str:
    """The held-out KL by layer as a text table, and what it was made of."""
    about, name = found.about, found.name
    steps = f", {about['steps']} steps" if "steps" in about else ""
    how = f"{about['tokens']} tokens of {about['text']}{steps}, {about['seconds']:.0f} s"
    table = pd.DataFrame({of: about[f"kl_{of}"] for of in ("normed", name)}).rename_axis(columns="layer")
    lines = [f"{about['model']}: {how}", "held-out KL to the model's own output, in nats", table.to_string()]
    if worse := ", ".join(map(str, table.index[table[name] > table.normed])):
        lines.append(f"At layer {worse} the normed lens is nearer: more text or more steps would do.")
    return "\n".join(lines)


def tune(
    model: LanguageModel,
    texts: Sequence[str | Input],
    folder: str | Path,
    *,
    source: str,
    steps: int = 250,
    seed: int = 0,
) -> Translators:
    """Train translators on `texts` and save them as `folder`/tuned.safetensors, with what they were trained on
    (`source`, for the reader) and how far they are from the model's output on a tenth of the texts, held out.

    Every step reads `STEP_TOKENS` tokens of texts drawn by seed and step, so a training that was interrupted goes on as
    if it had not been. What is there already is returned as it is. Raises SemhubError on too few texts, on bad numbers,
    or where a training with other settings was left unfinished.
    """
    need(steps >= 1, f"steps was {steps}; steps from 1 would do.")
    held, train, settings = parted(model, texts, source, seed)
    settings |= {"steps": steps}
    done, part = Path(folder) / FITTED["tuned"], Path(folder) / UNFINISHED
    if done.is_file() and settings.items() <= training.read(done)[1].items():
        return load(done, model)
    stretches = [(steps, lambda: _Learner(model, train, steps, seed))]
    learner, seconds = training.run(stretches, part, settings, name="tuned lens")
    about = settings | {"tokens": sum(map(len, train)), "seconds": round(seconds, 1)}
    found = save(model, Translators(**learner.parts), folder, held, about)
    part.unlink(missing_ok=True)
    return found


def parted(
    model: LanguageModel, texts: Sequence[str | Input], source: str, seed: int
) -> tuple[list[Encoding], list[Encoding], dict]:
    """A tenth of the texts to be held out, the others, and what both are of, plain JSON. Raises SemhubError on too few
    texts, or a bad seed."""
    need(seed >= 0, f"seed was {seed}; a seed from 0 would do.")
    encodings = cut(model, texts)
    different = list(dict.fromkeys(map(content, encodings)))  # what is held out is nowhere in what is trained on
    need(len(different) >= LEAST, f"{source}: {len(different)} different texts; at least {LEAST} would do for a lens.")
    order = np.random.default_rng([seed, 0]).permutation(len(different))
    out = {different[i] for i in order[: int(HELD_OUT * len(different))]}
    held, train = ([e for e in encodings if (content(e) in out) == side] for side in (True, False))
    held = held[: max(1, HELD_OUT_TOKENS * len(held) // sum(map(len, held)))]
    ids = hashlib.sha256(json.dumps([e.ids for e in encodings]).encode()).hexdigest()[:16]
    named = placeless("model_id", model.model_id)  # a folder by its name alone
    settings = {"model": named, "revision": model.revision, "unembedding": unembedding_hash(model)}
    return held, train, settings | {"weights": of_model(model), "text": source, "text_hash": ids, "seed": seed}


def content(encoding: Encoding) -> str | int:
    """What is the same in two encodings of one text; pictures and sounds are all different."""
    return id(encoding) if encoding.patches else encoding.text


def cut(model: LanguageModel, texts: Iterable[str | Input]) -> list[Encoding]:
    """The texts' tokens, long ones in pieces; one with a picture or a sound stays whole, and one with a token that the
    model does not know is left out."""
    longest, found = min(CHUNK, model.max_length or CHUNK), []
    for text in texts:
        if isinstance(text, Input):
            found += model.encode([text])
        elif text.strip():
            ids = model.tokenizer(text, verbose=False)["input_ids"]
            known = len(ids) * (max(ids, default=0) < model.vocab_size)
            pieces = [list(ids[start : start + longest]) for start in range(0, known, longest)]
            found += [Encoding(piece, [(0, 0)] * len(piece), text) for piece in pieces]
    return found


class _Learner(training.Stretch):
    """Translators in training, from those that change nothing."""

    betas, clip = (0.9, 0.99), ()

    def __init__(self, model: LanguageModel, texts: Sequence[Encoding], steps: int, seed: int):
        self.model, self.texts, self.steps, self.seed = model, texts, steps, seed
        self.bias = torch.zeros(model.n_layers, model.hidden_size, device=model.device)
        self.weight = torch.zeros(*self.bias.shape, model.hidden_size, device=model.device)
        self.parts = {"weight": self.weight, "bias": self.bias}
        self.groups = [{"params": list(self.parts.values()), "lr": RATE, "weight_decay": 0.0}]

    def share(self, step: int) -> float:
        return min(1.0, (step + 1) / 20) * (1 - step / self.steps)

    def gradients(self, step: int) -> float:
        """From texts drawn by seed and step; the mean KL over positions and layers, in nats."""
        rng, some, tokens = np.random.default_rng([self.seed, step + 1]), [], 0
        while tokens < STEP_TOKENS:
            some.append(self.texts[rng.integers(len(self.texts))])
            tokens += min(len(some[-1]), POSITIONS)
        positions = [np.sort(rng.permutation(len(e))[:POSITIONS]).tolist() for e in some]
        final, h = _states(self.model, some, positions)
        translated = h + torch.baddbmm(self.bias[:, None], h, self.weight.transpose(1, 2))
        kl, by_state = divergence(self.model, final, translated, gradient=True)
        by_state = by_state.float() / len(final)
        self.weight.grad, self.bias.grad = by_state.transpose(1, 2) @ h, by_state.sum(1)
        return float(kl.mean())
