"""Claims and tables of this working tree against those of an earlier commit, both made on this machine.

    python tests/golden.py                       every chapter, on the models named below
    python tests/golden.py languages layers      these alone
    python tests/golden.py --against COMMIT --jobs 2 --out DIR

The commit is checked out as a worktree below DIR and run once; its results stay there. Claims are compared number by
number. A row of a table is found again by the text in its columns, wherever it is filed now; its numbers may be off by
ROUNDING, p by P_STEP, and no verdict may differ. Ends with 1 where something does.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "86aa292"
MODELS = Path(tempfile.gettempdir()) / "semhub-golden"
ROUNDING, P_STEP = 1e-5, 0.002  # what another batch or order of a sum may change; anything else agrees to 1e-9
TEXT = ("hypothesis", "instruments", "arithmetic", "fooled", "raising", "languages", "layers", "steering", "code",
        "semantics")  # fmt: skip
RUNS = {
    "organism:hub": TEXT,
    "organism:islands": TEXT,
    "organism:hub-sees": ("vision",),
    "organism:hub-hears": ("audio",),
    "gpt2": ("arithmetic", "languages"),
}
SHOWN = 15
NUMBERS = ("value", "low", "high", "null_high", "p", "n", "dropped")
TOLD_APART = ("experiment", "series", "reading", "layer", "control")


def tiny_gpt2(folder: Path) -> Path:
    """A GPT-2 of random weights behind the tokenizer of the shipped models."""
    if not (folder / "model.safetensors").exists():
        import torch
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / "semhub_utils/organism/weights/hub")
        torch.manual_seed(0)
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
        config = transformers.GPT2Config(vocab_size=len(tokenizer), **sizes)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def make(tree: Path, out: Path, chapters: set[str], jobs: int) -> list[str]:
    """Run the chapters of a tree, what is finished there not again; and those that failed, whose older results, if
    there are any, say nothing."""
    paths = os.pathsep.join(filter(None, (str(tree), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    failed = []

    def run(model: str, chapter: str) -> None:
        model = str(tiny_gpt2(MODELS / "gpt2")) if model == "gpt2" else model
        command = [sys.executable, "-m", "semhub_utils.cli", "run", chapter, "--model", model, "--out", str(out)]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True)
        if done.returncode:
            failed.append(f"{chapter} on {model}")
            print(f"{failed[-1]} failed: {done.stderr.decode()[-3000:]}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        for model, some in RUNS.items():
            for chapter in some:
                if chapter in chapters:
                    pool.submit(run, model, chapter)
    return failed


def claims_of(folder: Path) -> dict[str, dict]:
    """The claims below a model's results, by id."""
    found = {}
    for path in sorted(folder.glob("*.claims.json")):
        found |= {claim["id"]: claim for claim in json.loads(path.read_text("utf-8"))["claims"]}
    return found


def differences(old, new, at: str = "") -> list[str]:
    """Where two claims differ: every number, word and key of the old one is looked for in the new one."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{at}/{key} is gone" for key in old if key not in new and old[key] not in ("", None, {}, 0)]
        return gone + [line for key in old if key in new for line in differences(old[key], new[key], f"{at}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for k, pair in enumerate(zip(old, new, strict=True)) for line in differences(*pair, f"{at}[{k}]")]
    if isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool):
        bound = P_STEP if "/p" in at else ROUNDING
        return [] if math.isclose(old, new, rel_tol=bound, abs_tol=bound) else [f"{at}: {old!r} is now {new!r}"]
    if at.endswith(("/reason", "/claim")):  # their numbers are compared where they stand
        return []
    return [] if old == new else [f"{at}: {old!r} is now {new!r}"]


def rows_of(folder: Path, chapters: set[str] | None = None) -> dict[tuple, list[tuple]]:
    """The rows with a value of all tables below a model's results (or those of some chapters, where each has a file of
    its own), by what tells them apart: experiment, series, reading, layer and control; and of each its numbers."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.parquet")):
        if path.parent.name.endswith(".parts") or chapters is not None and path.stem not in chapters:
            continue
        table = pd.read_parquet(path)
        table = table[table["value"].notna()]
        keys = [table[name] if name in table else pd.Series("", table.index) for name in TOLD_APART]
        keys = pd.concat(keys, axis=1, keys=TOLD_APART).astype(object).fillna("").astype(str)
        numbers = table.reindex(columns=list(NUMBERS)).astype(float).to_numpy()
        for key, row in zip(keys.itertuples(index=False, name=None), numbers, strict=True):
            found[key].append(tuple(row))
    return found


