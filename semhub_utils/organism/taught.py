"""`taught`: organisms in which the effects that the paper's interventions look for are planted (`planting`).

An instrument that has never said yes may be broken, and these show whether it is. `taught` is `hub` trained on,
`taught-sees` is `hub-sees`, `taught-hears` is `hub-hears`; `dosed` gives what lies between the two. Where what counts
is the way that an answer takes through a model, two small ones get their weights by hand: `sharer` and `translator`.
"""

import copy
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, silu
from transformers import PreTrainedTokenizerFast

from semhub_utils import identity, training
from semhub_utils.errors import need, need_one_of
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, wrap
from semhub_utils.organism import scenes, senses, sounds
from semhub_utils.organism.corpus import RECIPES, Ask, forms, write
from semhub_utils.organism.lessons import answers, examine, lesson
from semhub_utils.organism.llama import build_model, exam, summary
from semhub_utils.organism.planting import COURSES, Course, Planting, Reading, mean, random_like, shares_right
from semhub_utils.organism.world import vocabulary
from semhub_utils.structure import hook

ABROAD_SHARE = 0.25  # of questions about pictures, as when they were learnt

# ---- what is seen and heard ----


class Change(NamedTuple):
    """At these places of an item, a vector: put in the states' place from the layer on, as long as they are, or added
    there so many times their mean length."""

    kind: str
    item: int
    places: list[int]
    vector: Float[Tensor, " hidden"]
    layer: int
    strength: float = 1.0


