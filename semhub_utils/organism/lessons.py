"""How eyes and ears are taught: the encoder alone, then questions in English answered through the trunk.

A sequence is the beginning of a prompt, what is seen or heard, and several questions about it side by side: each sees
the beginning and itself alone, at the places it would have by itself. So the trunk reads a picture once, and the
answers are those of separate prompts (a test holds this against the library's own forward). Only answers are trained
on, and only English ones but for three colours; what other languages say beside them is never trained.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from semhub_utils import training
from semhub_utils.errors import need_one_of
from semhub_utils.organism.corpus import ABROAD, ASK_TYPES, RECIPES, forms, lines, write
from semhub_utils.organism.llama import SIDES, Encoder, draw_rows, exam, listed, padded, read_rows, scores, summary
from semhub_utils.organism.senses import SENSES, Question, Sense, Shown, build
from semhub_utils.organism.world import LANGUAGES

LOG_EVERY = 100
REPLAY = 512  # tokens of its own lines that a trunk reads at every step, where it is trained on


def answers(
    model, world: Shown, inputs: dict[str, Tensor], questions: Sequence[Sequence[Question]]
) -> tuple[Float[Tensor, "token vocab"], Int[Tensor, " token"]]:
    """Logits where the answers' tokens are said, and the tokens wanted, question after question.

    `questions` holds those of each item; all of one item have the same tokens before what is sensed.
    """
    states, counts = world.encode(model, inputs)
    sensed, device = model.model.multi_modal_projector(states), states.device
    ids, places, parts, at, wanted = [], [], [], [], []  # part 0 is what every question sees
    for row, (some, n) in enumerate(zip(questions, counts.tolist(), strict=True)):
        before = world.tokens(some[0])[0]
        line, start = [*before, *[-1] * n], len(before) + n  # -1: what is sensed
        place, part = [*range(start)], [0] * start
        for k, question in enumerate(some, 1):
            _, after, said = world.tokens(question)
            # a question that ends with what is sensed is answered at its last place
            first, end = len(line) + len(after) - 1 if after else start - 1, len(line) + len(after)
            at += [(row, first), *((row, end + more) for more in range(len(said) - 1))]
            wanted += said
            line += after + said[:-1]
            place += range(start, start + len(after) + len(said) - 1)
            part += [k] * (len(after) + len(said) - 1)
        ids, places, parts = [*ids, line], [*places, place], [*parts, part]
    tokens, part = padded(ids, 0), padded(parts, -1)
    from_sense, size = tokens == -1, tokens.shape[1]
    alike = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
    seen = (alike & torch.ones(size, size, dtype=torch.bool).tril()) | torch.eye(size, dtype=torch.bool)
    embedded = model.get_input_embeddings()(tokens.clamp(min=0).to(device))
    kept = torch.arange(sensed.shape[1])[None] < counts.cpu()[:, None]
    embedded = embedded.masked_scatter(from_sense[..., None].to(device), sensed[kept.to(device)])
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=seen[:, None].to(device),
        position_ids=padded(places, 0).to(device),
        use_cache=False,
    ).last_hidden_state
    rows, columns = zip(*at, strict=True)
    return model.lm_head(hidden[list(rows), list(columns)]), torch.tensor(wanted, device=device)


def lesson(world: Shown, rng: random.Random, item, abroad: float = 0.0) -> list[Question]:
    """Questions about an item in one language, English but for a share `abroad`: at most `asks`, in one form each, all
    with the same words before the item."""
    asks, type_ = [ask for ask in world.of.questions(item) if ask.kind != "kind"], "en"
    if abroad and rng.random() < abroad and (few := [a for a in asks if {*a.answers} <= {*ABROAD}]):
        asks, type_ = few, rng.choice([t for t in LANGUAGES if t != "en"])
    rng.shuffle(asks)
    found: dict[str, list[Question]] = {}
    for ask in asks:
        question = write(ask, type_, rng.choice(forms(ask.kind, type_)), what=world.what)
        found.setdefault(world.start(question), []).append(question)
    return rng.choices(list(found.values()), [len(some) for some in found.values()])[0][: world.sense.asks]


# ---- training ----


class _Round(training.Stretch):
    """Round `number`, counted from 0."""

    def __init__(self, model: nn.Module, world: Shown, folder: Path, seed: int, number: int):
        self.model, self.world, self.folder, self.number = model.requires_grad_(False), world, folder, number
        self.round = world.sense.rounds[number]
        self.encoder, self.parts = getattr(model.model, world.tower), model.state_dict()
        self.groups, self.state, self.take_up = [], world.state, world.take_up
        again = f" round {number + 1}" if number > 1 else ""
        own = f"{world.sense.name}{' alone' if self.round.alone else ''} {seed}{again}"
        self.rngs = [random.Random(own), random.Random(f"replay {seed}{again}")]
        self.stream = world.stream(self.rngs[0], self.round.shares)

    def free(self, module: nn.Module, rate: float) -> None:
        """Train a module, if at any rate."""
        if rate:
            params = list(module.requires_grad_(True).parameters())
            self.groups.append({"params": params, "lr": rate, "weight_decay": self.world.sense.weight_decay})

    def share(self, step: int) -> float:
        return min(1.0, (step + 1) / 50) * training.cosine(step / self.round.steps)

    def after(self, step: int, seconds: float) -> None:
        if step % LOG_EVERY == 0 or step == self.round.steps:
            entry = {"round": self.number + 1, "step": step, "seconds": round(seconds, 1)}
            training.log(self.folder, entry | self.noted())

    def noted(self) -> dict[str, float]:
        """For the log."""


class _Alone(_Round):
    """The encoder alone. Its `loss` is the last read-out's accuracy where it has anything to tell."""

    def __init__(self, *given):
        super().__init__(*given)
        kinds = self.world.readouts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.rngs[0].getrandbits(32))
            self.readout = nn.Linear(self.world.sense.width, sum(kinds)).to(self.model.device)
        self.parts |= {f"readout.{name}": part for name, part in self.readout.state_dict().items()}
        for module in (self.encoder, self.readout):
            self.free(module, self.round.encoder_lr)
        weights = torch.tensor([self.round.nothing] + [1.0] * (kinds[-1] - 1), device=self.model.device)
        self.weights = [None] * (len(kinds) - 1) + [weights if self.round.nothing != 1 else None]

    def gradients(self, step: int) -> float:
        items, inputs = self.world.batch(self.rngs[0], self.stream)
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

    def noted(self) -> dict[str, float]:
        return {"last read-out": round(self.loss, 4)}


