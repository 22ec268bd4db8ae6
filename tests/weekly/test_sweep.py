"""The Snakefile on two of the book's own models and two chapters: killed, taken up, and laid out for a cluster."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS, CHAPTERS = ["organism:hub", "organism:islands"], ["arithmetic", "instruments"]
CONFIG = {"models": MODELS, "chapters": CHAPTERS, "set": {"n_items": 40}}
COMMAND = ["snakemake", "-s", str(ROOT / "book" / "sweep" / "Snakefile")]
GIVEN = ["--config", *(f"{name}={json.dumps(value)}" for name, value in CONFIG.items())]


@pytest.fixture(scope="module")
def snakemake(environment):
    """An environment of Snakemake's own, with this project's `semhub` on its path."""
    made = environment("snakemake>=9,<10 snakemake-executor-plugin-slurm>=2,<3")
    (made.bin / "semhub").symlink_to(Path(sys.executable).with_name("semhub"))
    return made


def names(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_a_killed_sweep_takes_up_where_it_stopped(snakemake, tmp_path):
    process = snakemake.start(*COMMAND, "--cores", "2", *GIVEN, cwd=tmp_path)
    while not names(tmp_path, "*.parquet"):  # some step is done, and no chapter need be
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    kept = {path: path.stat().st_mtime for path in tmp_path.rglob("*.parts/*.parquet")}
    assert kept
    assert snakemake.run(*COMMAND, "--unlock", *GIVEN, cwd=tmp_path)[0] == 0
    status, said = snakemake.run(*COMMAND, "--cores", "2", "--rerun-incomplete", *GIVEN, cwd=tmp_path)
    assert status == 0, said
    stamps = {f"runs/stamps/{m.replace(':', '-')}/{c}-seed-0.done" for m in MODELS for c in CHAPTERS}
    assert names(tmp_path, "*.done") == stamps
    claims = {f"runs/results/n_items-40/{m.replace(':', '-')}/{c}.claims.json" for m in MODELS for c in CHAPTERS}
    assert names(tmp_path, "*.claims.json") == claims, "jobs share one folder of results"
    assert all(path.stat().st_mtime == at for path, at in kept.items() if path.exists()), "no step was done twice"
    status, said = snakemake.run(*COMMAND, "--cores", "2", *GIVEN, cwd=tmp_path)
    assert status == 0 and "Nothing to be done" in said


def test_the_profile_of_a_cluster_is_one_that_snakemake_takes(snakemake, tmp_path):
    profile = ["--profile", str(ROOT / "book" / "sweep" / "slurm")]
    status, said = snakemake.run(*COMMAND, "-n", *profile, *GIVEN, "resources={}", cwd=tmp_path)
    assert status == 0 and "mem_mb=8000" in said and "slurm_partition=your-partition" in said, said
