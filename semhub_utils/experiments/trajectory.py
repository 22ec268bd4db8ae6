"""Where do states pass, on their way, in the plane of the words they may become?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table


def trajectory_experiment(
    model: LanguageModel,
    items: Sequence[LensItem],
    rows: dict[str, tuple[str, ...]],
    *,
    hub: str,
    own: str,
    series: str,
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """Where do states pass in the plane that tells the unembedding rows of `rows[hub]` and `rows[own]` apart?

    The plane is the first two principal components of those rows (of words of one token). Rows and states are scaled
    to length 1 first: states are many times longer than rows, and would lie far from all words. Claim
    `trajectory/<series>`: how much nearer a state is to the row of its own hub word than to the mean of the other hub
    words, in that plane, against targets shuffled among items of a group. Control: random weights, in the plane of
    their own rows. Table: `trajectory-path` (x, y per item and layer), `trajectory-word` (x, y per word). Fewer than
    three rows span no plane: the claim cannot be tested then.
    """
    table = target_table(model, [word for words in rows.values() for word in words], items[0].prompt)
    forms = [form for form in table.forms if form.single]
    place = {form.word: k for k, form in enumerate(forms)}
    first_forms = torch.tensor([form.ids[0] for form in forms], dtype=torch.long)
    hub_words = [word for word in rows[hub] if word in place]

    def project(reader: LanguageModel) -> tuple[Float[Tensor, "word 2"], Float[Tensor, "item layer 2"]]:
        """The words' rows and the items' states in the plane of the rows."""
        unembedding = reader.unembedding.detach()
        rows = normalize(unembedding[first_forms.to(unembedding.device)].float().cpu(), dim=-1)
        centre, axes = torch.zeros(rows.shape[1]), torch.full((2, rows.shape[1]), torch.nan)
        if len(forms) > 2:
            centre = rows.mean(0)
            axes = torch.linalg.svd(rows - centre, full_matrices=False)[2][:2]
        hidden = hidden_states(reader, [item.prompt for item in items]).hidden
        flat = reader.normalise(hidden.flatten(0, 1).to(reader.device), norm=reading == "normed")
        flat = normalize(flat.detach().float().cpu(), dim=-1)
        return (rows - centre) @ axes.T, ((flat - centre) @ axes.T).unflatten(0, hidden.shape[:2])

    def nearer(words: Float[Tensor, "word 2"], paths: Float[Tensor, "item layer 2"]) -> np.ndarray:
        """How much nearer to each hub word than to the mean of the others [item, layer, word], of the items kept."""
        distance = torch.cdist(paths[seen], words[[place[w] for w in hub_words]]).double().numpy()
        return (distance.sum(-1, keepdims=True) - distance) / (len(hub_words) - 1) - distance

    words, paths = project(model)
    plane = len(forms) > 2 and len(hub_words) > 1
    seen = [k for k, i in enumerate(items) if plane and i.targets[hub][0] in place and i.targets[own][0] in place]
    kept, controls = [items[k] for k in seen], {}
    scores, null = np.empty((2, 0, model.n_layers + 1))
    if kept:
        every = nearer(words, paths)
        target, index = np.array([hub_words.index(item.targets[hub][0]) for item in kept]), np.arange(len(kept))
        scores = every[index, :, target]
        groups, anchors = [item.group for item in kept], [item.moves_with for item in kept]
        pairings = random_pairings(len(kept), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
        null = np.stack([every[index[p >= 0], :, target[p[p >= 0]]].mean(0) for p in pairings if (p >= 0).any()])
    clusters = [item.cluster for item in kept]
    if kept and random_weights:
        controls["random weights"] = nearer(*project(randomised(model, seed)))[index, :, target]
    claim = evidence(
        f"trajectory/{series}", scores, null, least_p=least_permutation_p(groups, anchors) if kept else 0.0,
        layers=range(model.n_layers + 1), n_layers=model.n_layers, experiment="trajectory", series=series,
        reading=reading, clusters=clusters, controls=controls, seed=seed,
        dropped={"no single token of its own for a word": len(items) - len(kept)},
    )  # fmt: skip
    points = [
        {"experiment": "trajectory-path", "series": item.id, "reading": reading, "layer": at, "depth": model.depth(at),
         "x": x, "y": y, "word": item.targets[hub][0], "token": item.targets[own][0]}
        for item, path in zip(items, paths.tolist(), strict=True)
        for at, (x, y) in enumerate(path)
    ]  # fmt: skip
    kinds = {word: name for name, some in rows.items() for word in some}
    points += [
        {"experiment": "trajectory-word", "series": kinds[word], "word": word, "x": x, "y": y}
        for word, (x, y) in zip(place, words.tolist(), strict=True)
    ]
    return pd.concat([tidy([claim]), pd.DataFrame(points)], ignore_index=True), [claim]
