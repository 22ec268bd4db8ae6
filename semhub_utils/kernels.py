"""Execute notebooks in kernels that are surely of this interpreter and surely gone afterwards."""

import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill import execute_notebook
from traitlets.config import Config

from .zoo import atomically


class Kernels:
    """The kernels of one run: of this very interpreter, with `environment`, all of them ended by `kill`."""

    def __init__(self, environment: dict[str, str]):
        self._managers: list[AsyncKernelManager] = []
        self._closed = threading.Event()
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = KernelSpec(
            argv=[*command, "--HistoryManager.enabled=False"],
            display_name="semhub",
            language="python",
            env=environment,
        )
        kernels = self

        class Manager(AsyncKernelManager):
            # Not a kernel that happens to be installed under this name, perhaps of another environment.
            kernel_spec = spec

            async def start_kernel(self, **options: Any) -> None:
                kernels._managers.append(self)
                await super().start_kernel(**options)
                if kernels._closed.is_set():
                    kernels._end(self)

        self.manager_class = Manager

    @staticmethod
    def _end(manager: Any) -> None:
        pid = getattr(manager.provisioner, "pid", None)
        with suppress(ProcessLookupError, PermissionError):
            if pid and manager.provisioner.process:
                os.killpg(pid, signal.SIGKILL) if hasattr(os, "killpg") else manager.provisioner.process.kill()

    def kill(self) -> None:
        """End every kernel, with its children, and every one that is still to start."""
        self._closed.set()
        for manager in list(self._managers):
            self._end(manager)

    def execute(self, source: Path, output: Path, parameters: dict[str, Any], bar: dict[str, Any]) -> None:
        """Execute a notebook into `output`, a progress bar over its cells being told `bar` (keywords of tqdm).

        Raises PapermillExecutionError for an exception in a cell, DeadKernelError and others for the kernel's own.
        """
        transport = "tcp" if sys.platform == "win32" else "ipc"
        with tempfile.TemporaryDirectory(prefix="semhub-") as sockets:
            config = Config({"Manager": {"transport": transport, "connection_file": f"{sockets}/kernel.json"}})
            notebook = execute_notebook(
                source,
                output,
                parameters,
                kernel_name="python3",
                language="python",
                progress_bar=bar,
                kernel_manager_class=self.manager_class,
                config=config,
                start_timeout=180,
            )
        for cell in notebook.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
        for key in ("input_path", "output_path"):  # the reader's machine is nobody's business
            notebook.metadata.get("papermill", {}).pop(key, None)
        atomically(output, lambda partial: partial.write_text(nbformat.writes(notebook), encoding="utf-8"))
