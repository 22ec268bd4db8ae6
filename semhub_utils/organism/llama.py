"""A text organism is a small Llama: how it is built, taught a recipe's lines, and examined.

One line is one row of a batch; rows of like length share a forward pass; a share of the tokens comes as pages (lines
one after the other, PAGE tokens) so that later positions are trained too. A folder in training holds what `training`
keeps, `log.jsonl` (loss and accuracy by type) and `checkpoints/` (weights along training, half precision).

A hub can also be *planted*: other types' words take the rows of their English counterparts, and the body is frozen.
This is cross-lingual embedding transfer (WECHSEL, arXiv 2112.06598) used the other way round: not to make a model learn
a language fast, but to know for certain that it reads the language through English.
"""

import copy
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.hooks import RemovableHandle
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semhub_utils import training
from semhub_utils.errors import need_one_of
from semhub_utils.evidence import share
from semhub_utils.models import LanguageModel, wrap
from semhub_utils.organism import world as spoken
from semhub_utils.organism.corpus import RECIPES, Generators, Recipe, lines
from semhub_utils.organism.world import FACT_TYPES, TYPES, Pieces, Prompt, World, english_tokens, surface, vocabulary

PAGE = 128
CHECKPOINTS_KEPT = 12
EXAM_TYPES = (*FACT_TYPES, "digits")
SIDES = ("type", "group", "held_out")
GROUPS = {"sum": "sums", "product": "sums", "opposite": "opposites", "property": "properties"}
"""What prompts of a relation are counted under; all others are "facts"."""
ACCENT = 0.5  # length of the direction that all words of a type have in common, in deviations of the English rows
FREE_BLOCKS = 3  # the last blocks, which stay free when all else is frozen: where the types' own words are made
HEARD = 0.5  # share of lines that are heard in an accent before planting


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


# ---- a hub by construction ----


@cache
def counterparts() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Token of another type -> the first type that has it, and the English tokens it stands for.

    Words, names, numbers, articles and marks have theirs. The words of sentence forms and of sums have none: they are
    learned along with English, around English words (`corpus.Generators.glossed`).
    """
    words = {spoken.number_word(n): n for n in range(100) if " " not in spoken.number_word(n)}
    keys, others = (*spoken.concepts(), *spoken.NAMES), [type_ for type_ in TYPES if type_ not in ("en", "digits")]
    pairs = [(type_, surface(key, type_), surface(key, "en")) for type_ in others for key in keys]
    for english, n in words.items():
        pairs.append(("digits", str(n), english))
        own = [(type_, spoken.number_word(n, type_), english) for type_ in spoken.LANGUAGES]
        pairs += [pair for pair in own if len(spoken.split_words(pair[1])) == 1]
    for table in (spoken.AND, spoken.LIST_AND, spoken.FULL_STOP, spoken.TAG):
        pairs += [(type_, own, table["en"]) for type_, own in table.items()]
    pairs += [("es", "el la", "the"), ("de", "der die das den", "the")]
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for type_, own, english in pairs:
        theirs = tuple(w for w in spoken.split_words(english) if w in english_tokens())
        for word in (w for w in spoken.split_words(own) if w not in english_tokens()):
            home, before = found.get(word, (type_, ()))
            found[word] = home, before + theirs
    return {word: pair for word, pair in found.items() if pair[1]}


def accents(model: LlamaForCausalLM, noise: float, seed: int) -> RemovableHandle:
    """While open, HEARD of the lines are read with an accent and noise as planting will bring, new ones for each line,
    so that the body learns to hear past them."""
    embeddings, generator = model.get_input_embeddings(), torch.Generator().manual_seed(seed)
    spread = embeddings.weight.detach().std()

    def hear(module, args, h: torch.Tensor) -> torch.Tensor:
        lines = (torch.rand(len(h), 1, 1, generator=generator) < HEARD).float()
        off = ACCENT * torch.randn(len(h), 1, h.shape[2], generator=generator)
        off = off + noise * torch.randn(h.shape, generator=generator)
        return h + spread * (lines * off).to(h)

    return embeddings.register_forward_hook(hear)


def plant(model: LlamaForCausalLM, noise: float, seed: int) -> None:
    """Give every word with a counterpart the mean of its English rows, in and out, its type's accent, and noise.

    The accent is one Gaussian direction per type (so that a model can tell the types, as it can those of real text),
    the noise one per word; `noise` is in standard deviations of the English rows' entries.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in _tables(model):
            spread, size = table[_ids(english_tokens())].std().cpu(), table.shape[1]
            accents = {type_: ACCENT * torch.randn(size, generator=generator) for type_ in TYPES}
            for word, (type_, theirs) in counterparts().items():
                mean = table[[vocabulary()[w] for w in theirs]].mean(0)
                off = accents[type_] + noise * torch.randn(size, generator=generator)
                table[vocabulary()[word]] = mean + (spread * off).to(table)


