"""The paper's intervention on pictures: a third colour written into one half of a picture of two colours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.core import Claim, Flip, Kept, Numbers, Scores
from semhub_utils.experiments.interventions import AWAY, RANDOM, RELEASED, Push
from semhub_utils.experiments.patching import OWN, mean_states
from semhub_utils.experiments.words import asked, task_rows
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.items import RecolourItem
from semhub_utils.steering import Edit, generate
from semhub_utils.tokens import word_forms

THIRD, PRESENT, ANOTHER, NOTHING = "third colour", "present colour", "another colour", "nothing"
OUTCOMES = ("intended", "unchanged", "other", "unparseable")
MODES = {"corrected": "turn", RELEASED: "replace"}
"""Reading -> how the vector is put in the state's place: at the length of the state, or as long as it is."""


@dataclass(frozen=True, kw_only=True)
class Recolour(Push):
    """Does a picture of red and blue become one of green and blue when "green" minus "red" is put into the red half?

    As in the paper (its vision intervention): at the patches of one half, from layer l to the last, the hidden state is
    REPLACED by the difference of two rows of the unembedding, a third colour's minus the present one's; for every l.
    reading: "as released", the difference as it is, or "corrected", at the length of each state it replaces. In a model
    that reads every state behind a norm, both are the same: what is overwritten at all later layers is only ever read
    there. Answers are the model's own greedy generation, read for the colours they name: "intended" (the third and the
    untouched one), "unchanged", "unparseable" (not as many colours as were asked for; of a question for one, the first
    counts), "other". Of an item with several prompts all have to be so.

    Claim `recolour/<series>` ("/as released" behind it for that reading): the share of intended answers minus that
    under a random direction of the same length, one per item, at the layer that a share of the clusters chose (the
    lowest of the best; the embeddings and the last layer stand out of the choice), on the others; signs flipped per
    cluster. Controls, minus the same: the row of the present colour alone, which should change nothing, and a fourth
    colour minus the present one, under which the third should not be named.

    Table: `recolour` (share of each outcome as `series`, by layer and `condition`, with "nothing" for the run as it
    is), `recolour-choice` (the choosing items), and `task-<series>`, one row per item: whether it is answered rightly
    before. The condition "own type" is no control but what can be done at best: at layer l, the mean state of a real
    half of the third colour, from which the later layers follow. `task-<series>, own type`, one row per item: whether
    the answer is then the intended one at some inner layer, as in `patching.Patch`. Items whose colours have no token
    of their own, or whose half has no patch, are dropped and counted. Raises SemhubError on no item and an unknown
    reading.
    """

    strengths: tuple[float, ...] = (1.0,)
    reading: str = "corrected"
    max_new_tokens: int = 12
    columns: ClassVar[tuple[str, ...]] = ("condition", "cluster")
    name: ClassVar[str] = "recolour"
    drawn: ClassVar[int] = 0
    without: ClassVar[tuple[str, ...]] = (AWAY,)

    @property
    def readings(self) -> tuple[str, ...]:
        return (self.reading,)

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"named": "recolour", "ending": f"/{RELEASED}" * (self.reading == RELEASED)}
        given |= {"unit": "share of pictures", "null_in_words": "signs flipped by pair of colours"}
        return (Claim("recolour-above-random", nulls=(Flip(),), embedded=False, outcome=True, **given),)

    def fit(self, model: LanguageModel, items: Sequence[RecolourItem]) -> Kept:
        if self.reading not in MODES:
            raise SemhubError(f"There is no reading {self.reading!r}; one of {', '.join(MODES)} would do.")
        if not items:
            raise SemhubError("No item was given to recolour; at least one picture of two halves would do.")
        items = [
            replace(i, **{name: tuple(asked(model, p) for p in getattr(i, name)) for name in ("prompts", "source")})
            for i in items
        ]
        colours = dict.fromkeys(c for item in items for c in (item.present, item.third, item.another))
        forms = word_forms(model, colours, items[0].prompts[0].text)
        rows = {form.word: row for form in forms if (row := form.unembedding_row(model)) is not None}
        kept, encodings, dropped = [], [], Counter()
        for item in items:
            read = model.encode(item.prompts)
            if not {item.present, item.third, item.another} <= {*rows}:
                dropped["a colour's word has no row of its own in the unembedding"] += 1
            elif not item.places(read[0]):
                dropped["no patch of the model is known to lie there"] += 1
            else:
                kept.append(item)
                encodings.append(read)
        return Kept(kept, dropped, prompts=(), more=(rows, encodings))

    def vectors(self, reader: LanguageModel, kept: Kept) -> dict[str, Float[Tensor, "item layer hidden"]]:
        rows, _ = kept.more
        present, third, another = (
            torch.stack([rows[getattr(item, name)] for item in kept.items]) for name in ("present", "third", "another")
        )
        put = {THIRD: third - present, PRESENT: present, ANOTHER: another - present}
        return {name: v[:, None].expand(-1, reader.n_layers + 1, -1) for name, v in put.items()}

    def random(self, own: Float[Tensor, "item hidden"], seed: int) -> Float[Tensor, "item 1 hidden"]:
        """A direction for each item."""
        drawn = torch.randn(*own.shape, generator=torch.Generator().manual_seed(seed))
        return (own.norm(dim=-1, keepdim=True) * normalize(drawn, dim=-1))[:, None]

    def tried(self, model: LanguageModel) -> list[int]:
        return list(range(model.n_layers + 1))

    def asked(self) -> tuple[float, ...]:
        return self.strengths

    def doses(self, condition: str, strength: float) -> tuple[float, ...]:
        return self.strengths

    def amount(self, kept: Kept, strength: float) -> tuple[tuple[str, Any], ...]:
        return ()

    def outcome(
        self, reader: LanguageModel, kept: Kept, part: Int[np.ndarray, " row"], vectors: Float[Tensor, "row hidden"],
        layer: int, strengths: Sequence[float],
    ) -> Float[np.ndarray, "row strength outcome"]:  # fmt: skip
        """1 for what is said of OUTCOMES."""
        asks = torch.tensor([len(kept.items[i].prompts) for i in part])
        layers = tuple(range(layer, reader.n_layers + 1))
        return self._said(reader, kept, part, vectors.repeat_interleave(asks, 0), layers, MODES[self.reading])[:, None]

    def _said(
        self, reader: LanguageModel, kept: Kept, part: Int[np.ndarray, " row"],
        vectors: Float[Tensor, "prompt hidden"] | None = None, layers: tuple[int, ...] = (), mode: str = "replace",
    ) -> Float[np.ndarray, "row outcome"]:  # fmt: skip
        """The outcome with a vector for each prompt put in its half at some layers, or as they are."""
        items, encodings = [kept.items[i] for i in part], kept.more.resolved[1]
        read = [(kept.items[i], encoding) for i in part for encoding in encodings[i]]
        edit = None
        if vectors is not None:
            edit = Edit(layers, vectors, [list(item.places(encoding)) for item, encoding in read], mode=mode)
        texts = iter(generate(reader, [e for _, e in read], max_new_tokens=self.max_new_tokens, edit=edit))
        out = np.zeros((len(items), len(OUTCOMES)))
        for row, item in zip(out, items, strict=True):
            named = tuple(frozenset(item.named(next(texts)[0])[: 1 if len(b) == 1 else None]) for b in item.before)
            unlike = any(len(some) != len(right) for some, right in zip(named, item.before, strict=True))
            row[3 if unlike else {item.after: 0, item.before: 1}.get(named, 2)] = 1
        return out

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        of, layer, starts = kept.more.reported(), kept.more.layer, self.tried(reader)
        by_start = [self.conditions(reader, kept, at) for at in starts]
        said = {name: np.stack([found[name].at(1.0)[:, 0] for found in by_start], 1) for name in by_start[0]}
        said |= self._as_it_is(reader, kept, starts)
        return self._numbers(kept, said, of, layer)

    def _as_it_is(
        self, reader: LanguageModel, kept: Kept, starts: Sequence[int]
    ) -> dict[str, Float[np.ndarray, "item layer outcome"]]:
        """Without an edit, and with the states of a half that really is of the third colour."""
        part = np.flatnonzero(kept.more.reported())
        like = reader.encode([prompt for i in part for prompt in kept.items[i].source])
        owners = [kept.items[i] for i in part for _ in kept.items[i].source]
        real = mean_states(reader, like, [list(item.places(e)) for item, e in zip(owners, like, strict=True)])
        own = np.stack([self._said(reader, kept, part, real[:, at], (at,)) for at in starts], 1)
        return {OWN: own, NOTHING: np.broadcast_to(self._said(reader, kept, part)[:, None], own.shape)}

    def _numbers(self, kept: Kept, said: Mapping[str, np.ndarray], of: np.ndarray, layer: int) -> Numbers:
        above = {name: values[:, [layer], 0] - said[RANDOM][:, [layer], 0] for name, values in said.items()}
        controls = {name: above[name] for name in (PRESENT, ANOTHER)}
        found: Numbers = {("recolour-above-random", ""): Scores(above[THIRD], controls, of=of, layers=[layer])}
        for name, values in said.items():
            more = (("condition", name),)
            found |= {("recolour", o, more): Scores(values[:, :, k], of=of) for k, o in enumerate(OUTCOMES)}
        items = kept.only(of).items
        found["task", ""] = task_rows(kept.series, items, said[NOTHING][:, 0, 1])
        taken = said[OWN][:, 1:-1, 0].max(1, initial=0)
        return found | {("task", OWN): task_rows(f"{kept.series}, {OWN}", items, taken)}
