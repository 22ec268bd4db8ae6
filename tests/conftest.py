"""Shapes and types of the package are checked in every test; models and tokenizers are made once per session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests ask the network for nothing
os.environ.setdefault("OMP_NUM_THREADS", "1")

from functools import cache  # noqa: E402
from importlib import import_module  # noqa: E402

import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

LIBRARIES = ("altair", "beartype", "nbformat", "pandas", "papermill", "pyarrow.parquet", "transformers")
LIBRARIES += ("transformers.models.auto", "transformers.models.auto.processing_auto")
LONGEST = "chapters fooled sentiment semantics vision layers audio code languages raising swaps".split()


def pytest_collectstart(collector):
    """Libraries come before the package, as what one of its modules is first to load under the hook is compiled anew;
    and only where tests are collected, which the process that hands them out does not."""
    if isinstance(collector, pytest.Session):
        for library in LIBRARIES:
            import_module(library)
        install_import_hook("semhub_utils", "beartype.beartype")
        import_module("torch").set_num_threads(1)
        import_module("transformers").logging.set_verbosity_error()


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that no process waits for another that started one of them last."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def tokenizers():
    """tokenizers(kind): a small fast tokenizer, as in `architectures.make_tokenizer`."""
    from architectures import make_tokenizer

    return cache(make_tokenizer)


@pytest.fixture
def own(tokenizers):
    """own(architecture): a handle that nothing has been read with."""
    from architectures import make_module

    from semhub_utils.models import wrap

    return lambda name="llama", **sizes: wrap(make_module(name, **sizes), tokenizers("byte"), model_id=f"own-{name}")


@pytest.fixture(scope="session")
def tiny(tokenizers):
    """tiny(architecture): the handle of a tiny random model with the byte-level tokenizer, which has kept nothing."""
    from architectures import make_module

    from semhub_utils.models import wrap

    made = cache(lambda name: wrap(make_module(name), tokenizers("byte"), model_id=f"tiny-{name}"))

    def handle(name):
        made(name).store.clear()
        return made(name)

    return handle


@pytest.fixture(params=["llama", "gpt2"])
def both(request, tiny):
    """A tiny model, and its oracle."""
    from oracle import Oracle

    model = tiny(request.param)
    return model, Oracle(request.param, model.module, model.tokenizer)


@pytest.fixture(scope="session")
def media():
    """media(architecture): the handle of a tiny random model that sees or hears."""
    from architectures import make_media_module

    from semhub_utils.models import wrap

    return cache(lambda name: wrap(*make_media_module(name), model_id=f"tiny-{name}"))
