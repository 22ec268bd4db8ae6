"""How far a chapter is: its kernel notes it in a file, and the command that runs it says it once a minute."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

FILE = "SEMHUB_PROGRESS"  # the environment variable with the file's path
EVERY = 60.0  # seconds between two lines
_known: dict[str, str | int] = {}
_written = [0.0]


def variables(place: Path) -> dict[str, str]:
    """Of a kernel: where it notes how far it is, and where it leaves what is gone with it, as offloaded weights are."""
    return {FILE: str(place / "progress.json"), "TMPDIR": str(place)}


def note(**what: str | int) -> None:
    """Note the step that is computed, or of how many prompts how many are read; seldom written, and only in a kernel
    that was told where."""
    _known.update(what)
    if (path := os.environ.get(FILE)) and ("step" in what or time.monotonic() - _written[0] > 1):
        from IPython import get_ipython

        _written[0], shell = time.monotonic(), get_ipython()
        with suppress(OSError):  # a full disk is told of by what cannot be lost
            Path(path).write_text(json.dumps(_known | {"cell": getattr(shell, "execution_count", 1)}), "utf-8")


@contextmanager
def told(title: str, notebook: Path, place: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, a line a minute: the chapter, its step, the prompts read of how many, and what time is left if all
    cells take as long."""
    ended, began, path = Event(), time.monotonic(), Path(variables(place)[FILE])
    cells = 1 + sum(cell["cell_type"] == "code" for cell in json.loads(notebook.read_text("utf-8"))["cells"])

    def tell() -> None:
        while not ended.wait(EVERY):
            with suppress(OSError, ValueError):  # not there yet, or about to be written
                say(line(title, cells, json.loads(path.read_text("utf-8")), time.monotonic() - began))

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def line(title: str, cells: int, known: dict, seconds: float) -> str:
    """What is said of a run that has taken so many seconds."""
    done, total = known.get("done", 0), known.get("total", 0)
    share = min(1.0, (known["cell"] - 1 + (done / total if total else 0)) / max(1, cells))
    left = f", about {seconds * (1 - share) / share / 60:.0f} min left" if share else ""
    read = f", {done:,} of {total:,} prompts" * bool(total)
    step = f", {known['step']}" if "step" in known else ""
    return f"  running  {title}{step}{read}: cell {known['cell']} of {cells}, {seconds / 60:.0f} min{left}"
