"""Training and examining a sense: the encoder alone, then questions in English answered through the trunk.

A sequence is the beginning of a prompt, what is seen or heard, and several questions about it side by side: each sees
the beginning and itself alone, at the places it would have by itself. So the trunk reads a picture once, and the
answers are those of separate prompts (a test holds this against the library's own forward). Only answers are trained
on, and only English ones but for three colours; what other languages say beside them is never trained.
"""

from __future__ import annotations

import json
import math
import platform
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import transformers
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from semhub_utils.errors import SemhubError
from semhub_utils.organism.asking import ABROAD, ASK_TYPES, forms, write
from semhub_utils.organism.batches import Encoder, draw_rows, micro_batches
from semhub_utils.organism.corpus import lines
from semhub_utils.organism.exam import exam, table, wilson
from semhub_utils.organism.lexicon import LANGUAGES
from semhub_utils.organism.recipes import RECIPES
from semhub_utils.organism.senses import SENSES, Round, Sense, build
from semhub_utils.zoo import CARD, sha256

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


# ---- training ----


def _rate(step: int, steps: int, warmup: int = 50) -> float:
    """Share of the full rate: linear warm-up, then a cosine to a fiftieth."""
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))


def _update(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["full"] * rate
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _optimizer(groups: list[tuple[nn.Module, float]], decay: float) -> torch.optim.AdamW:
    made = [
        {"params": [p for p in m.parameters() if p.requires_grad], "lr": lr, "full": lr} for m, lr in groups if lr > 0
    ]
    return torch.optim.AdamW(made, betas=(0.9, 0.98), weight_decay=decay, foreach=True)


def _alone(model, world, sense: Sense, round_: Round, rng: random.Random, log, bar) -> float:
    """A round of the encoder alone; the last read-out's accuracy where it has anything to tell."""
    stream = world.stream(rng, round_.shares)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(32))
        readout = nn.Linear(sense.width, sum(world.readouts)).to(model.device)
    rate = round_.encoder_lr
    world.encoder(model).requires_grad_(True)
    optimizer = _optimizer([(world.encoder(model), rate), (readout, rate)], sense.weight_decay)
    weights: list[Tensor | None] = [None] * len(world.readouts)
    if round_.nothing != 1:
        weights[-1] = torch.ones(world.readouts[-1], device=model.device)
        weights[-1][0] = round_.nothing
    hits = 0.0
    for step in range(round_.steps):
        items, inputs = world.batch(rng, stream, sense.batch)
        states, counts = world.encode(model, inputs)
        kept = torch.arange(states.shape[1])[None] < counts[:, None]
        labels = torch.from_numpy(np.stack([world.labels(item) for item in items]))[kept]
        scores = readout(states[kept]).split(world.readouts, dim=-1)
        loss = sum(cross_entropy(s, y, w) for s, y, w in zip(scores, labels.T, weights, strict=True))
        loss.backward()
        _update(optimizer, _rate(step, round_.steps))
        told = labels[:, -1] > 0
        hits = 0.95 * hits + 0.05 * (scores[-1].argmax(-1) == labels[:, -1])[told].float().mean().item()
        bar.update()
        if (step + 1) % LOG_EVERY == 0 or step + 1 == round_.steps:
            log({"alone": True, "step": step + 1, "loss": round(loss.item(), 4), "last read-out": round(hits, 4)})
    return hits


def _lesson(world, sense: Sense, rng: random.Random, item, abroad: float = 0.0) -> list[Question]:
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
    return rng.choices(list(found.values()), [len(qs) for qs in found.values()])[0][: sense.asks]


