"""The paper's intervention on pictures: a third colour written into one half of a picture of two colours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import evidence, sign_flip_null, split_items, tidy
from semhub_utils.experiments.common import asked, task_rows
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.experiments.patching import OWN, mean_states
from semhub_utils.inputs import Encoding
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_sign_flip_p
from semhub_utils.spokes.items import RecolourItem
from semhub_utils.steering import Edit, generate
from semhub_utils.tokens import word_forms

THIRD, RANDOM, PRESENT, ANOTHER = "third colour", "random direction", "present colour", "another colour"
NOTHING = "nothing"
OUTCOMES = ("intended", "unchanged", "other", "unparseable")
READINGS = {"corrected": "turn", "as released": "replace"}
"""Reading -> how the vector is put in the state's place: at the length of the state, or as long as it is."""
CHOOSING = 0.25  # share of the clusters on which the layer is chosen


def recolour_experiment(
    model: LanguageModel,
    items: Sequence[RecolourItem],
    *,
    series: str,
    reading: str = "corrected",
    max_new_tokens: int = 12,
    seed: int = 0,
) -> Result:
    """Does a picture of red and blue become one of green and blue when "green" minus "red" is put into the red half?

    As in the paper (its vision intervention): at the patches of one half, from layer l to the last, the hidden state is
    REPLACED by the difference of two rows of the unembedding, a third colour's minus the present one's; for every l.
    reading: "as released", the difference as it is, or "corrected", at the length of each state it replaces. In a model
    that reads every state behind a norm, both are the same: what is overwritten at all later layers is only ever read
    there. Answers are the model's own greedy generation, read for the colours they name: "intended" (the third and the
    untouched one), "unchanged", "unparseable" (not as many colours as were asked for; of a question for one, the first
    counts), "other". Of an item with several prompts all have to be so.

    Claim `recolour/<series>` ("/as released" behind it for that reading): the share of intended answers minus that
    under a random direction of the same length, one per item, at the layer that a quarter of the clusters chose (the
    lowest of the best; the embeddings and the last layer stand out of the choice), on the others; signs flipped per
    cluster. Controls, minus the same: the row of the present colour alone, which should change nothing, and a fourth
    colour minus the present one, under which the third should not be named.

    Table: `recolour` (share of each outcome as `series`, by layer and `condition`, with "nothing" for the run
    as it is), `recolour-choice` (the choosing items), and `task-<series>`, one row per item: whether it is answered
    rightly before. The condition "own type" is no control but what can be done at best: at layer l, the mean state of a
    real half of the third colour, from which the later layers follow. `task-<series>, own type`, one row per item:
    whether the answer is then the intended one at some inner layer, as in `patching.Patch`. Items whose colours have
    no token of their own, or whose half has no patch, are dropped and counted.
    Raises SemhubError on no item and an unknown reading.
    """
    if reading not in READINGS:
        raise SemhubError(f"There is no reading {reading!r}; one of {', '.join(READINGS)} would do.")
    items = [
        replace(i, **{name: tuple(asked(model, p) for p in getattr(i, name)) for name in ("prompts", "source")})
        for i in items
    ]
    rows, kept, dropped = _resolve(model, items)
    parts = split_items(kept, seed, clusters=[item.cluster for item in kept], share=CHOOSING)
    choosing, reported = parts
    given = {"clusters": [item.cluster for item in reported], "seed": seed}
    starts, encodings = range(model.n_layers + 1), {item.id: model.encode(item.prompts) for item in kept}

    def said(part: list[RecolourItem], condition: str) -> Float[np.ndarray, "item layer outcome"]:
        if not part:
            return np.empty((0, len(starts), len(OUTCOMES)))
        read = [encoding for item in part for encoding in encodings[item.id]]
        owner = [i for i, item in enumerate(part) for _ in item.prompts]
        positions = [list(part[i].places(e)) for i, e in zip(owner, read, strict=True)]
        if condition == NOTHING:
            edits = [None]
        elif condition == OWN:
            like = model.encode([prompt for item in part for prompt in item.source])
            there = [list(part[i].places(e)) for i, e in zip(owner, like, strict=True)]
            real = mean_states(model, like, there)
            edits = [Edit((at,), real[:, at], positions, mode="replace") for at in starts]
        else:
            vectors = _vectors(rows, part, condition, seed)[owner]
            edits = [Edit(tuple(starts[at:]), vectors, positions, mode=READINGS[reading]) for at in starts]
        tried = [_outcomes(model, part, read, edit, max_new_tokens) for edit in edits]
        return np.broadcast_to(np.stack(tried, 1), (len(part), len(starts), len(OUTCOMES)))

    choice = said(choosing, THIRD)[:, :, 0]
    best = choice.mean(0) if choosing else np.zeros(len(starts))
    layer = max(range(1, max(model.n_layers, 2)), key=lambda at: (best[at], -at))
    found = {name: said(reported, name) for name in (THIRD, OWN, RANDOM, PRESENT, ANOTHER, NOTHING)}
    above = {name: of[:, [layer], 0] - found[RANDOM][:, [layer], 0] for name, of in found.items()}
    claim = evidence(
        f"recolour/{series}" + ("" if reading == "corrected" else f"/{reading}"),
        above[THIRD],
        sign_flip_null(above[THIRD], draws=DRAWS, **given) if reported else above[THIRD],
        least_p=least_sign_flip_p(given["clusters"]),
        layers=[layer],
        n_layers=model.n_layers,
        experiment="recolour-above-random",
        series=series,
        reading=reading,
        controls={name: above[name] for name in (PRESENT, ANOTHER) if reported},
        dropped=dropped,
        outcome=True,
        unit="share of pictures",
        null_in_words="signs flipped by pair of colours",
        **given,
    )
    shown = {"experiment": "recolour", "reading": reading, "dropped": sum(dropped.values()), **given}
    tables = [
        curve(model, of[..., k], series=outcome, **shown).assign(condition=name)
        for name, of in found.items()
        for k, outcome in enumerate(OUTCOMES)
    ]
    few = {"clusters": [item.cluster for item in choosing], "seed": seed, "reading": reading, "series": series}
    tables.append(curve(model, choice, experiment="recolour-choice", **few))
    tables.append(task_rows(series, reported, found[NOTHING][:, 0, 1]))
    tables.append(task_rows(f"{series}, {OWN}", reported, found[OWN][:, 1:-1, 0].max(1, initial=0)))
    return pd.concat([tidy([claim]), *tables], ignore_index=True), [claim]


