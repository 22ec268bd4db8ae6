"""A text organism is a small Llama: how it is built, taught a recipe's lines, and examined.

One line is one row of a batch; rows of like length share a forward pass; a share of the tokens comes as pages (lines
one after the other, PAGE tokens) so that later positions are trained too. A folder in training holds what `training`
keeps, `log.jsonl` (loss and accuracy by type) and `checkpoints/` (weights along training, half precision).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semhub_utils import training
from semhub_utils.errors import need_one_of
from semhub_utils.evidence import wilson
from semhub_utils.organism.corpus import RECIPES, Generators, Recipe, lines
from semhub_utils.organism.lexicon import build_tokenizer
from semhub_utils.organism.planted import accents, freeze, plant
from semhub_utils.organism.world import FACT_TYPES, Pieces, Prompt, World

PAGE = 128
CHECKPOINTS_KEPT = 12
EXAM_TYPES = (*FACT_TYPES, "digits")
GROUPS = {"sum": "sums", "product": "sums", "opposite": "opposites", "property": "properties"}
"""What prompts of a relation are counted under; all others are "facts"."""


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """A freshly initialised model of the recipe's shape."""
    shape = {"hidden_size": recipe.width, "intermediate_size": recipe.mlp, "num_hidden_layers": recipe.layers}
    shape |= {"num_attention_heads": recipe.heads, "num_key_value_heads": recipe.heads, "vocab_size": len(tokenizer)}
    shape |= {"max_position_embeddings": recipe.context, "tie_word_embeddings": recipe.tied, "rms_norm_eps": 1e-6}
    config = LlamaConfig(
        **shape, **{f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


# ---- from lines to gradients ----


class Encoder:
    """Pieces to token ids, remembering pieces seen; counts tokens by type, English words apart from their marks."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.ids = lru_cache(50_000)(lambda part: tokenizer(part, add_special_tokens=False)["input_ids"])
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.counts: Counter[str] = Counter()

    def __call__(self, pieces: Pieces) -> list[int]:
        line = [self.bos]
        for type_, part in pieces:
            line += (found := self.ids(part))
            self.counts[type_] += len(found)
            if type_ == "en" and (marks := sum(map(part.count, ".,:"))):
                self.counts["en"] -= marks
                self.counts["en marks"] += marks
        return [*line, self.eos]


def draw_rows(stream: Iterator[Pieces], encode: Encoder, tokens: int, page_share: float) -> list[list[int]]:
    """Rows of one step: single lines, then pages of exactly PAGE tokens."""
    rows, drawn = [], 0
    while drawn < tokens * (1 - page_share):
        rows.append(encode(next(stream)))
        drawn += len(rows[-1])
    while drawn < tokens:
        page: list[int] = []
        while len(page) < PAGE:
            page += encode(next(stream))
        rows.append(page[:PAGE])
        drawn += PAGE
    return rows


def padded(rows: Sequence[list[int]], pad: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def losses(body: nn.Module, head: nn.Module, rows: list[list[int]], pad: int, parts: int = 3) -> Iterator[Tensor]:
    """Summed next-token cross entropies (nats) of rows: of pages, and of lines, by length in `parts` forward passes of
    about equal tokens. Padding is at the right and needs no mask."""
    short = sorted((r for r in rows if len(r) < PAGE), key=len)
    batches, limit = [[r for r in rows if len(r) >= PAGE], []], sum(map(len, short)) / parts
    for row in short:
        batches[-1].append(row)
        if sum(map(len, batches[-1])) >= limit:
            batches.append([])
    for batch in filter(None, batches):
        ids = padded(batch, pad).to(head.weight.device)
        hidden, targets = body(input_ids=ids, use_cache=False).last_hidden_state[:, :-1], ids[:, 1:]
        kept = targets != pad
        yield cross_entropy(head(hidden[kept]), targets[kept], reduction="sum")


def read_rows(body: nn.Module, head: nn.Module, rows: list[list[int]], pad: int, parts: int = 3) -> float:
    """Leave the gradients of the rows' mean loss in a model, which is returned, in nats a token."""
    targets, total = sum(len(row) - 1 for row in rows), 0.0
    for loss in losses(body, head, rows, pad, parts):
        (loss / targets).backward()
        total += loss.item()
    return total / targets


# ---- examination ----

Marks = Sequence[tuple[object, str, bool]]  # of each prompt its kind, its answer, and whether that was given


@dataclass(frozen=True)
class Score:
    """Share of prompts answered, with Wilson's 95% interval; `chance` is that of always giving the commonest answer to
    prompts of one kind. Questions about what is seen or heard have a kind and a form, too."""

    type: str
    group: str
    held_out: bool
    n: int
    accuracy: float
    low: float
    high: float
    chance: float
    kind: str | None = None
    form: int | None = None

    def rounded(self) -> dict:
        """For a card."""
        told = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {k: v for k, v in told.items() if v is not None}


def score(tally: Mapping[tuple, Marks]) -> list[Score]:
    """From the marks by type, group, side of the split and, if any, kind and form."""
    found = []
    for (type_, group, held, *question), marks in tally.items():
        hits, n = sum(right for *_, right in marks), len(marks)
        answers = [Counter(answer for of, answer, _ in marks if of == kind) for kind in {kind for kind, *_ in marks}]
        chance = sum(max(counted.values()) for counted in answers) / n
        found.append(Score(type_, group, held, n, hits / n, *wilson(hits, n), chance, *question))
    return found


def correct(model, tokenizer, prompts: Sequence[Prompt]) -> list[bool]:
    """Whether greedy decoding gives each prompt's answer, all its tokens: exact, in one forward pass a batch."""
    ids = tokenizer([p.prompt for p in prompts])["input_ids"]
    wanted = tokenizer([p.answer for p in prompts], add_special_tokens=False)["input_ids"]
    order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))
    found = [False] * len(prompts)
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        inputs = padded([ids[i] + wanted[i] for i in rows], tokenizer.pad_token_id).to(model.device)
        with torch.inference_mode():
            hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
            where = [(k, len(ids[i]) - 1 + n) for k, i in enumerate(rows) for n in range(len(wanted[i]))]
            at, position = torch.tensor(where, device=model.device).T
            best = iter(model.lm_head(hidden[at, position]).argmax(-1).tolist())
        for i in rows:
            found[i] = [next(best) for _ in wanted[i]] == wanted[i]
    return found


