"""Where real data lies when it is beside the project; tests that need it are skipped where it is not."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """The folder to give as `data_dir` for a test on the set `name`; skips the test where the set is not there."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not in {DATA.parent.name}/{DATA.name} beside the project")
    return DATA