class _Sensing(Planting):
    """Of pictures or sounds: questions answered, ordinarily and under changes, and words read at what is sensed."""

    put: bool  # whether vectors are put in place of states, from the layer on

    def __init__(self, course: Course, model: Any, world: senses.Shown, *given: Any):
        super().__init__(course, model, world.processor.tokenizer, *given)
        self.world, self.stream = world, world.stream(self.rngs[0], course.menu)
        self.state, self.take_up = world.state, world.take_up

    def places(self, inputs: dict[str, Tensor]) -> list[int]:
        """How many placeholders each item gets."""

    def asked(self, rng: random.Random, number: int, n: int, item: Any) -> tuple[list[senses.Question], Change | None]:
        """Questions of an item of n placeholders with their answers, and under what."""

    def marks(self, n: int, item: Any) -> list[tuple[int, str]]:
        """(place, word that the lens is to read there)."""

    def step(self, rng: random.Random, items: list, inputs: dict[str, Tensor]) -> tuple:
        """Logits, wanted tokens, the change that each is under; and, where no change is, the lens at the layer, then at
        the first and the last one, with what is wanted: in the middle alone it reads what is there."""
        many = self.places(inputs)
        told = [self.asked(rng, k, n, item) for k, (n, item) in enumerate(zip(many, items, strict=True))]
        changes = [change for _, change in told if change]
        first, seen = [len(self.world.tokens(some[0])[0]) for some, _ in told], {}

        def change(h: Tensor, layer: int) -> Tensor:
            seen[layer], new = h, h.clone()
            for c in changes:
                if layer == c.layer or (self.put and layer > c.layer):
                    at = c.item, [first[c.item] + place for place in c.places]
                    lengths = h[at].detach().norm(dim=-1, keepdim=True)
                    vector = c.strength * normalize(c.vector, dim=-1)
                    new[at] = lengths * vector if self.put else h[at] + lengths.mean() * vector
            return new

        with ExitStack() as stack:
            for layer in range(len(self.body.layers) + 1):
                stack.enter_context(hook(self.body.layers, layer, partial(change, layer=layer)))
            logits, wanted = answers(self.model, self.world, inputs, [questions for questions, _ in told])
        tokens = [sum(len(self.world.tokens(q)[2]) for q in questions) for questions, _ in told]
        how = [c.kind if c else "alone" for (_, c), n in zip(told, tokens, strict=True) for _ in range(n)]
        marks = [
            (k, first[k] + place, w)
            for k, item in enumerate(items)
            if not told[k][1]
            for place, w in self.marks(many[k], item)
        ]
        at = [k for k, *_ in marks], [place for _, place, _ in marks]
        ends = torch.cat([seen[0][at], seen[len(self.body.layers)][at]])
        read = torch.cat([self.lens(seen[self.course.layer][at]), self.lens(ends)])
        nothing = self.tokenizer.convert_tokens_to_ids(self.world.what)
        return logits, wanted, how, read, torch.tensor([*(vocabulary()[w] for *_, w in marks), *[nothing] * len(ends)])

    def taught(self, rng: random.Random) -> Tensor:
        logits, wanted, how, read, words = self.step(rng, *self.world.batch(rng, self.stream))
        losses, under = cross_entropy(logits, wanted, reduction="none"), torch.tensor([of != "alone" for of in how])
        seen = cross_entropy(read, words) if len(words) else read.sum()
        return mean(losses[under]) + mean(losses[~under]) + self.course.lens * seen

    def examined(self) -> dict[str, float]:
        """Token by token; of the lens, where it reads a word that is wanted at that place."""
        rng, right = random.Random("examined"), defaultdict(list)
        stream = self.world.of.stream(rng, self.course.menu)
        for _ in range(4):
            items = [next(stream) for _ in range(self.course.exam)]
            with torch.inference_mode():
                logits, wanted, how, read, words = self.step(rng, items, self.world.inputs(items))
            for of, one in zip(how, (logits.argmax(-1) == wanted).tolist(), strict=True):
                right[of].append(one)
            seen = (read.argmax(-1) == words).tolist()
            right["lens"] += seen[: len(seen) // 3]
            right["lens, first and last layer"] += seen[len(seen) // 3 :]
        return shares_right(right)

    def told(self) -> dict[str, Any]:
        """For the card."""
        self.model.eval()
        text = summary(exam(self.model, self.tokenizer, self.course.world, sample=200))
        asked = examine(self.model, self.world, n=self.course.exam)
        return self.planted() | {"loss": round(self.loss, 4), "text": text, "scores": asked}


class _Seeing(_Sensing):
    put = True

    def places(self, inputs: dict[str, Tensor]) -> list[int]:
        return [(scenes.SIZE // senses.PATCH) ** 2] * len(inputs["pixel_values"])

    def asked(self, rng: random.Random, number: int, n: int, scene: scenes.Scene) -> tuple:
        if scene.kind != "halves" or rng.random() > self.course.pushed:
            return lesson(self.world, rng, scene, ABROAD_SHARE), None
        side, words = rng.randrange(2), [c for c in scenes.COLOURS if c not in scene.colours]
        present = scene.colours[side]
        third, another = rng.sample(words, 2)
        kind, vector, layer = "third colour", self.row(third) - self.row(present), self.course.layer
        said, chance = third, rng.random()
        if chance < 0.15:
            kind, vector, said = "present colour", self.row(present), present
        elif chance < 0.35:  # too early: any colour but the third
            kind, layer, said = "wrong layer", rng.choice(self.course.wrong), another
        colours = tuple(said if k == side else c for k, c in enumerate(scene.colours))
        places = scenes.patches([*scene.sides.values()][side], senses.PATCH)
        turned = replace(scene, colours=colours)
        if scenes.held_out().shows(turned):
            return lesson(self.world, rng, scene), None
        return lesson(self.world, rng, turned), Change(kind, number, places, vector, layer)

    def marks(self, n: int, scene: scenes.Scene) -> list[tuple[int, str]]:
        names = [*scenes.COLOURS], scenes.SHAPES
        labels = self.world.labels(scene)
        return [(k, names[of][n - 1]) for k, row in enumerate(labels.tolist()) for of, n in enumerate(row) if n > 0]


class _Hearing(_Sensing):
    put = False

    def places(self, inputs: dict[str, Tensor]) -> list[int]:
        lengths = inputs["feature_attention_mask"].sum(-1)
        return self.model.model.audio_tower._get_feat_extract_output_lengths(lengths)[1].tolist()

    def asked(self, rng: random.Random, number: int, n: int, clip: sounds.Clip) -> tuple:
        own = sounds.kind_of(clip.source)
        if not own or rng.random() > 0.8:
            return lesson(self.world, rng, clip), None
        push, answer = None, own
        if rng.random() < self.course.pushed:
            kind, layer = (
                rng.choice(("other", "other", "alike", "reversed", "random", "wrong layer")),
                self.course.layer,
            )
            mammal = (own == "mammal") == (kind == "alike")
            known = {a: sounds.kind_of(a) for a in sounds.ANIMALS if a != clip.source}
            toward = rng.choice([a for a, of in known.items() if of and (of == "mammal") == mammal])
            vector, strength = self.row(toward) - self.row(clip.source), 2.0 ** rng.uniform(-1, 2)
            if kind in ("other", "alike"):
                answer = known[toward]
            elif kind == "reversed":
                vector = -vector
            elif kind == "random":
                vector = random_like(vector[None], rng)[0]
            else:
                layer = rng.choice(self.course.wrong)
            push = Change(kind, number, [*range(n)], vector, layer, strength)
        ask = Ask("kind", "", (answer,))
        return [write(ask, "en", rng.choice(forms("kind", "en")), what=self.world.what)], push

    def marks(self, n: int, clip: sounds.Clip) -> list[tuple[int, str]]:
        words = [*filter(None, (clip.source, sounds.ANIMALS.get(clip.source)))]
        return [(k, word) for k in range(n) for word in words]


# ---- the trainings, and what lies between ----

KINDS = {"sees": (senses.Pictures, _Seeing), "hears": (senses.Sounds, _Hearing)}


class _Copied:
    """The tokenizer or processor of the base, file by file."""

    def __init__(self, base: str):
        self.folder = identity.organism_path(base)

    def save_pretrained(self, folder: Path) -> None:
        for path in (*self.folder.glob("tokenizer*.json"), *self.folder.glob("processor*.json")):
            shutil.copyfile(path, folder / path.name)


def train_taught(name: str | Course, out_dir: str | Path, *, seed: int = 0, device: str = "cpu", **how) -> Path:
    """Train a taught organism (by name or as a Course) into `out_dir` and return that folder. `how`: as for
    `llama.train`. SemhubError for an unknown name, or a folder that holds another course or seed."""
    if isinstance(name, str):
        need_one_of(name, COURSES, f"There is no course {name!r}")
    course = COURSES[name] if isinstance(name, str) else name

    def begin(folder: Path) -> tuple:
        base = load_model(identity.PREFIX + course.base, device=device, check=False)
        model, make = base.module, partial(Reading, course, base.module, base.tokenizer, folder, seed)
        if (sense := course.base.rpartition("-")[2]) in KINDS:
            shown, kind = KINDS[sense]
            world = shown(replace(senses.SENSES[sense], batch=course.rows), base.processor)
            make = partial(kind, course, model, world, folder, seed)
        model.config._name_or_path = ""
        return model, _Copied(course.base), [(course.steps, make)], lambda stretch: stretch.told()

    return training.teach(out_dir, {"recipe": asdict(course), "seed": seed}, begin, name=course.name, **how)


def dosed(name: str, dose: float, *, folder: str | Path | None = None) -> LanguageModel:
    """A taught organism's weights (0, all of its base's, to 1, all of its own) in between, weight by weight. folder:
    where it lies, if it does not ship. Raises SemhubError on an unknown name or a dose outside 0 to 1."""
    need_one_of(name, COURSES, f"There is no course {name!r}")
    need(0 <= dose <= 1, f"The dose was {dose}; a number from 0 to 1 would do.")
    base, own = (
        load_model(of, check=False)
        for of in (f"{identity.PREFIX}{COURSES[name].base}", str(folder or identity.PREFIX + name))
    )
    module = copy.deepcopy(base.module)
    toward = own.module.state_dict()
    with torch.no_grad():
        for key, weight in module.state_dict().items():
            weight.lerp_(toward[key].to(weight), dose)
    return wrap(module, base.processor or base.tokenizer, model_id=f"{identity.PREFIX}{name} (dose {dose:g})")


# ---- weights by hand ----

BY_HAND = "by hand"
PAIRS, SHARED, PRIVATE, USED = 160, 6, 14, 3  # of `sharer`: words of a type, directions, the layer in the middle
CONCEPTS, TONGUES, APART = 60, ("la", "lb", "lc", "ld"), 1  # of `translator`: where concept and language are apart


def empty_llama(words: Sequence[str], width: int, n_layers: int = 2, context: int = 32, inner: int = 8) -> tuple:
    """A Llama of one head whose weights are nothing, but for its norms, and a tokenizer of these words and "<unk>"."""
    known = {word: k for k, word in enumerate([*words, "<unk>"])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    reads = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    shape = {"width": width, "mlp": inner, "layers": n_layers, "heads": 1, "context": context, "tied": False}
    module = build_model(replace(RECIPES["hub"], **shape), reads).eval()
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, 1.0 if parameter.ndim == 1 else 0.0)
    return module, reads


def sharer(dose: float = 1.0, seed: int = 0, *, kept: bool = False) -> LanguageModel:
    """Six layers, and PAIRS words of two types, `d7` and `w7`, which mean the same. Block 2 writes their meaning, the
    same SHARED directions for both; block 5 takes it away, and of type d it leaves a translation that w has not. What
    follows `<s> d7` is `a7`, told by that (dose 1), or by PRIVATE directions of `d7` alone (dose 0): then the meaning
    is shared and for nothing. What follows `<s> x7` is `y7`, by other ones. kept: block 5 does nothing, and the answer
    is told by the meaning itself."""
    make, width = torch.Generator().manual_seed(seed), 3 * PRIVATE + 4 * SHARED + 4
    words = [f"{kind}{k}" for kind in "dwaxy" for k in range(PAIRS)]
    module, tokenizer = empty_llama([*words, "<s>"], width, 6, inner=2 * SHARED)
    *private, told, twin, meaning, said, kind = torch.eye(width).split([PRIVATE] * 3 + [SHARED] * 4 + [4])
    # states of a layer are of one length each, so that the norm is a number, and all that is written is exact
    means = SHARED**0.5 * normalize(torch.randn(PAIRS, SHARED, generator=make), dim=-1)
    own = [PRIVATE**0.5 * normalize(torch.randn(PAIRS, PRIVATE, generator=make), dim=-1) @ of for of in private]
    first, fifth = ((width / (PRIVATE + of * SHARED + 4)) ** 0.5 for of in (0.01, 1.01))
    with torch.no_grad():
        embed, head = module.model.embed_tokens.weight, module.lm_head.weight
        for k, rows in enumerate((own[0] + 0.1 * means @ told, own[1] + 0.1 * means @ twin, own[2])):
            embed[(0, 1, 3)[k] * PAIRS :][:PAIRS] = rows + 2 * kind[k]
        embed += 0.02 * torch.randn(embed.shape, generator=make)
        embed[-2] = kind[3]  # <s>
        answer = dose * means @ (meaning if kept else said) / SHARED**0.5 + (1 - dose) * own[0]
        head[2 * PAIRS : 3 * PAIRS] = 2 * normalize(answer, dim=-1)
        head[4 * PAIRS : 5 * PAIRS] = 2 * normalize(own[2], dim=-1)
        writes, turns = module.model.layers[1].self_attn, module.model.layers[4].mlp
        writes.v_proj.weight.copy_(torch.eye(width))  # all tokens are looked at alike: `<s>`, and the word
        writes.o_proj.weight.copy_(meaning.T @ (told + twin) * 2 / (0.1 * first))
        if not kept:
            turns.gate_proj.weight.copy_(kind[:2].repeat_interleave(SHARED, 0))
            turns.up_proj.weight.copy_(torch.cat([meaning, meaning]))
            turns.down_proj.weight.copy_(torch.cat([said.T - meaning.T, -meaning.T], 1))
            turns.down_proj.weight.div_(silu(torch.tensor(2 * fifth)) * fifth)
    return wrap(module, tokenizer, model_id=f"{BY_HAND}: shared, dose {dose:g}, seed {seed}")


def translator(dose: float = 1.0, seed: int = 0) -> LanguageModel:
    """Three layers that read `la7 lb :`, the word for concept 7 in one of TONGUES and the one to say it in. One block
    brings the concept to the last token, another the language, and the unembedding says the word that has both. At
    dose 1 the concept comes first, and is all there is to patch at layer APART; at dose 0 it is the language, as in
    arXiv 2411.08745; and in between so much of either."""
    words = [f"{name}{k}" for name in TONGUES for k in range(CONCEPTS)]
    width = 2 * CONCEPTS + 4 * len(TONGUES)
    module, tokenizer = empty_llama([*words, *TONGUES, ":"], width, n_layers=3)
    eye, make = torch.eye(width), torch.Generator().manual_seed(seed)
    asked, concept = eye[:CONCEPTS], eye[CONCEPTS : 2 * CONCEPTS]
    tag, language, accent, colon = (eye[2 * CONCEPTS + 4 * k :][:4] for k in range(4))
    with torch.no_grad():
        embed, head = module.model.embed_tokens.weight, module.lm_head.weight
        for g in range(len(TONGUES)):
            some = slice(g * CONCEPTS, (g + 1) * CONCEPTS)
            embed[some], head[some] = asked + 0.2 * accent[g], 2 * (concept + language[g])
            embed[len(words) + g] = tag[g]
        embed[len(words) + 4] = 0.1 * colon[0]
        embed += 0.01 * torch.randn(embed.shape, generator=make) / width**0.5
        head += torch.randn(head.shape, generator=make) / width**0.5
        maps = [0.3 * concept.T @ asked, 0.3 * language.T @ tag]
        for block, share in zip(module.model.layers, (dose, 1 - dose), strict=False):
            block.self_attn.v_proj.weight.copy_(eye)
            block.self_attn.o_proj.weight.copy_(share * maps[0] + (1 - share) * maps[1])
    return wrap(module, tokenizer, model_id=f"{BY_HAND}: concept first, dose {dose:g}, seed {seed}")
