"""Where do states pass, on their way, in the plane of the words they may become?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import random_pairings
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
) -> Result:
    """Where do states pass in the plane that tells the unembedding rows of `rows[hub]` and `rows[own]` apart?

    The plane is the first two principal components of those rows. Claim `trajectory/<series>`: how much nearer a state
    is to the row of its own hub word than to the mean of the other hub words, in that plane, against targets shuffled
    among items. Table: `trajectory` (x, y per item and layer), `trajectory-word` (x, y per word).
    """
    table = target_table(model, [word for words in rows.values() for word in words], items[0].prompt)
    place = {word: k for k, word in enumerate(table.words)}
    first_forms = table.ids[[group[0] for group in table.groups]]
    unembedding = model.unembedding.detach()[first_forms.to(model.unembedding.device)].float().cpu()
    centre = unembedding.mean(0)
    _, _, axes = torch.linalg.svd(unembedding - centre, full_matrices=False)
    words = (unembedding - centre) @ axes[:2].T
    kept = [item for item in items if item.targets[hub][0] in place and item.targets[own][0] in place]
    if not kept:
        raise SemhubError(
            f"None of {len(items)} items of {series} has its words among those of the plane; other words would do."
        )
    hidden = hidden_states(model, [item.prompt for item in kept]).hidden
    flat = model.normalise(hidden.flatten(0, 1).to(model.device), norm=reading == "normed").detach().float().cpu()
    paths = ((flat - centre) @ axes[:2].T).unflatten(0, hidden.shape[:2])
    hub_words = [word for word in rows[hub] if word in place]
    distance = torch.cdist(paths, words[[place[w] for w in hub_words]]).double().numpy()
    nearer = (distance.sum(-1, keepdims=True) - distance) / max(len(hub_words) - 1, 1) - distance
    target = np.array([hub_words.index(item.targets[hub][0]) for item in kept])
    clusters, index = [item.cluster for item in kept], np.arange(len(kept))
    groups, anchors = [item.group for item in kept], [item.moves_with for item in kept]
    pairings = random_pairings(len(kept), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
    null = np.stack([nearer[index[p >= 0], :, target[p[p >= 0]]].mean(0) for p in pairings if (p >= 0).any()])
    claim = evidence(
        f"trajectory/{series}",
        nearer[index, :, target],
        null,
        layers=range(model.n_layers + 1),
        n_layers=model.n_layers,
        experiment="trajectory",
        series=series,
        reading=reading,
        clusters=clusters,
        dropped={"word without a token of its own": len(items) - len(kept)},
        seed=seed,
    )
    points = [
        {
            "experiment": "trajectory-path",
            "series": item.id,
            "reading": reading,
            "layer": at,
            "depth": model.depth(at),
            "x": x,
            "y": y,
            "word": item.targets[hub][0],
            "token": item.targets[own][0],
        }
        for item, path in zip(kept, paths.tolist(), strict=True)
        for at, (x, y) in enumerate(path)
    ]
    kinds = {word: name for name, some in rows.items() for word in some}
    points += [
        {"experiment": "trajectory-word", "series": kinds[word], "word": word, "x": x, "y": y}
        for word, (x, y) in zip(table.words, words.tolist(), strict=True)
    ]
    return pd.concat([tidy([claim]), pd.DataFrame(points)], ignore_index=True), [claim]
