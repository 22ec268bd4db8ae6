"""Puts the chapters into the package as it is built, so that `semhub run` needs no checkout."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class WithChapters(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # a checkout has them at hand
            return
        for path in (ROOT / "_toc.yml", *sorted((ROOT / "notebooks").glob("*.ipynb"))):
            target = Path(self.build_lib, "semhub_utils", "chapters", path.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(path, target)


setup(cmdclass={"build_py": WithChapters})