def _through(model, world, sense: Sense, round_: Round, ask: Asker, rng: random.Random, replay_seed: str, log, bar):
    """A round through the trunk; the average loss at its end, in nats a token of the answers."""
    attention = nn.ModuleList([layer.self_attn for layer in model.model.language_model.layers[: round_.blocks]])
    attention.requires_grad_(round_.trunk_lr > 0)
    world.encoder(model).requires_grad_(round_.encoder_lr > 0)
    pad, encode = ask.tokenizer.pad_token_id, Encoder(ask.tokenizer)
    replay = lines(RECIPES[sense.trunk], random.Random(replay_seed), lambda: 1.0)
    parts = [(model.model.multi_modal_projector, round_.projector_lr), (world.encoder(model), round_.encoder_lr)]
    optimizer = _optimizer([*parts, (attention, round_.trunk_lr)], sense.weight_decay)
    head, hook = model.lm_head.weight, None
    if round_.words:
        rows = ask.tokenizer.convert_tokens_to_ids(list(round_.words))
        free = torch.zeros(len(head), 1, device=head.device)
        free[rows] = 1
        hook = head.requires_grad_(True).register_hook(lambda gradient: gradient * free)
        # without decay: the other rows stay as they are
        optimizer.add_param_group({"params": [head], "full": round_.words_lr, "weight_decay": 0.0})
    stream, average = world.stream(rng, round_.shares), 0.0
    for step in range(round_.steps):
        items, inputs = world.batch(rng, stream, sense.batch)
        lessons = [_lesson(world, sense, rng, item, round_.abroad) for item in items]
        logits, wanted, _ = answers(model, ask, world, inputs, lessons)
        loss = cross_entropy(logits, wanted)
        loss.backward()
        if round_.trunk_lr:
            rows = micro_batches(draw_rows(replay, encode, REPLAY, 0.15), pad, 1)
            targets = sum(int((b[:, 1:] != pad).sum()) for b in rows)
            for batch in rows:
                (_text_loss(model, batch.to(model.device), pad) / targets).backward()
        _update(optimizer, _rate(step, round_.steps))
        average = loss.item() if not step else 0.95 * average + 0.05 * loss.item()
        bar.update()
        bar.set_postfix(loss=f"{average:.3f}", refresh=False)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == round_.steps:
            found = examine(model, ask, world, types=("en",), n=16)
            said = {
                f"{s['group']} {s['kind']} {s['form']}{' held out' if s['held_out'] else ''}": s["accuracy"]
                for s in found
            }
            log({"alone": False, "step": step + 1, "loss": round(average, 4)} | said)
    attention.requires_grad_(False)
    head.requires_grad_(False)
    if hook is not None:
        hook.remove()
    return average


def train_sense(
    name: str | Sense, out_dir: str | Path, *, seed: int = 0, device: str = "cpu", minutes: float | None = None,
    progress: bool = True,
) -> Path:  # fmt: skip
    """Train a sense (by name or as a Sense) into `out_dir` and return that folder: model, processor, log and card.

    The weights after every round are kept in `round-N.safetensors`, and a call that finds some of the same rounds and
    seed takes up from there. SemhubError where they are of another sense or seed, or when `minutes` are up. The same
    sense, seed, device and thread count give the same weights, taken up or not.
    """
    if isinstance(name, str) and name not in SENSES:
        raise SemhubError(f"There is no sense {name!r}; one of {', '.join(SENSES)} would do.")
    sense = SENSES[name] if isinstance(name, str) else name
    folder, start = Path(out_dir), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    model, processor, world = build(sense, seed)
    model.to(device)
    ask, loss, seconds = Asker(processor.tokenizer, world.what), 0.0, 0.0
    bar = tqdm(
        total=sum(r.steps for r in sense.rounds), disable=not progress, desc=sense.name, unit="step", mininterval=2
    )
    for number, round_ in enumerate(sense.rounds):
        path, mark = folder / f"round-{number + 1}.safetensors", _mark(sense, number, seed)
        if path.exists():
            loss, seconds = _take_up(model, path, mark, folder)
            bar.update(round_.steps)
            continue
        begun = time.monotonic()

        def log(entry: dict, number: int = number, begun: float = begun) -> None:
            if minutes is not None and time.monotonic() - start > 60 * minutes:
                raise SemhubError(f"{sense.name} was not through after {minutes:g} minutes; more minutes would do.")
            line = {"round": number + 1} | entry | {"seconds": round(time.monotonic() - begun, 1)}
            with (folder / "log.jsonl").open("a", encoding="utf-8") as f:
                f.write(json.dumps(line, ensure_ascii=False) + "\n")

        again = f" round {number + 1}" if number > 1 else ""
        rng = random.Random(f"{sense.name}{' alone' if round_.alone else ''} {seed}{again}")
        if round_.alone:
            loss = _alone(model, world, sense, round_, rng, log, bar)
        else:
            loss = _through(model, world, sense, round_, ask, rng, f"replay {seed}{again}", log, bar)
        seconds += time.monotonic() - begun
        weights = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
        save_file(weights, path, metadata={"made": mark, "loss": repr(loss), "seconds": repr(seconds)})
    bar.close()
    model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)  # Qwen2-Audio's own; the trunk knows no chats
    write_card(folder, sense, model, ask, world, seed=seed, seconds=seconds, loss=loss)
    return folder


