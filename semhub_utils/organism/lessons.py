"""How eyes and ears are trained: the encoder alone, then questions in English answered through the trunk.

A sequence is the beginning of a prompt, what is seen or heard, and several questions about it side by side: each sees
the beginning and itself alone, at the places it would have by itself. So the trunk reads a picture once, and the
answers are those of separate prompts (a test holds this against the library's own forward). Only answers are trained
on, and only English ones but for three colours; what other languages say beside them is never trained.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from semhub_utils import training
from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import ABROAD, ASK_TYPES, RECIPES, forms, lines, write
from semhub_utils.organism.lexicon import LANGUAGES
from semhub_utils.organism.llama import Encoder, Score, draw_rows, exam, read_rows, table
from semhub_utils.organism.senses import SENSES, Pictures, Sense, Sounds, build

LOG_EVERY = 100
REPLAY = 512
"""Tokens of its own lines that a trunk reads at every step, where it is trained on."""
Question = tuple[str, str]
"""A prompt with its placeholder, and its answer."""


class Asker:
    """Prompts as the tokens before what is sensed and after it, remembered."""

    def __init__(self, tokenizer, what: str):
        self.tokenizer, self.what = tokenizer, what
        self.bos = tokenizer.bos_token_id
        self.known: dict[Question, tuple[list[int], list[int], list[int]]] = {}

    def __call__(self, question: Question) -> tuple[list[int], list[int], list[int]]:
        """(tokens before, tokens after, tokens of the answer)."""
        if question not in self.known:
            before, _, after = question[0].partition(self.what)
            parts = self.tokenizer([before, after, question[1]], add_special_tokens=False)["input_ids"]
            self.known[question] = ([self.bos, *parts[0]], parts[1], parts[2])
        return self.known[question]


def answers(
    model, ask: Asker, world, inputs: dict[str, Tensor], questions: Sequence[Sequence[Question]]
) -> tuple[Float[Tensor, "token vocab"], Tensor, list[tuple[int, int]]]:
    """Logits where the answers' tokens are said, the tokens wanted, and (item, question) of each.

    `questions` holds those of each item; all of one item have the same tokens before what is sensed.
    """
    states, counts = world.encode(model, inputs)
    sensed, counts, device = model.model.multi_modal_projector(states), counts.tolist(), states.device
    rows, at, wanted, owner = [], [], [], []
    width = max(
        len(ask(qs[0])[0]) + n + sum(len(ask(q)[1]) + len(ask(q)[2]) - 1 for q in qs)
        for qs, n in zip(questions, counts, strict=True)
    )
    size = (len(questions), width)
    ids, place, part = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long), torch.full(size, -1)
    from_sense = torch.zeros(size, dtype=torch.bool)
    for i, (qs, n) in enumerate(zip(questions, counts, strict=True)):
        before = ask(qs[0])[0]
        start = cursor = len(before) + n
        ids[i, : len(before)] = torch.tensor(before)
        place[i, :start], part[i, :start] = torch.arange(start), 0
        from_sense[i, len(before) : start] = True
        for k, question in enumerate(qs):
            _, after, said = ask(question)
            line = after + said[:-1]
            end = cursor + len(line)
            ids[i, cursor:end] = torch.tensor(line, dtype=torch.long)
            place[i, cursor:end], part[i, cursor:end] = torch.arange(start, start + len(line)), k + 1
            # a question that ends with what is sensed is answered at its last place
            first = cursor + len(after) - 1 if after else start - 1
            rows += [i] * len(said)
            at += [first, *range(cursor + len(after), cursor + len(after) + len(said) - 1)]
            wanted += said
            owner += [(i, k)] * len(said)
            cursor = end
    alike = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
    seen = (alike & torch.ones(width, width, dtype=torch.bool).tril()) | torch.eye(width, dtype=torch.bool)
    embedded = model.get_input_embeddings()(ids.to(device))
    kept = torch.arange(sensed.shape[1])[None] < torch.tensor(counts)[:, None]
    embedded = embedded.masked_scatter(from_sense[..., None].to(device), sensed[kept.to(device)])
    hidden = model.model.language_model(
        inputs_embeds=embedded, attention_mask=seen[:, None].to(device), position_ids=place.to(device), use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden[rows, at]), torch.tensor(wanted, device=device), owner


def lesson(world, rng: random.Random, item, abroad: float = 0.0) -> list[Question]:
    """Questions about an item in one language, English but for a share `abroad`: at most `asks`, in one form each, all
    with the same words before the item."""
    asks, type_ = world.asks(item), "en"
    if abroad and rng.random() < abroad and (few := [a for a in asks if {*a.answers} <= {*ABROAD}]):
        asks, type_ = few, rng.choice([t for t in LANGUAGES if t != "en"])
    rng.shuffle(asks)
    found: dict[str, list[Question]] = {}
    for ask in asks:
        question = write(ask, type_, rng.choice(forms(ask.kind, type_)), what=world.what)
        found.setdefault(question[0].partition(world.what)[0], []).append(question)
    return rng.choices(list(found.values()), [len(qs) for qs in found.values()])[0][: world.sense.asks]


# ---- training ----


@dataclass
class _Pupil:
    """A model whose sense is in training."""

    sense: Sense
    seed: int
    folder: Path
    model: nn.Module
    world: Pictures | Sounds
    ask: Asker


class _Round(training.Stretch):
    """Round `number`, counted from 0."""

    def __init__(self, pupil: _Pupil, number: int):
        self.pupil, self.number, self.round, self.loss = pupil, number, pupil.sense.rounds[number], 0.0
        self.model, self.world = pupil.model.requires_grad_(False), pupil.world
        self.encoder, self.parts = self.world.encoder(self.model), self.model.state_dict()
        again = f" round {number + 1}" if number > 1 else ""
        self.rng = random.Random(f"{pupil.sense.name}{' alone' if self.round.alone else ''} {pupil.seed}{again}")
        self.replayed = random.Random(f"replay {pupil.seed}{again}")
        self.stream = self.world.stream(self.rng, self.round.shares)
        self.groups = []

    def free(self, module: nn.Module, rate: float) -> None:
        """Train a module, if at any rate."""
        if rate:
            params = list(module.requires_grad_(True).parameters())
            self.groups.append({"params": params, "lr": rate, "weight_decay": self.pupil.sense.weight_decay})

    @property
    def clip(self) -> list[list[Tensor]]:
        return [group["params"] for group in self.groups]

    def share(self, step: int) -> float:
        return min(1.0, (step + 1) / 50) * training.cosine(step / self.round.steps)

    def after(self, step: int, seconds: float) -> None:
        if step % LOG_EVERY == 0 or step == self.round.steps:
            entry = {"round": self.number + 1, "step": step, "seconds": round(seconds, 1)}
            training.log(self.pupil.folder, entry | self.seen())

    def seen(self) -> dict[str, float]:
        """For the log."""
        raise NotImplementedError

    def state(self) -> dict:
        rngs = [training.drawn(rng) for rng in (self.rng, self.replayed)]
        return {"rngs": rngs, "loss": self.loss, "world": self.world.state()}

    def take_up(self, state: dict) -> None:
        for rng, at in zip((self.rng, self.replayed), state["rngs"], strict=True):
            training.drawn_until(rng, at)
        self.loss = state["loss"]
        self.world.take_up(state["world"])


class _Alone(_Round):
    """The encoder alone. Its `loss` is the last read-out's accuracy where it has anything to tell."""

    def __init__(self, pupil: _Pupil, number: int):
        super().__init__(pupil, number)
        kinds = self.world.readouts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.rng.getrandbits(32))
            self.readout = nn.Linear(pupil.sense.width, sum(kinds)).to(self.model.device)
        self.parts |= {f"readout {name}": part for name, part in self.readout.state_dict().items()}
        for module in (self.encoder, self.readout):
            self.free(module, self.round.encoder_lr)
        self.weights: list[Tensor | None] = [None] * len(kinds)
        if self.round.nothing != 1:
            self.weights[-1] = torch.ones(kinds[-1], device=self.model.device)
            self.weights[-1][0] = self.round.nothing

    def gradients(self, step: int) -> float:
        items, inputs = self.world.batch(self.rng, self.stream, self.pupil.sense.batch)
        states, counts = self.world.encode(self.model, inputs)
        kept = torch.arange(states.shape[1])[None] < counts[:, None]
        labels = torch.from_numpy(np.stack([self.world.labels(item) for item in items]))[kept]
        scores = self.readout(states[kept]).split(self.world.readouts, dim=-1)
        loss = sum(cross_entropy(s, y, w) for s, y, w in zip(scores, labels.T, self.weights, strict=True))
        loss.backward()
        told = labels[:, -1] > 0
        right = (scores[-1].argmax(-1) == labels[:, -1])[told].float().mean().item()
        self.loss = 0.95 * self.loss + 0.05 * right
        return loss.item()

    def seen(self) -> dict[str, float]:
        return {"last read-out": round(self.loss, 4)}