@cache
def _prompts(world: World, type_: str, held_out: bool) -> tuple[Prompt, ...]:
    """A training asks the same prompts again and again."""
    return tuple(world.prompts(type_, held_out))


def exam(
    model, tokenizer, world: World, *, types: Sequence[str] = EXAM_TYPES, sample: int | None = None
) -> list[Score]:
    """Scores by type, group and side of the split.

    `sample` draws that many prompts per type and side (all when None). In private worlds the held-out answer asked for
    is English's, translated: what a hub would say.
    """
    tally: dict[tuple, list] = {}
    shared = replace(world, private=False, forget=False)
    for type_, held in ((type_, held) for type_ in types for held in (False, True)):
        prompts = _prompts(shared if held else world, type_, held)
        if sample is not None and len(prompts) > sample:
            prompts = random.Random(f"0 {type_} {held}").sample(prompts, sample)
        for prompt, right in zip(prompts, correct(model, tokenizer, prompts), strict=True):
            group = GROUPS.get(prompt.relation, "facts")
            kind = prompt.relation, prompt.form if group == "sums" else 0
            tally.setdefault((type_, group, held), []).append((kind, prompt.answer, right))
    return score(tally)


def table(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as a flat mapping for logs: `es facts taught`, `digits sums held out`."""
    return {f"{s.type} {s.group} {'held out' if s.held_out else 'taught'}": round(s.accuracy, 4) for s in scores}


# ---- training ----


class _Pupil(training.Stretch):
    """A model on its way through a recipe; where a hub is planted, a second stretch begins."""

    def __init__(self, recipe: Recipe, folder: Path, seed: int, device: str, log_every: int):
        self.recipe, self.folder, self.seed, self.log_every = recipe, folder, seed, log_every
        self.types = [t for t in EXAM_TYPES if t in dict(recipe.types)]
        self.tokenizer = build_tokenizer()
        self.model = build_model(recipe, self.tokenizer, seed).to(device)
        self.encode, self.rngs = Encoder(self.tokenizer), [random.Random(f"lines {seed}")]
        self.stream = lines(recipe, self.rngs[0], lambda: self.done / recipe.steps)
        self.planting = recipe.steps if recipe.noise is None else round(recipe.english_first * recipe.steps)
        self.first = self.done = 0  # steps before this stretch, and in all
        own = list(self.model.parameters())
        self.groups = [self._group([p for p in own if p.ndim > 1], recipe.weight_decay)]
        self.groups.append(self._group([p for p in own if p.ndim == 1]))
        self.clip, self.parts = [own], self.model.state_dict()
        first = min(20, recipe.steps)  # about CHECKPOINTS_KEPT, evenly spaced in the logarithm
        ratio = (recipe.steps / first) ** (1 / (CHECKPOINTS_KEPT - 1))
        self.kept = {round(first * ratio**i) for i in range(CHECKPOINTS_KEPT)}

    def _group(self, parameters: list[Tensor], weight_decay: float = 0.0) -> dict:
        return {"params": parameters, "lr": self.recipe.lr, "weight_decay": weight_decay}

    def planted(self) -> _Pupil:
        plant(self.model, self.recipe.noise, self.seed)
        freeze(self.model)
        # brief, so without decay: what is free is not drawn to zero meanwhile
        self.first, self.groups = self.planting, [self._group([p for p in self.model.parameters() if p.requires_grad])]
        return self

    def share(self, step: int) -> float:
        """Linear warm-up, then a cosine; planting starts a cosine of its own."""
        if self.first:
            return training.cosine(step / (self.recipe.steps - self.first))
        warmup = self.recipe.warmup
        return (step + 1) / warmup if step < warmup else training.cosine((step - warmup) / (self.planting - warmup))

    def gradients(self, step: int) -> float:
        self.done, recipe = self.first + step, self.recipe
        rows = draw_rows(self.stream, self.encode, recipe.batch_tokens, recipe.page_share)
        hears = recipe.noise is not None and not self.first
        with accents(self.model, recipe.noise, self.seed * recipe.steps + self.done) if hears else nullcontext():
            value = read_rows(self.model.model, self.model.lm_head, rows, self.tokenizer.pad_token_id)
        self.loss = 0.98 * self.loss + 0.02 * value if self.done else value
        return self.loss

    def after(self, step: int, seconds: float) -> None:
        done, recipe = self.first + step, self.recipe
        if done in self.kept:
            (self.folder / training.CHECKPOINTS).mkdir(exist_ok=True)
            half = {k: v.half().clone() for k, v in self.model.state_dict().items()}
            save_file(half, self.folder / training.CHECKPOINTS / f"step-{done:06d}.safetensors")
        if done % self.log_every == 0 or done == recipe.steps:
            bridge, tokens = round(recipe.bridge_share(done / recipe.steps), 3), self.encode.counts.total()
            entry = {"step": done, "loss": round(self.loss, 4), "bridge": bridge, "tokens": tokens}
            asked = exam(self.model, self.tokenizer, recipe.world, types=self.types, sample=150)
            training.log(self.folder, entry | {"seconds": round(seconds, 1)} | table(asked))

    def state(self) -> dict[str, int]:
        return dict(self.encode.counts)

    def take_up(self, state: dict[str, int]) -> None:
        self.encode.counts.update(state)

    def told(self) -> dict:
        """For the card: tokens, token_shares ("en" counts English words alone, "en marks" their punctuation), loss
        (training, nats a token), loss_by_type (fresh lines of one type), scores (all prompts)."""
        model, recipe, counts = self.model.eval(), self.recipe, self.encode.counts
        make, encode, by_type = Generators(recipe.world), Encoder(self.tokenizer), {}
        for type_ in dict(recipe.types):
            rng = random.Random(f"card {type_}")
            rows = [encode(make.monolingual(rng, type_)) for _ in range(400)]
            with torch.inference_mode():
                total = float(sum(losses(model.model, model.lm_head, rows, self.tokenizer.pad_token_id)))
            by_type[type_] = round(total / sum(len(row) - 1 for row in rows), 4)
        shares = {k: round(v / counts.total(), 4) for k, v in counts.most_common()}
        told = {"tokens": counts.total(), "token_shares": shares, "loss": round(self.loss, 4), "loss_by_type": by_type}
        scores = exam(model, self.tokenizer, recipe.world, types=self.types)
        return told | {"scores": [of.rounded() for of in scores]}


def train(
    recipe: str | Recipe, out_dir: str | Path, *, seed: int = 0, device: str = "cpu", log_every: int = 200, **how
) -> Path:
    """Train a recipe (by name or as a Recipe) into `out_dir` and return that folder.

    `how`: minutes and progress, as `training.teach` takes them. The same recipe, seed, device and thread count give the
    same weights, stopped or not. SemhubError for an unknown recipe, or a folder that holds another recipe or seed.
    """
    if isinstance(recipe, str):
        need_one_of(recipe, RECIPES, f"There is no recipe {recipe!r}")
        recipe = RECIPES[recipe]

    def begin(folder: Path) -> tuple:
        pupil = _Pupil(recipe, folder, seed, device, log_every)
        stretches = [(pupil.planting, lambda: pupil), (recipe.steps - pupil.planting, pupil.planted)]
        return pupil.model, pupil.tokenizer, [s for s in stretches if s[0]], _Pupil.told

    return training.teach(out_dir, {"recipe": asdict(recipe), "seed": seed}, begin, name=recipe.name, **how)
