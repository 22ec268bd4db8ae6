"""What takes environments of its own, and the time to make them: `make weekly`, once a week in the hosted workflow."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Environment:
    """A virtual environment, and commands run in it, with nothing of this checkout on their path."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"

    def install(self, *what: str) -> None:
        status, said = self.run("pip", "install", "-q", *what, cwd=self.bin)
        assert status == 0, said

    def start(self, *command: str, cwd: Path, **more: str) -> subprocess.Popen:
        clean = {name: of for name, of in os.environ.items() if name != "PYTHONPATH"}
        clean |= {"PATH": f"{self.bin}{os.pathsep}{clean['PATH']}", "OMP_NUM_THREADS": "1", **more}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=cwd, env=clean, start_new_session=True, **pipes)

    def run(self, *command: str, cwd: Path, **more: str) -> tuple[int, str]:
        """Exit status, and what was said."""
        process = self.start(*command, cwd=cwd, **more)
        said, _ = process.communicate(timeout=1200)
        return process.returncode, said


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Makes an environment of these packages."""

    def make(*packages: str) -> Environment:
        made = Environment(tmp_path_factory.mktemp("environment"))
        for some in packages:
            made.install(*some.split())
        return made

    return make