class _Through(_Round):
    """Questions answered through the trunk; `loss` is in nats a token of the answers, averaged over steps."""

    def __init__(self, pupil: _Pupil, number: int):
        super().__init__(pupil, number)
        model, round_, tokenizer = self.model, self.round, pupil.ask.tokenizer
        self.pad, self.encode = tokenizer.pad_token_id, Encoder(tokenizer)
        self.replay = lines(RECIPES[pupil.sense.trunk], self.replayed, lambda: 1.0)
        self.free(model.model.multi_modal_projector, round_.projector_lr)
        self.free(self.encoder, round_.encoder_lr)
        attention = [layer.self_attn for layer in model.model.language_model.layers[: round_.blocks]]
        self.free(nn.ModuleList(attention), round_.trunk_lr)
        self.head = model.lm_head.weight
        if round_.words:
            self.words = torch.zeros(len(self.head), 1, device=self.head.device)
            self.words[tokenizer.convert_tokens_to_ids(list(round_.words))] = 1
            # without decay: the other rows stay as they are
            head = {"params": [self.head.requires_grad_(True)], "lr": round_.words_lr, "weight_decay": 0.0}
            self.groups.append(head)

    def gradients(self, step: int) -> float:
        model, sense = self.model, self.pupil.sense
        items, inputs = self.world.batch(self.rng, self.stream, sense.batch)
        lessons = [lesson(self.world, self.rng, item, self.round.abroad) for item in items]
        logits, wanted, _ = answers(model, self.pupil.ask, self.world, inputs, lessons)
        loss = cross_entropy(logits, wanted)
        loss.backward()
        if self.round.trunk_lr:
            rows = draw_rows(self.replay, self.encode, REPLAY, 0.15)
            read_rows(model.model.language_model, model.lm_head, rows, self.pad, parts=1)
        if self.round.words:
            self.head.grad *= self.words
        self.loss = 0.95 * self.loss + 0.05 * loss.item() if step else loss.item()
        return self.loss

    def seen(self) -> dict[str, float]:
        found = {"loss": round(self.loss, 4)}
        for s in examine(self.model, self.pupil.ask, self.world, types=("en",), n=16):
            found[f"{s['group']} {s['kind']} {s['form']}{' held out' * s['held_out']}"] = s["accuracy"]
        return found


