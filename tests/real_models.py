"""Chapter 1's similarity on models that are too large to test every day: does "holds" stand exactly where plain
transformers, one prompt at a time and compared in float64, find the middle above the first layers and the last?

    python tests/real_models.py MODEL...            (PAIRS of each data type; minutes a model on two cores)
    python tests/real_models.py --dtypes MODEL...   (verdicts of chapter 3 in half precision against float32's)

Prints a line per data type, or per claim and dtype, and ends with 1 where they differ.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.words import Lens
from semhub_utils.loading import load_model
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.verdicts import ALPHA, HOLDS, judge

PAIRS, DRAWS = 150, 2000
SUMS, HALF = 120, ("bfloat16", "float16")


def states(folder: str, texts: list[str]) -> list[np.ndarray]:
    """[layer, hidden] of each text's last token, by itself."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    seen: list[np.ndarray] = []
    *_, last = (layers := model.get_decoder().layers)
    found, end = {}, []
    last.register_forward_hook(lambda _, __, out: end.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        for text in texts:
            if text not in found:
                out = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
                # the library's last entry has been through the final norm
                rows = [*out.hidden_states[: len(layers)], end.pop()]
                found[text] = torch.stack([row[0, -1] for row in rows]).double().numpy()
            seen.append(found[text])
    return seen


def nearest(a: np.ndarray, b: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Per pair [own, partner within the group] whether it is the nearest, both ways, above chance: by layer."""
    found = np.full((len(a), a.shape[1]), np.nan)
    for group in groups:
        for i in group if len(group) > 1 else ():
            for layer in range(a.shape[1]):
                hits = []
                for x, y in ((a, b), (b, a)):
                    one = x[i, layer] / np.linalg.norm(x[i, layer])
                    cosine = [one @ y[j, layer] / np.linalg.norm(y[j, layer]) for j in group]
                    best = [c >= max(cosine) - 1e-6 for c in cosine]
                    hits.append(best[group.index(i)] / sum(best))
                found[i, layer] = np.mean(hits) - 1 / len(group)
    return found


def passes(scores: np.ndarray, clusters: list[str], seed: int) -> tuple[bool, str]:
    """Whether the middle is above the first sixth and above the last layer, by a bootstrap over clusters."""
    n_layers, rng = scores.shape[1] - 1, np.random.default_rng(seed)
    depth = np.arange(n_layers + 1) / n_layers
    kept = np.isfinite(scores).all(1)
    middle = scores[:, (depth >= 1 / 3 - 1e-9) & (depth <= 2 / 3 + 1e-9)].mean(1)
    rows = defaultdict(list)
    for i in np.flatnonzero(kept):
        rows[clusters[i]].append(i)
    each, told = [*rows.values()], []
    for name, other in (("first", scores[:, depth <= 1 / 6 + 1e-9].mean(1)), ("last", scores[:, -1])):
        apart = middle - other
        sums, sizes = (np.array([f(apart[of]) for of in each]) for f in (np.sum, len))
        drawn = rng.integers(len(each), size=(DRAWS, len(each)))
        low = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), 0.025)
        told.append((name, apart[kept].mean(), low))
    return all(low > 0 for *_, low in told), ", ".join(f"above {n} {v:.3f} (from {low:.3f})" for n, v, low in told)


def verdicts(folder: str, dtype: str) -> dict[str, tuple[str, float]]:
    """By claim and reading of chapter 3's similarity and lens: the verdict, and the statistic."""
    model = load_model(folder, device="cpu", dtype=dtype)
    items = arithmetic.items(SUMS, seed=0, max_result=100)
    _, alike = run(Alike(), model, arithmetic.similarity_pairs(items), series="digits")
    _, lens = run(Lens("word", "digit"), model, arithmetic.lens_items(items), series="digits")
    found = {}
    for e in (*alike, *lens):
        of = dict(zip(e.layers, e.values, strict=True))
        found[f"{e.claim} {e.reading}"] = judge(e).words, float(np.mean([of[layer] for layer in e.window]))
    return found


def dtypes(folders: list[str]) -> int:
    """A row per claim: what is said in float32, and in half precision where it is something else."""
    wrong = 0
    for folder in folders:
        full = verdicts(folder, "float32")
        for dtype in HALF:
            try:
                half = verdicts(folder, dtype)
            except SemhubError as error:
                print(f"REFUSED | {Path(folder).name} {dtype} | {error}")
                continue
            for claim, (words, value) in full.items():
                other, number = half[claim]
                wrong += words != other
                mark, said = "DIFFER" if words != other else "same", f"{words} ({value:.4g}) | {other} ({number:.4g})"
                print(f"{mark} | {Path(folder).name} {dtype} | {claim} | {said}", flush=True)
    return min(wrong, 1)


def main(folders: list[str]) -> int:
    wrong = 0
    for folder in folders:
        model = load_model(folder, device="cpu")
        for name in facts.TYPES:
            pairs = facts.similarity_pairs(facts.prompts(name, PAIRS))
            _, [e, *_] = run(Alike(), model, pairs, series=name)
            verdict, groups = judge(e), defaultdict(list)
            for i, pair in enumerate(pairs):
                groups[pair.group].append(i)
            a, b = (np.stack(states(folder, side)) for side in ([p.a for p in pairs], [p.b for p in pairs]))
            scores = nearest(a, b, [*groups.values()])
            apart = np.abs(np.nanmean(scores, 0) - e.values).max()
            shaped, told = passes(scores, [pair.cluster for pair in pairs], 1)
            agree = (verdict.verdict == HOLDS) == shaped and apart < 0.01
            wrong += not agree
            p = {n: f"{c.p:.3g}" for n, c in e.contrasts.items() if c.p >= ALPHA}
            said = f"{verdict.words}: {verdict.reason}"
            print(f"{'same' if agree else 'DIFFER'} | {folder} {name} | {said} | oracle {told}; {apart:.1g} apart {p}")
    return min(wrong, 1)


if __name__ == "__main__":
    told = sys.argv[1:]
    sys.exit(dtypes(told[1:]) if told[:1] == ["--dtypes"] else main(told))
