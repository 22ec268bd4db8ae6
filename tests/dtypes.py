"""Verdicts of chapter 3's similarity and lens in half precision against float32's, on models that people use: a line
per claim and dtype, and 1 at the end where they differ. Run it as `python tests/dtypes.py MODEL...`."""

import sys
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.words import Lens
from semhub_utils.loading import load_model
from semhub_utils.spokes import arithmetic
from semhub_utils.verdicts import judge

SUMS, HALF = 120, ("bfloat16", "float16")


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


def main(folders: list[str]) -> int:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