def train_sense(
    name: str | Sense,
    out_dir: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    minutes: float | None = None,
    progress: bool = True,
    stop_at: int | None = None,
) -> Path:
    """Train a sense (by name or as a Sense) into `out_dir` and return that folder: model, processor, log and card.

    Stops and takes up as `llama.train` does. The card: `scores` of the sense in all types, and of a trunk that was
    trained on its own facts and sums again ("text", as in `llama.table`). SemhubError for an unknown sense, or a folder
    that holds another sense or seed.
    """
    if isinstance(name, str) and name not in SENSES:
        raise SemhubError(f"There is no sense {name!r}; one of {', '.join(SENSES)} would do.")
    sense, folder = SENSES[name] if isinstance(name, str) else name, Path(out_dir)
    settings = {"sense": asdict(sense), "seed": seed}
    if not training.begun(folder, settings):
        return folder
    model, processor, world = build(sense, seed)
    pupil = _Pupil(sense, seed, folder, model.to(device), world, Asker(processor.tokenizer, world.what))
    kinds = {True: _Alone, False: _Through}
    stretches = [(r.steps, partial(kinds[r.alone], pupil, number)) for number, r in enumerate(sense.rounds)]
    given = {"minutes": minutes, "stop_at": stop_at, "progress": progress, "name": sense.name}
    if (found := training.run(stretches, folder / training.UNFINISHED, settings, **given)) is None:
        return folder
    model.eval()
    blocks = max((r.blocks for r in sense.rounds if r.trunk_lr), default=0)
    trunk = {"name": sense.trunk, "trained": [f"layers.{n}.self_attn" for n in range(blocks)]}
    trunk["words"] = sorted({w for r in sense.rounds for w in r.words})
    if blocks:
        trunk["text"] = table(exam(model, processor.tokenizer, RECIPES[sense.trunk].world, sample=200))
    told = {
        "name": f"{sense.trunk}-{sense.name}",
        "trunk": trunk,
        "items": sum(r.steps for r in sense.rounds) * sense.batch,
        "loss": round(found[0].loss, 4),
        "scores": examine(model, pupil.ask, world, n=sense.exam),
    }
    training.finish(folder, model, processor, told | settings, found[1])
    (folder / "chat_template.jinja").unlink(missing_ok=True)  # Qwen2-Audio's own; the trunk knows no chats
    return folder