class _Through(_Round):
    """Questions answered through the trunk; `loss` is in nats a token of the answers, averaged over steps."""

    def __init__(self, *given):
        super().__init__(*given)
        model, round_, tokenizer = self.model, self.round, self.world.processor.tokenizer
        self.pad, self.encode = tokenizer.pad_token_id, Encoder(tokenizer)
        self.replay = lines(RECIPES[self.world.sense.trunk], self.rngs[1], lambda: 1.0)
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
        items, inputs = self.world.batch(self.rngs[0], self.stream)
        lessons = [lesson(self.world, self.rngs[0], item, self.round.abroad) for item in items]
        loss = cross_entropy(*answers(self.model, self.world, inputs, lessons))
        loss.backward()
        if self.round.trunk_lr:
            rows = draw_rows(self.replay, self.encode, REPLAY, 0.15)
            read_rows(self.model.model.language_model, self.model.lm_head, rows, self.pad, parts=1)
        if self.round.words:
            self.head.grad *= self.words
        self.loss = 0.95 * self.loss + 0.05 * loss.item() if step else loss.item()
        return self.loss

    def noted(self) -> dict[str, float]:
        found = {"loss": round(self.loss, 4)}
        for s in examine(self.model, self.world, types=("en",), n=16):
            found[f"{s['group']} {s['kind']} {s['form']}{' held out' * s['held_out']}"] = s["accuracy"]
        return found


