"""What the live page loads: the shipped models in half precision, their tokenizer, what is known of each word, and one
line read beforehand, so that the page shows something before any weights are there.

All are classic scripts that call `semhubLive.take(name, value)`, as a page that is opened from disk may load no other
kind. They are made when the site is staged: the weights lie in the package already, and half of them again, in base 64,
would be as much in the repository and the wheel. The forward pass is book/_static/live/forward.js.
"""

import base64
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .identity import organism_path
from .lens import Normed, lens
from .loading import load_model
from .models import LanguageModel, randomised
from .organism import world
from .organism.world import FACT_TYPES, SUM_TYPES, TYPES, Fact, Sum, World, surface, vocabulary
from .spokes import facts
from .states import hidden_states
from .steering import Edit, states_under

TRAINED = ("hub", "islands", "planted", "balanced")
RANDOM = "random"
QUESTIONS: tuple[tuple[Fact, Fact, int] | tuple[Sum, Sum, str], ...] = (
    (Fact("grass", "colour", "green"), Fact("blood", "colour", "red"), 0),
    (Fact("whale", "can", "swim"), Fact("dog", "can", "bark"), 1),
    (Fact("salmon", "legs", "0"), Fact("dog", "legs", "4"), 1),
    (Sum("+", 3, 5), Sum("+", 3, 4), "operand"),
)
"""What a reader can ask at once: of what, instead of what (for an intervention), in which form."""
FIRST, LAYER, TOP_K = "es", 4, 6
"""The type of the line that is read beforehand, the layer of its intervention, how many words of a state are kept."""


def half_precision(name: str) -> LanguageModel:
    """A shipped model, or the hub's twin of random weights (seed 0), whose weights are rounded to half precision; it
    computes in float32, as the page does."""
    model = load_model(f"organism:{TRAINED[0] if name == RANDOM else name}", device="cpu", check=False)
    model = randomised(model, 0) if name == RANDOM else model
    with torch.no_grad():
        for values in model.module.parameters():
            values.copy_(values.half().float())
    return model


def weights(model: LanguageModel) -> dict[str, Any]:
    """What forward.js needs of a Llama: its sizes, and its tensors one after another, little-endian half precision."""
    config, tensors = model.config, model.module.state_dict()
    sizes = {"L": config.num_hidden_layers, "D": config.hidden_size, "heads": config.num_attention_heads}
    sizes |= {"eps": config.rms_norm_eps, "theta": config.rope_parameters["rope_theta"]}
    parts = [[name, values.numel()] for name, values in tensors.items()]
    data = b"".join(values.half().numpy().astype("<f2").tobytes() for values in tensors.values())
    return {"config": sizes, "parts": parts, "base64": base64.b64encode(data).decode()}


def words() -> dict[str, list]:
    """Of every token, by id: its text; the types whose lines have it, as bits in the order of TYPES; and its meaning,
    the same number for all words of one concept or number, -1 where it has none."""
    used, meaning = facts.words_of_types(), {}
    keys = [*world.concepts(), *world.NAMES, *map(str, range(100))]
    for type_, (number, key) in product(TYPES, enumerate(keys)):
        if key.isdigit() or type_ != "digits":
            meaning.setdefault(surface(key, type_), number)
    bits = [sum(1 << k for k, type_ in enumerate(TYPES) if word in used[type_]) for word in vocabulary()]
    return {"words": [*vocabulary()], "types": bits, "meanings": [meaning.get(word, -1) for word in vocabulary()]}


def questions() -> list[dict[str, Any]]:
    """QUESTIONS as lines by type, cut before their answers; the English pair whose difference is an intervention; and
    whether the answer was taught in English only."""
    known, found = World(), []
    for asked, other, form in QUESTIONS:
        types = SUM_TYPES if isinstance(asked, Sum) else FACT_TYPES
        lines = {type_: known.prompt(asked, type_, form) for type_ in types}
        pair = {"from": lines["en"].prompt, "toward": known.prompt(other, "en", form).prompt}
        found.append({"lines": {t: p.prompt for t, p in lines.items()}, "held": lines["en"].held_out} | pair)
    return found


def beforehand(model: LanguageModel, question: dict[str, Any]) -> dict[str, Any]:
    """What the page would compute of the question's line, and of the same with the intervention at LAYER ("changed"):
    ids and probabilities of the likeliest words, [layer, token, k]."""

    def read(hidden: Float[Tensor, "site layer hidden"]) -> dict[str, list]:
        found = lens(model, hidden, top_k=TOP_K, reading=Normed())
        probs = found.top_logprobs.exp().transpose(0, 1).double().numpy().round(4).tolist()
        return {"ids": found.top_ids.transpose(0, 1).tolist(), "probs": probs}

    line = question["lines"][FIRST]
    [encoding], pair = model.encode([line]), model.encode([question["toward"], question["from"]])
    toward, from_ = hidden_states(model, pair).hidden
    [changed] = states_under(model, [line], Edit((LAYER,), toward[LAYER] - from_[LAYER]))
    plain, wanted = hidden_states(model, [encoding], positions="all").hidden, read(toward[None])["ids"][-1][0][0]
    return {"tokens": [*encoding.ids], **read(plain), "changed": {**read(changed), "wanted": wanted}}


def write(folder: Path, tokenizer: Path) -> None:
    """Write the scripts into `folder`: one by model, "tokenizer" (the library at `tokenizer`, which is a CommonJS
    module, with the file of the models) and "start" (words, questions and the first line as each model reads it)."""
    asked, found = questions(), {}
    for name in (*TRAINED, RANDOM):
        model = half_precision(name)
        found[name] = beforehand(model, asked[0])
        _script(folder, name, json.dumps(weights(model)))
    start = {"questions": asked, "type": FIRST, "layer": LAYER, "order": TYPES, "read": found} | words()
    _script(folder, "start", json.dumps(start, ensure_ascii=False, separators=(",", ":")))
    hub = organism_path(TRAINED[0])
    files = ",\n".join((hub / f"{name}.json").read_text("utf-8") for name in ("tokenizer", "tokenizer_config"))
    library = f"const module = {{}};\n{tokenizer.read_text('utf-8')}"
    _script(folder, "tokenizer", f"(() => {{\n{library}\nreturn new module.exports.Tokenizer({files});\n}})()")


def _script(folder: Path, name: str, value: str) -> None:
    (folder / f"{name}.js").write_text(f'semhubLive.take("{name}", {value});\n', "utf-8")
