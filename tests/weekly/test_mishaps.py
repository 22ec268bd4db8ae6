"""What can happen to a run: it is killed, the disk is full, another one writes beside it. Nothing that was computed is
lost, and what comes out is the same."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
CHAPTER = ("run", "instruments", "--set", "n_items=12")


def started(out, *more, limit=None):
    """A command in a process group of its own; limit: bytes that a file may have."""

    def before():
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's jobs in the background are told to ignore it
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    given = [sys.executable, "-m", "semhub_utils.cli", *(more or CHAPTER), "--out", str(out)]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        given, cwd=ROOT, env=variables, preexec_fn=before, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process):
    out, err = process.communicate(timeout=900)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def descendants(pid):
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [below for child in map(int, children) for below in (child, *descendants(child))]


def alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.is_file() and "State:\tZ" not in status.read_text()


JUDGED = ["id", "verdict", "n", "n_units", "dropped", "statistic", "low", "high"]


def tables(out):
    """All tables and claims of a run, without what tells when and how fast."""
    found = {str(path.relative_to(out)): pd.read_parquet(path) for path in sorted(out.rglob("instruments.parquet"))}
    for path in out.rglob("*.claims.json"):
        claims = pd.DataFrame(json.loads(path.read_text())["claims"])[JUDGED]
        found[str(path.relative_to(out))] = claims.astype({"dropped": str, "statistic": float})
    return found


def assert_equal(one, other):
    """To rounding: a step that is taken up reads in other batches what a step before it had read and kept."""
    assert one.keys() == other.keys() and one
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert finished(started(out))[0] == 0
    return tables(out), time.monotonic() - began


def steps(out):
    """The files of the steps that are done, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.parts/*.parquet")}


def test_killed_twenty_times_and_resumed_it_comes_to_the_same(undisturbed, tmp_path):
    """Killed at any moment of a run; one that came to its end before is compared, and begun anew."""
    expected, seconds = undisturbed
    rng, kills, ended, kept = random.Random(0), 0, 0, {}
    while kills < KILLS and ended < KILLS:
        process, began = started(tmp_path), time.monotonic()
        try:
            process.communicate(timeout=rng.uniform(0.05, 1) * seconds)
        except subprocess.TimeoutExpired:
            for pid in (process.pid, *descendants(process.pid)):  # kernels lead groups of their own
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert kept.items() <= steps(tmp_path).items(), "a step that was done is lost, or was done again"
            kept = steps(tmp_path)
        else:
            assert process.returncode == 0
            assert_equal(tables(tmp_path), expected)
            shutil.rmtree(tmp_path)
            seconds = min(seconds, time.monotonic() - began)  # the machine may have less to do than it had
            ended, kept = ended + 1, {}
    code, _, err = finished(started(tmp_path))
    assert code == 0, err
    assert_equal(tables(tmp_path), expected)
    assert kills == KILLS


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_a_run_needs_nobody_who_listens(tmp_path, closed):
    given = f"{sys.executable} -m semhub_utils.cli {' '.join(CHAPTER)} --out {tmp_path} {closed}"
    assert subprocess.run(["sh", "-c", given], cwd=ROOT, timeout=900).returncode == 0 and tables(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_it_says_so_and_leaves_no_kernel(undisturbed, tmp_path, signum):
    process = started(tmp_path)
    until = time.monotonic() + 900
    while not (kept := steps(tmp_path)) and time.monotonic() < until:  # it is within the chapter
        time.sleep(0.02)
    below = descendants(process.pid)  # kernels lead groups of their own
    process.send_signal(signum)
    code, _, err = finished(process)
    assert code == 130 and "what was done is kept" in err
    until = time.monotonic() + 300  # the process that kernels are copied from sees that it is alone, and ends
    while (left := [pid for pid in below if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.2)
    assert below and not left
    assert finished(started(tmp_path))[0] == 0
    assert_equal(tables(tmp_path), undisturbed[0])
    assert kept and kept.items() <= steps(tmp_path).items()


@pytest.mark.parametrize("limit", [1, 2000, 30_000])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(undisturbed, tmp_path, limit):
    code, _, err = finished(started(tmp_path, limit=limit))
    assert code in (1, 2)
    said = [line for line in err.splitlines() if "File too large" in line or "cannot be written" in line]
    assert said, err
    assert finished(started(tmp_path))[0] == 0
    assert_equal(tables(tmp_path), undisturbed[0])
    assert not [path for path in tmp_path.rglob(".*") if path.stat().st_size == limit]


def test_two_at_once_in_one_folder_come_to_the_same(undisturbed, tmp_path):
    both = [started(tmp_path) for _ in range(2)]
    for process in both:
        code, _, err = finished(process)
        assert code == 0, err
    assert_equal(tables(tmp_path), undisturbed[0])