def _vectors(
    rows: Mapping[str, Tensor], items: Sequence[RecolourItem], condition: str, seed: int
) -> Float[Tensor, "item hidden"]:
    """What is put into the half of each item."""
    present = torch.stack([rows[item.present] for item in items])
    if condition == PRESENT:
        return present
    new = torch.stack([rows[item.another if condition == ANOTHER else item.third] for item in items]) - present
    if condition == RANDOM:
        direction = torch.randn(*new.shape, generator=torch.Generator().manual_seed(seed))
        return new.norm(dim=-1, keepdim=True) * normalize(direction, dim=-1)
    return new


def _outcomes(
    model: LanguageModel,
    items: Sequence[RecolourItem],
    prompts: Sequence[Encoding],
    edit: Edit | None,
    max_new_tokens: int,
) -> Float[np.ndarray, "item outcome"]:
    """1 for the outcome of each item, with the edit or as they are. prompts: those of the items, one after another."""
    texts = iter(generate(model, prompts, max_new_tokens=max_new_tokens, edit=edit))
    out = np.zeros((len(items), len(OUTCOMES)))
    for row, item in zip(out, items, strict=True):
        named = tuple(frozenset(item.named(next(texts)[0])[: 1 if len(b) == 1 else None]) for b in item.before)
        if any(len(some) != len(right) for some, right in zip(named, item.before, strict=True)):
            row[3] = 1
        else:
            row[{item.after: 0, item.before: 1}.get(named, 2)] = 1
    return out


def _resolve(
    model: LanguageModel, items: Sequence[RecolourItem]
) -> tuple[dict[str, Tensor], list[RecolourItem], dict[str, int]]:
    """The unembedding row of each colour (the mean over its single-token forms), the items that can be run, and why the
    others cannot."""
    if not items:
        raise SemhubError("No item was given to recolour; at least one picture of two halves would do.")
    colours = dict.fromkeys(c for item in items for c in (item.present, item.third, item.another))
    forms = word_forms(model, colours, items[0].prompts[0].text)
    found = {form.word: form.unembedding_row(model) for form in forms}
    rows = {colour: row for colour, row in found.items() if row is not None}
    kept, dropped = [], Counter()
    encodings = model.encode([item.prompts[0] for item in items])
    for item, encoding in zip(items, encodings, strict=True):
        if not {item.present, item.third, item.another} <= set(rows):
            dropped["a colour's word has no row of its own in the unembedding"] += 1
        elif not item.places(encoding):
            dropped["no patch of the model is known to lie there"] += 1
        else:
            kept.append(item)
    return rows, kept, dict(dropped)