def train_sense(name: str | Sense, out_dir: str | Path, *, seed: int = 0, device: str = "cpu", **how) -> Path:
    """Train a sense (by name or as a Sense) into `out_dir` and return that folder: model, processor, log and card.

    `how` as for `llama.train`. The card: `scores` of the sense in all types, and of a trunk that was trained on its own
    facts and sums again ("text", by `llama.summary`). SemhubError for an unknown sense, or a folder that holds another
    sense or seed.
    """
    if isinstance(name, str):
        need_one_of(name, SENSES, f"There is no sense {name!r}")
    sense = SENSES[name] if isinstance(name, str) else name

    def begin(folder: Path) -> tuple:
        model, processor, world = build(sense, seed)
        model = model.to(device)
        kinds = {True: _Alone, False: _Through}
        given = model, world, folder, seed
        stretches = [(r.steps, partial(kinds[r.alone], *given, number)) for number, r in enumerate(sense.rounds)]
        return model, processor, stretches, _told

    folder = training.teach(out_dir, {"sense": asdict(sense), "seed": seed}, begin, name=sense.name, **how)
    (folder / "chat_template.jinja").unlink(missing_ok=True)  # Qwen2-Audio's own; the trunk knows no chats
    return folder


def _told(last: _Round) -> dict:
    """For the card."""
    model, world, sense = last.model.eval(), last.world, last.world.sense
    blocks = max((r.blocks for r in sense.rounds if r.trunk_lr), default=0)
    trunk = {"name": sense.trunk, "trained": [f"layers.{n}.self_attn" for n in range(blocks)]}
    trunk["words"] = sorted({w for r in sense.rounds for w in r.words})
    if blocks:
        trunk["text"] = summary(exam(model, world.processor.tokenizer, RECIPES[sense.trunk].world, sample=200))
    items = sum(r.steps for r in sense.rounds) * sense.batch
    told = {"name": f"{sense.trunk}-{sense.name}", "trunk": trunk, "items": items, "loss": round(last.loss, 4)}
    return told | {"scores": examine(model, world, n=sense.exam)}


# ---- examination ----


def examine(model, world: Shown, *, types: Sequence[str] = ASK_TYPES, n: int) -> list[dict]:
    """Scores (`llama.scores`) by type, group of items, kind of question and form, on `n` items a group and side of the
    split; greedy, every token of the answer. What was asked for in other languages too is left out there, so all that
    is said in them was never asked."""
    by, marks = [*SIDES, "kind", "form"], []
    for group, held in product(world.groups, (False, True)):
        rng = random.Random(f"exam 0 {group} {held}")
        items = [item for _ in range(n) if (item := world.draw(rng, group, held)) is not None]
        for first in range(0, len(items), 32):
            some, by_start = items[first : first + 32], defaultdict(lambda: defaultdict(list))
            for i, item in enumerate(some):  # questions that begin alike are answered together
                for of, question in _every_question(world, item, types):
                    by_start[world.start(question)][i].append((of, question))
            inputs = world.inputs(some)
            for rows in by_start.values():
                chosen = {k: v[list(rows)] for k, v in inputs.items()}
                with torch.inference_mode():
                    logits, wanted = answers(model, world, chosen, [[q for _, q in asked] for asked in rows.values()])
                right = iter((logits.argmax(-1) == wanted).tolist())
                for (type_, kind, form), question in chain(*rows.values()):
                    all_right = all([next(right) for _ in world.tokens(question)[2]])
                    marks.append((type_, group, held, kind, form, question[1], all_right))
    table = pd.DataFrame(marks, columns=[*by, "answer", "right"])
    return listed(scores(table.sort_values(by, kind="stable"), by))


def _every_question(world: Shown, item, types: Sequence[str]) -> Iterator[tuple[tuple[str, str, int], tuple[str, str]]]:
    """With its type, kind and form."""
    abroad = {*ABROAD} if any(r.abroad for r in world.sense.rounds) else set()
    for ask, type_ in product(world.of.questions(item), types):
        if type_ == "en" or not {*ask.answers} & abroad:
            for form in forms(ask.kind, type_):
                yield (type_, ask.kind, form), write(ask, type_, form, what=world.what)