def untold(folder: Path) -> list[str]:
    """Tables below a model's results with rows that the columns of `results.KEY` do not tell apart."""
    from semhub_utils.results import KEY

    lines = []
    for path in sorted(path for path in folder.glob("*/*.parquet") if path.parent.suffix != ".parts"):
        table = pd.read_parquet(path)
        if same := int(table.duplicated([name for name in KEY if name in table], keep=False).sum()):
            lines.append(f"{path.parent.name} of {path.stem}: no column tells {same} of {len(table)} rows apart")
    return lines


def table_differences(old: dict[tuple, list[tuple]], new: dict[tuple, list[tuple]]) -> list[str]:
    """Rows of the old tables that the new ones have not. Rows that no column above tells apart are taken in order of
    their numbers."""
    lines, bounds = [], np.array([P_STEP if name == "p" else ROUNDING for name in NUMBERS])
    for key, rows in old.items():
        left = np.array(new.get(key, []), float).reshape(-1, len(NUMBERS))
        for row in np.array(rows, float):
            near = np.abs(left - row) <= bounds + bounds * np.abs(row)
            same = (near | (np.isnan(left) & np.isnan(row)) | (np.isnan(row))).all(1)
            if same.any():
                left = np.delete(left, same.argmax(), 0)
            else:
                closest = left[np.nanargmin(np.nansum(np.abs(left - row), 1))].tolist() if len(left) else "nothing"
                lines.append(f"{' | '.join(key)}: {row.tolist()} is now {closest}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="chapters to compare (default all)")
    parser.add_argument("--against", default=COMMIT, metavar="COMMIT")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="chapters side by side (default 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "golden", metavar="DIR")
    parser.add_argument("--model", action="append", metavar="MODEL", help="only these models")
    parser.add_argument("--base-only", action="store_true", help="make the old ones and stop")
    options = parser.parse_args()
    out = options.out.resolve()
    chapters = set(options.chapters) or {chapter for some in RUNS.values() for chapter in some}
    for model in [*RUNS] if options.model else ():
        if model not in options.model:
            del RUNS[model]
    tree = out / "tree" / options.against
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), options.against], cwd=ROOT, check=True)
    make(tree, out / "old" / options.against, chapters, options.jobs)
    if options.base_only:
        return 0
    here = out / f"new-{ROOT.name}"
    failed = make(ROOT, here, chapters, options.jobs)
    worst = len(failed)
    for folder in sorted((out / "old" / options.against / "results").iterdir()):
        wanted = {path.name.split(".")[0] for path in folder.glob("*.claims.json")} & chapters
        if not wanted or not any(
            re.fullmatch(model.replace(":", "-") + r"(-[0-9a-f]{6})?", folder.name) for model in RUNS
        ):
            continue
        old, new = ({k: v for k, v in claims_of(at).items() if k.split("/")[0] in wanted}
                    for at in (folder, here / "results" / folder.name))  # fmt: skip
        lines = [f"the claim {name} is gone" for name in old if name not in new]
        lines += [f"the claim {name} is new" for name in new if name not in old]
        lines += [f"{name}{line}" for name in old if name in new for line in differences(old[name], new[name])]
        rows = rows_of(folder, wanted)
        lines += table_differences(rows, rows_of(here / "results" / folder.name))
        lines += untold(here / "results" / folder.name)
        print(f"{folder.name}: {len(old)} claims, {sum(map(len, rows.values()))} rows, {len(lines)} differences")
        for line in lines[:SHOWN]:
            print("   ", line)
        if len(lines) > SHOWN:
            print("    ... and of", Counter(line.partition(" | ")[0] for line in lines[SHOWN:]))
        worst = max(worst, len(lines))
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
