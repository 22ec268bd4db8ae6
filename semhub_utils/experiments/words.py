"""Which word does a state hold? The lens on right words against wrong ones (Eq. 2), and the plane of their rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch.nn.functional import normalize

from semhub_utils.experiments.core import ByAnswer, Claim, Exchange, Experiment, Flip, Kept, Numbers, Result, run
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import TargetTable, target_table


@dataclass(frozen=True)
class Words:
    """Words of one token, which of them are an answer, and how often an item names each as wrong."""

    table: TargetTable
    own: Mapping[str, Bool[np.ndarray, "answer word"]]
    wrong: Mapping[str, Float[np.ndarray, "item word"]]


def words_of(model: LanguageModel, items: Sequence[LensItem], hub: str, own: str) -> Kept:
    """The items with a word of one token for `hub` and for `own`, and a wrong hub word; the others by reason."""
    every = dict.fromkeys(w for i in items for some in (*i.targets.values(), *i.wrong.values()) for w in some)
    table = target_table(model, every, items[0].prompt if items else "")
    if not table:
        return Kept([], {"no token of its own for any word": len(items)} if items else {})
    single, kept, dropped = table.single, [], Counter()
    for item in items:
        missing = next((name for name in (hub, own) if not single & {*item.targets[name]}), None)
        if {*item.targets[hub]} & {*item.targets[own]}:
            dropped[f"{hub} and {own} are the same word"] += 1
        elif missing:
            dropped[f"no single token of its own for the {missing}"] += 1
        elif not ({*item.wrong.get(hub, ())} - {*item.targets[hub]}) & single:
            dropped[f"no wrong {hub} to compare with"] += 1
        else:
            kept.append(item)
    answers = {name: list(dict.fromkeys(item.targets[name] for item in kept)) for name in (hub, own)}
    target = {name: np.array([some.index(i.targets[name]) for i in kept], int) for name, some in answers.items()}

    def count(rows: Sequence[Sequence[str]]) -> Float[np.ndarray, "row word"]:
        counts = [[row.count(w) if w in single else 0 for w in table.words] for row in rows]
        return np.array(counts, float).reshape(len(rows), len(table.words))

    wrong = {name: count([item.wrong[name] for item in kept]) for name in (kept[0].wrong if kept else ())}
    return Kept(kept, dict(dropped), target, Words(table, {name: count(a) > 0 for name, a in answers.items()}, wrong))


@dataclass(frozen=True)
class Lens(Experiment):
    """Does the lens (Eq. 2) read the hub's word (`targets[hub]`) at middle layers, and the own token (`targets[own]`)
    at the end?

    `lens-meaning`: log P(right hub word) minus the mean over the wrong hub words of its class, against targets shuffled
    among items of a group; each word is right for some items and wrong for others, so frequency is matched by design.
    `lens-lead`: log P(right hub word) minus the larger of log P(own token) and that mean, so that a model that favours
    hub words whatever they mean cannot win; against flipped signs too, as the right answers may be likelier words than
    most of their class. `lens-end`: log P(own token) minus log P(right hub word) at the last layer. Of several right
    words the likeliest counts. Curves: probabilities (of the wrong words the mean), how often a word, in any of its
    forms, comes first, the entropy, and in the raw reading by how much likelier the normed one has it (`lens-gap`).
    """

    hub: str
    own: str

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim("lens-meaning", self.hub),
            Claim("lens-end", self.own, (Flip("moves_with"),), last=True, embedded=False),
            Claim("lens-lead", self.hub, (Exchange(), Flip("moves_with"))),
        )

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        return words_of(model, items, self.hub, self.own)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        words, hidden = kept.more, hidden_states(reader, prompts).hidden
        table, own, wrong = words.table, words.own, words.wrong
        seen = lens(reader, hidden, targets=table.ids, top_k=1, entropy=True, reading=reading)
        logprob = word_logprobs(seen.logprob, table.groups).double().numpy()  # [item, layer, word]
        best = {name: _best(logprob, of) for name, of in own.items()}  # [item, layer, answer]
        right = {name: np.take_along_axis(of, kept.target[name][:, None, None], 2) for name, of in best.items()}
        above = best[self.hub] - self._others(logprob, kept)
        found: Numbers = {
            ("lens-meaning", self.hub): above,
            ("lens-end", self.own): best[self.own] - right[self.hub],
            ("lens-lead", self.hub): np.minimum(above, best[self.hub] - right[self.own]),
            ("lens-entropy", ""): seen.entropy.double().numpy(),
        }
        # what comes first; a token that begins none of the words is the last column
        first = table.word_of_token(reader.vocab_size)[seen.top_ids[..., 0].numpy()]
        for name, of in best.items():
            found["lens-probability", name] = np.exp(of)
            found["lens-first", name] = _padded(own[name])[:, first].transpose(1, 2, 0)
        with np.errstate(invalid="ignore"):  # an item may have no wrong word of one token
            shares = {name: of / of.sum(1, keepdims=True) for name, of in wrong.items()}
        for name, share in shares.items():
            found["lens-probability", f"wrong {name}"] = np.einsum("ilw,iw->il", np.exp(logprob), share)
        found["lens-first", f"wrong {self.hub}"] = np.take_along_axis(_padded(shares[self.hub]), first, 1)
        if reading == "raw":
            normed = word_logprobs(lens(reader, hidden, targets=table.ids).logprob, table.groups).double().numpy()
            found |= {("lens-gap", name): np.exp(_best(normed, of)) - np.exp(best[name]) for name, of in own.items()}
        return found

    def _others(self, logprob: Float[np.ndarray, "item layer word"], kept: Kept) -> ByAnswer:
        """The mean over the hub words of an item's class but the answer's own, whichever answer it is given; a wrong
        word counts as often as it is named."""
        answers = kept.more.own[self.hub]
        right = answers[kept.target[self.hub]]  # [item, word]
        of_class = np.where(right, 1.0, kept.more.wrong[self.hub])
        other = 1.0 - answers.T  # [word, answer]
        return (logprob * of_class[:, None]) @ other / (of_class @ other)[:, None]


def _best(logprob: Float[np.ndarray, "item layer word"], answers: Bool[np.ndarray, "answer word"]) -> ByAnswer:
    """The likeliest of each answer's words."""
    return np.stack([logprob[:, :, of].max(2) for of in answers], axis=2)


