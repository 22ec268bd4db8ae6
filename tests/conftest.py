"""Shapes and types of the package are checked in every test; models and tokenizers are made once per session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests ask the network for nothing
os.environ.setdefault("OMP_NUM_THREADS", "1")

from functools import cache  # noqa: E402
from importlib import import_module  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

LIBRARIES = ("altair", "beartype", "nbformat", "pandas", "papermill", "pyarrow.parquet", "transformers.models.auto")
for library in (*LIBRARIES, "transformers.models.auto.processing_auto"):
    import_module(library)  # as what a module of the package is first to load is compiled anew

install_import_hook("semhub_utils", "beartype.beartype")

from architectures import make_media_module, make_module, make_tokenizer  # noqa: E402
from oracle import Oracle  # noqa: E402

from semhub_utils.models import wrap  # noqa: E402

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizers():
    """tokenizers(kind): a small fast tokenizer, as in `architectures.make_tokenizer`."""
    return cache(make_tokenizer)


@pytest.fixture(scope="session")
def tiny(tokenizers):
    """tiny(architecture): the handle of a tiny random model with the byte-level tokenizer, which has kept nothing."""
    made = cache(lambda name: wrap(make_module(name), tokenizers("byte"), model_id=f"tiny-{name}"))

    def handle(name):
        made(name).store.clear()
        return made(name)

    return handle


@pytest.fixture(params=["llama", "gpt2"])
def both(request, tiny):
    """A tiny model, and its oracle."""
    model = tiny(request.param)
    return model, Oracle(request.param, model.module, model.tokenizer)


@pytest.fixture
def own(tokenizers):
    """own(architecture): a handle that nothing has been read with."""
    return lambda name="llama", **sizes: wrap(make_module(name, **sizes), tokenizers("byte"), model_id=f"own-{name}")


@pytest.fixture(scope="session")
def media():
    """media(architecture): the handle of a tiny random model that sees or hears."""
    return cache(lambda name: wrap(*make_media_module(name), model_id=f"tiny-{name}"))