# ---- examination ----


def examine(model, ask: Asker, world: Pictures | Sounds, *, types: Sequence[str] = ASK_TYPES, n: int) -> list[dict]:
    """Scores (`llama.Score`, with kind and form) by type, group of items, kind of question and form, on `n` items a
    group and side of the split; greedy, every token of the answer. What was asked for in other languages too is left
    out there, so all that is said in them was never asked."""
    tally: dict[tuple, list[tuple[object, str, bool]]] = {}
    for group in world.groups:
        for held in (False, True):
            rng = random.Random(f"exam 0 {group} {held}")
            items = [item for _ in range(n) if (item := world.draw(rng, group, held)) is not None]
            for first in range(0, len(items), 32):
                _examine(model, ask, world, items[first : first + 32], types, (group, held), tally)
    return [
        Score.of(type_, group, held, marks).rounded() | {"kind": kind, "form": form}
        for (type_, group, held, kind, form), marks in sorted(tally.items())
    ]


def _examine(model, ask: Asker, world, items: Sequence, types: Sequence[str], key: tuple, tally: dict) -> None:
    """Questions that begin alike are answered together, whatever their type and form."""
    inputs = world.inputs(items)
    by_start: dict[str, dict[int, list[tuple[Question, tuple]]]] = {}
    for i, item in enumerate(items):
        for one in world.asks(item, taught=False):
            for type_ in types:
                if type_ != "en" and {*one.answers} & {*world.sense.asked_abroad}:
                    continue
                for form in forms(one.kind, type_):
                    question = write(one, type_, form, what=world.what)
                    start = question[0].partition(world.what)[0]
                    of = (type_, key[0], key[1], one.kind, form)
                    by_start.setdefault(start, {}).setdefault(i, []).append((question, of))
    for rows in by_start.values():
        chosen = {k: v[list(rows)] for k, v in inputs.items()}
        with torch.inference_mode():
            logits, wanted, owner = answers(model, ask, world, chosen, [[q for q, _ in r] for r in rows.values()])
        right: dict[tuple[int, int], bool] = {}
        for who, ok in zip(owner, (logits.argmax(-1) == wanted).tolist(), strict=True):
            right[who] = right.get(who, True) and ok
        for r, pairs in enumerate(rows.values()):
            for k, (question, of) in enumerate(pairs):
                tally.setdefault(of, []).append((None, question[1], right[r, k]))