def _mark(sense: Sense, number: int, seed: int) -> str:
    """What the weights after a round depend on."""
    whole = asdict(sense) | {"rounds": [asdict(r) for r in sense.rounds[: number + 1]], "seed": seed}
    return json.dumps({k: v for k, v in whole.items() if k != "exam"})


def _take_up(model, path: Path, mark: str, folder: Path) -> tuple[float, float]:
    """Load the weights after a round; its loss, and the seconds until then."""
    with safe_open(path, "pt") as kept:
        made = kept.metadata() or {}
    if made.get("made") != mark:
        raise SemhubError(f"{folder} holds the training of another sense or seed; another folder would do.")
    model.load_state_dict(load_file(path))
    return float(made["loss"]), float(made["seconds"])


def _text_loss(model, ids: Tensor, pad: int) -> Tensor:
    hidden = model.model.language_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    kept = ids[:, 1:] != pad
    return cross_entropy(model.lm_head(hidden[kept]), ids[:, 1:][kept], reduction="sum")


# ---- examination ----


def examine(
    model, ask: Asker, world, *, types: Sequence[str] = ASK_TYPES, n: int = 60, seed: int = 0, batch: int = 32
) -> list[dict]:
    """Accuracy by type, group of items, kind of question and form, on `n` items a group and side of the split; greedy,
    every token of the answer. Keys as in `exam.Score`, and group, kind, form. What was asked for in other languages too
    is left out there, so all that is said in them was never asked."""
    tally: dict[tuple, list[tuple[bool, str]]] = {}
    for group in world.groups:
        for held in (False, True):
            rng = random.Random(f"exam {seed} {group} {held}")
            items = [item for _ in range(n) if (item := world.draw(rng, group, held)) is not None]
            for first in range(0, len(items), batch):
                _examine(model, ask, world, items[first : first + batch], types, (group, held), tally)
    scores = []
    for (type_, group, held, kind, form), marks in sorted(tally.items()):
        hits, commonest = sum(ok for ok, _ in marks), max(Counter(a for _, a in marks).values())
        low, high = wilson(hits, len(marks))
        scores.append({
            "type": type_, "group": group, "kind": kind, "form": form, "held_out": held, "n": len(marks),
            "accuracy": round(hits / len(marks), 4), "low": round(low, 4), "high": round(high, 4),
            "chance": round(commonest / len(marks), 4),
        })  # fmt: skip
    return scores


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
                tally.setdefault(of, []).append((right[r, k], question[1]))


def write_card(folder: Path, sense: Sense, model, ask: Asker, world, *, seed: int, seconds: float, loss: float) -> dict:
    """Examine a trained sense in all types and write `card.json` beside its weights; the card is returned.

    A trunk that was trained on is also asked its own facts and sums again ("text", as in `exam.table`).
    """
    trained = max((r.blocks for r in sense.rounds if r.trunk_lr), default=0)
    text = {"text": table(exam(model, ask.tokenizer, RECIPES[sense.trunk].world, sample=200))} if trained else {}
    made = {
        "name": f"{sense.trunk}-{sense.name}",
        "seed": seed,
        "sense": asdict(sense),
        "trunk": {
            "name": sense.trunk,
            "trained": [f"layers.{n}.self_attn" for n in range(trained)],
            "words": sorted({w for r in sense.rounds for w in r.words}),
        }
        | text,
        "parameters": sum(p.numel() for p in model.parameters()),
        "items": sum(r.steps for r in sense.rounds) * sense.batch,
        "loss": round(loss, 4),
        "scores": examine(model, ask, world, n=sense.exam),
        "training": {
            "minutes": round(seconds / 60, 1), "device": str(model.device), "threads": torch.get_num_threads(),
            "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
        },
        "sha256": sha256(folder / "model.safetensors"),
    }  # fmt: skip
    (folder / CARD).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return made