def _padded(counts: np.ndarray) -> Float[np.ndarray, "row column"]:
    return np.pad(counts.astype(float), ((0, 0), (0, 1)))


def by_part(
    lens: Lens, model: LanguageModel, items: Sequence[LensItem], *, series: str, seed: int = 0, **options: Any
) -> Result:
    """`run` for each part of speech alone, claims `<claim>/<series>, <part>`; the table adds the column `part`."""
    tables, claims = [pd.DataFrame({"experiment": [], "part": []})], []
    for part in dict.fromkeys(item.group.partition(",")[0] for item in items):
        chosen = [item for item in items if item.group.partition(",")[0] == part]
        options |= {"series": f"{series}, {part}", "columns": {"part": part}, "seed": seed}
        table, found = run(lens, model, chosen, **options)
        tables.append(table)
        claims += found
    return pd.concat(tables, ignore_index=True), claims


@dataclass(frozen=True)
class Trajectory(Experiment):
    """Where do states pass in the plane that tells the unembedding rows of the hub's and the own words apart?

    rows: the words of one token, by series. The plane is the first two principal components of their rows. Rows and
    states are scaled to length 1 first: states are many times longer than rows, and would lie far from all words. Claim
    `trajectory`: how much nearer a state is to the row of its own hub word than to the mean of the other hub words, in
    that plane, against targets shuffled among items of a group. Random weights have a plane of their own rows. Tables:
    `trajectory-path` (x, y per item and layer), `trajectory-word` (x, y per word). Fewer than three rows span no plane.
    """

    rows: Mapping[str, tuple[str, ...]]
    hub: str
    own: str

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (Claim("trajectory", self.hub, embedded=False),)

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        words = [word for some in self.rows.values() for word in some]
        table = target_table(model, words, items[0].prompt if items else "")
        token = {form.word: form.ids[0] for form in table.forms if form.single}
        hubs = [word for word in self.rows[self.hub] if word in token]
        plane = len(token) > 2 and len(hubs) > 1
        kept = [i for i in items if plane and {i.targets[self.hub][0], i.targets[self.own][0]} <= {*token}]
        target = {self.hub: np.array([hubs.index(i.targets[self.hub][0]) for i in kept], int)}
        lost = {"no single token of its own for a word": len(items) - len(kept)}
        return Kept(kept, lost, target, (token, hubs, items))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        token, hubs, items = kept.more
        rows = normalize(reader.unembedding.detach()[list(token.values())].float().cpu(), dim=-1)
        centre = rows.mean(0)
        axes = torch.linalg.svd(rows - centre, full_matrices=False)[2][:2]
        hidden = hidden_states(reader, [item.prompt for item in items]).hidden  # those left out are drawn, too
        flat = reader.normalise(hidden.flatten(0, 1).to(reader.device), norm=reading == "normed")
        flat = normalize(flat.detach().float().cpu(), dim=-1)
        words, paths = (rows - centre) @ axes.T, ((flat - centre) @ axes.T).unflatten(0, hidden.shape[:2])
        place = {word: k for k, word in enumerate(token)}
        own = {id(item) for item in kept.items}
        distance = torch.cdist(paths[[id(item) in own for item in items]], words[[place[w] for w in hubs]])
        distance = distance.double().numpy()
        nearer = (distance.sum(-1, keepdims=True) - distance) / (len(hubs) - 1) - distance
        return {
            ("trajectory", self.hub): nearer,
            ("trajectory-path", ""): self._paths(reader, items, paths.tolist(), reading),
            ("trajectory-word", ""): self._words(words.tolist(), token),
        }

    def _paths(self, reader: LanguageModel, items: Sequence[LensItem], paths: list, reading: str) -> pd.DataFrame:
        steps = [(item, layer, *at) for item, path in zip(items, paths, strict=True) for layer, at in enumerate(path)]
        return pd.DataFrame(
            {"experiment": "trajectory-path", "series": item.id, "reading": reading, "layer": layer}
            | {"depth": reader.depth(layer), "x": x, "y": y}
            | {"word": item.targets[self.hub][0], "token": item.targets[self.own][0]}
            for item, layer, x, y in steps
        )

    def _words(self, words: list, token: Mapping[str, int]) -> pd.DataFrame:
        kinds = {word: name for name, some in self.rows.items() for word in some}
        return pd.DataFrame(
            {"experiment": "trajectory-word", "series": kinds[word], "word": word, "x": x, "y": y}
            for word, (x, y) in zip(token, words, strict=True)
        )