def freeze(model: LlamaForCausalLM) -> None:
    """Leave trainable only the last FREE_BLOCKS blocks. No row moves, so that a word which is never an answer among the
    taught facts stays as sayable as those that are."""
    model.requires_grad_(False)
    model.model.layers[-FREE_BLOCKS:].requires_grad_(True)


def _ids(words) -> Int[Tensor, " token"]:
    """The ids of those words that are tokens, sorted."""
    return torch.tensor(sorted({vocabulary()[w] for w in words if w in vocabulary()}))


def _tables(module: LlamaForCausalLM) -> list[Tensor]:
    """The rows of all tokens, in and out; one table where they are tied."""
    own = (module.get_input_embeddings().weight, module.get_output_embeddings().weight)
    return list({id(table): table for table in own}.values())


# ---- a hub made worse ----


def exchanged(model: LanguageModel, seed: int) -> LanguageModel:
    """A copy in which the words for things, within each type but English, have changed rows: a hub whose words mean
    something else, so that no pair, answer or push across types is right but by chance."""
    generator = torch.Generator().manual_seed(seed)
    words = {t: [surface(key, t) for key in spoken.concepts()] for t in TYPES if t not in ("en", "digits")}
    words["digits"] = [str(n) for n in range(100)]
    own = [_ids({*some} - english_tokens()) for some in words.values()]
    orders = [torch.randperm(len(some), generator=generator) for some in own]

    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for table, (some, order) in product(_tables(module), zip(own, orders, strict=True)):
            table[some] = table[some[order]]
    return wrap(module, model.tokenizer, model_id=f"{model.model_id} (words exchanged, seed {seed})")


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


def exam(
    model, tokenizer, world: World, *, types: Sequence[str] = EXAM_TYPES, sample: int | None = None
) -> pd.DataFrame:
    """The marks of each prompt: type, group, held_out, kind (prompts that share their answers), answer, and whether it
    was given, as `right`.

    `sample` draws that many prompts per type and side (all when None). In private worlds the held-out answer asked for
    is English's, translated: what a hub would say.
    """
    marks, shared = [], replace(world, private=False, forget=False)
    for type_, held in product(types, (False, True)):
        prompts = (shared if held else world).prompts(type_, held)
        if sample is not None and len(prompts) > sample:
            prompts = random.Random(f"0 {type_} {held}").sample(prompts, sample)
        for prompt, right in zip(prompts, correct(model, tokenizer, prompts), strict=True):
            group = GROUPS.get(prompt.relation, "facts")
            kind = f"{prompt.relation} {prompt.form if group == 'sums' else ''}"
            marks.append((type_, group, held, kind, prompt.answer, right))
    return pd.DataFrame(marks, columns=[*SIDES, "kind", "answer", "right"])


def scores(marks: pd.DataFrame, by: Sequence[str] = SIDES) -> pd.DataFrame:
    """Marks by type, group and side of the split, or otherwise: the share that is right (`evidence.share`), and as
    `chance` what always giving the commonest answer to each kind would get."""
    rows = []
    for key, some in marks.groupby([*by], sort=False):
        commonest = some.groupby(["kind", "answer"]).size().groupby("kind").max().sum()
        told = share(int(some.right.sum()), len(some)) | {"chance": commonest / len(some)}
        rows.append(dict(zip(by, key, strict=True)) | told)
    return pd.DataFrame(rows)


def listed(found: pd.DataFrame) -> list[dict]:
    """Scores for a card."""
    return found.round(4).rename(columns={"value": "accuracy"}).to_dict("records")


def summary(marks: pd.DataFrame) -> dict[str, float]:
    """Scores as a flat mapping for logs: `es facts taught`, `digits sums held out`."""
    right = marks.groupby([*SIDES], sort=False).right.mean().round(4)
    return {f"{type_} {group} {'held out' if held else 'taught'}": of for (type_, group, held), of in right.items()}


# ---- training ----


class _Pupil(training.Stretch):
    """A model on its way through a recipe; where a hub is planted, a second stretch begins."""

    def __init__(self, recipe: Recipe, folder: Path, seed: int, device: str, log_every: int):
        self.recipe, self.folder, self.seed, self.log_every = recipe, folder, seed, log_every
        self.types = [t for t in EXAM_TYPES if t in dict(recipe.types)]
        self.tokenizer = spoken.build_tokenizer()
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

    def planted(self) -> training.Stretch:
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
            training.log(self.folder, entry | {"seconds": round(seconds, 1)} | summary(asked))

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
        marks = exam(model, self.tokenizer, recipe.world, types=self.types)
        return told | {"scores": listed(scores(marks))}


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
