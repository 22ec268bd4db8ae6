"""Whether states stay on a GPU: what reading and the lens take there, against the bare forward and the bare product.

    python tests/gpu.py [SHAPE PROMPTS TOKENS DTYPE]      (large 512 64 bfloat16 by default)

A Llama of random weights reads random words. Prints each share and ends with 1 where one misses its target, or where
a chapter does not run there on a model that ships; without a GPU it says so and ends with 0.
"""

import statistics
import sys
import tempfile
import time

import torch

from semhub_utils import cli
from semhub_utils.bench import random_model
from semhub_utils.inputs import pad
from semhub_utils.lens import lens
from semhub_utils.states import BATCH_TOKENS, hidden_states

CHAPTERS = dict.fromkeys(("arithmetic", "languages", "steering", "code", "semantics"), "hub")
CHAPTERS |= {"vision": "hub-sees", "audio": "hub-hears"}
AT_LEAST = {"last position": 0.95, "all positions": 0.90}  # of the bare forward's tokens a second
AT_MOST = {"lens": 1.25}  # times the bare product of states and unembedding


def seconds(function, device: torch.device, rounds: int = 3) -> float:
    """The median time of some calls after one that pays for set-up."""
    taken = []
    for _ in range(rounds + 1):
        wait(device)
        began = time.perf_counter()
        function()
        wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.inference_mode()
def measure(shape: str, prompts: int, tokens: int, dtype: str, device: str) -> dict[str, float]:
    """Shares of the bare forward, of the same tokens in the same batches, and times the bare product."""
    model = random_model(shape, device, dtype)
    words = model.tokenizer.convert_ids_to_tokens(list(range(10, 900)))
    drawn = torch.randint(len(words), (prompts, tokens), generator=torch.Generator().manual_seed(0))
    read = model.encode([" ".join(words[i] for i in row) for row in drawn.tolist()])
    ids, width = pad(read).to(model.device), max(map(len, read))
    rows = max(1, BATCH_TOKENS["cpu" if model.device.type == "cpu" else "other"] // width)
    part = read[: max(1, prompts // 4)]

    def bare() -> None:
        for start in range(0, prompts, rows):
            model.module.base_model(input_ids=ids[start : start + rows], use_cache=False)

    def again(*arguments, **named) -> None:  # what is kept would cost nothing
        model.store.clear()
        hidden_states(model, *arguments, **named)

    floor = seconds(bare, model.device)
    last = seconds(lambda: again(read), model.device)
    every = seconds(lambda: again(part, positions="all"), model.device)
    found = {"last position": floor / last, "all positions": floor / every * sum(map(len, part)) / sum(map(len, read))}
    hidden, targets = hidden_states(model, read).hidden, torch.tensor([[11, 12]]).expand(prompts, 2)
    flat, weight = hidden.flatten(0, 1).to(model.dtype), model.unembedding

    def product() -> None:
        for start in range(0, len(flat), 4096):
            flat[start : start + 4096] @ weight.T

    taken = seconds(lambda: lens(model, hidden, targets=targets), model.device)
    return found | {"lens": taken / seconds(product, model.device)}


def missed(found: dict[str, float]) -> list[str]:
    """What does not meet its target."""
    low = [name for name, least in AT_LEAST.items() if found[name] < least]
    return low + [name for name, most in AT_MOST.items() if found[name] > most]


def main() -> int:
    if not torch.cuda.is_available():
        print("No GPU is at hand; nothing was measured.")
        return 0
    shape, prompts, tokens, dtype = sys.argv[1:] or ("large", "512", "64", "bfloat16")
    found = measure(shape, int(prompts), int(tokens), dtype, "cuda")
    for name, value in found.items():
        target = f"at least {AT_LEAST[name]}" if name in AT_LEAST else f"at most {AT_MOST[name]}"
        print(f"{name:15}{value:6.2f}  ({target})")
    where = ["--set", "device=cuda", "--out", tempfile.mkdtemp()]
    ends = [cli.main(["run", chapter, "--model", f"organism:{name}", *where]) for chapter, name in CHAPTERS.items()]
    return int(any(ends) or bool(missed(found)))


if __name__ == "__main__":
    sys.exit(main())
