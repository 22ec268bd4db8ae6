"""What a model says under a vector, and what is measured of it: next words, sentiment, fluency, relevance."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.interventions import CPU_TOKENS
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.sentiment import SentimentPrompt, SentimentTask, without_pair
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, generate, next_token_logprobs
from semhub_utils.tokens import TargetTable, target_table

Score = Callable[[Sequence[str]], Float[np.ndarray, " text"]]
Texts = list[list[list[str]]]  # item, coefficient, seed
MEASURED = ("written", "written, all words", "nats", "relevance")
SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 0.3, "frequency_penalty": 1.0}


def word_vector(model: LanguageModel, toward: str, away: str) -> Float[Tensor, "layer position hidden"]:
    """The states of two words read as prompts behind the model's `anchor`, `toward` minus `away`, position by position
    (arXiv 2308.10248). The last state of the shorter one stands in for the positions it lacks. Raises SemhubError where
    both are the same tokens."""
    encodings = model.encode([model.anchor + toward, model.anchor + away])
    if encodings[0].ids == encodings[1].ids:
        raise SemhubError(
            f"{toward!r} and {away!r} are the same tokens to {model.model_id}; a model that tells them apart would do."
        )
    longest = max(map(len, encodings))
    rows = [[min(k, len(encoding) - 1) for k in range(longest)] for encoding in encodings]
    states = hidden_states(model, encodings, positions=rows).hidden.reshape(2, longest, model.n_layers + 1, -1)
    return (states[0] - states[1]).transpose(0, 1)


def told_sides(
    model: LanguageModel, task: SentimentTask, left_out: Sequence[Sequence[str]]
) -> tuple[TargetTable | None, list[list[list[int]]]]:
    """The words of a task that the tokenizer tells apart, and for each of some words that do not count, which of these
    are pleasant and which unpleasant."""
    sides = ((*task.pleasant, task.own[0]), (*task.unpleasant, task.own[1]))
    table = target_table(model, [w for side in sides for w in side], task.prompts[0].prompt)
    words = table.words
    return table, [
        [[k for k, word in enumerate(words) if word in side and word not in out] for side in sides] for out in left_out
    ]


def word_mass(model: LanguageModel, task: SentimentTask) -> Callable[..., np.ndarray]:
    """A function of prompts, vectors [direction, position, hidden] for the first positions of a prompt behind the
    model's `anchor`, layer and strengths: log P(pleasant words) minus log P(unpleasant words) as the next token [item,
    strength, direction, reading], the readings being without and with the pair's own words. Words whose first token
    another word shares are left out; nan where a side has none."""
    table, columns = told_sides(model, task, (task.own, ()))

    def mass(prompts: Sequence[SentimentPrompt], vectors: Tensor, layer: int, strengths: Sequence[float]) -> np.ndarray:
        n, many, length, _ = (len(prompts), *vectors.shape)
        if not all(side for reading in columns for side in reading):
            return np.full((n, len(strengths), many, 2), np.nan)
        edit = Edit((layer,), vectors.repeat(n, 1, 1), positions=list(range(length)))
        texts = [model.anchor + p.prompt for p in prompts for _ in range(many)]
        found = word_logprobs(
            next_token_logprobs(model, texts, table.ids, edit=edit, strengths=strengths), table.groups
        ).double()
        found = torch.stack([found[..., up].logsumexp(-1) - found[..., down].logsumexp(-1) for up, down in columns], -1)
        return found.reshape(n, many, len(strengths), 2).transpose(1, 2).numpy()

    return mass


def write(
    model: LanguageModel,
    prompts: Sequence[SentimentPrompt],
    vectors: Float[Tensor, "direction position hidden"],
    layer: int,
    coefficients: Sequence[float],
    *,
    n_seeds: int,
    max_new_tokens: int,
    seed: int,
) -> Texts:
    """Sampled as in the paper, each coefficient times each vector added at the first positions of the prompt behind the
    model's `anchor`; a vector, and a seed of it, is an entry of the last axis."""
    n, many, length, _ = (len(prompts), *vectors.shape)
    edit = Edit((layer,), vectors.repeat(n, 1, 1), positions=list(range(length)))
    found = generate(
        model,
        [model.anchor + p.prompt for p in prompts for _ in range(many)],
        max_new_tokens=max_new_tokens,
        edit=edit,
        strengths=[c for c in coefficients for _ in range(n_seeds)],
        seed=seed,
        max_batch_tokens=CPU_TOKENS if model.device.type == "cpu" else None,
        **SAMPLING,
    )
    places = range(len(coefficients))
    return [
        [
            [text for row in found[i * many : (i + 1) * many] for text in row[k * n_seeds : (k + 1) * n_seeds]]
            for k in places
        ]
        for i in range(n)
    ]


def measure(
    model: LanguageModel,
    judge: LanguageModel,
    prompts: Sequence[SentimentPrompt],
    texts: Mapping[str, Texts],
    score: Score,
    languages: Iterable[str],
) -> dict[str, Float[np.ndarray, "item coefficient seed measure"]]:
    """Per continuation, in the order of MEASURED: sentiment without and with the pair's own words; nats per token under
    `judge`, given the prompt; relevance. nan where there is nothing to measure. Equal continuations are measured once.
    """
    pairs = list(dict.fromkeys((i, t) for of in texts.values() for i, row in enumerate(of) for at in row for t in at))
    number = {pair: k for k, pair in enumerate(pairs)}
    said = [text.strip() for _, text in pairs]
    items = [i for i, _ in pairs]
    joined = [join(model, prompts[i].prompt, text) for i, text in pairs]
    table = np.stack(
        [
            score([without_pair(text, languages).strip() for text in said]),
            score(said),
            nats(judge, [prompts[i].prompt for i in items], joined),
            relevance(judge, [p.text for p in prompts], items, said),
        ],
        axis=-1,
    )
    return {
        name: np.array([[[table[number[i, t]] for t in at] for at in row] for i, row in enumerate(of)], float)
        for name, of in texts.items()
    }


def join(model: LanguageModel, prompt: str, continuation: str) -> str:
    """The whole text. Some tokenizers decode without the space before the first word; where `model`'s is one, a space
    is put between two words that are not Chinese."""
    word, both = model.tokenizer(["a", "a b"], add_special_tokens=False)["input_ids"]
    keeps = model.tokenizer.decode(both[len(word) :]).startswith(" ")
    between = (prompt[-1:], continuation[:1])
    apart = not keeps and all(c and not c.isspace() and not "\u3400" <= c <= "\u9fff" for c in between)
    return prompt + " " * apart + continuation


def nats(judge: LanguageModel, prompts: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " text"]:
    """Mean negative log-probability per token of what each text adds to its prompt: the logarithm of its perplexity."""
    encodings = judge.encode(texts)
    own = [
        [k for k, (_, end) in enumerate(e.offsets) if end > len(p) and k]
        for e, p in zip(encodings, prompts, strict=True)
    ]
    states = hidden_states(judge, encodings, positions=[[k - 1 for k in row] for row in own], layers=[judge.n_layers])
    if not len(states.item):
        return np.full(len(texts), np.nan)
    targets = torch.tensor([[e.ids[k]] for e, row in zip(encodings, own, strict=True) for k in row])
    logprob = lens(judge, states.hidden, targets=targets).logprob[:, 0, 0].double()
    return -_mean_by(logprob[:, None], states.item, len(texts))[:, 0].numpy()


def relevance(
    judge: LanguageModel, prompts: Sequence[str], items: Sequence[int], texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """Cosine of a continuation with its own prompt minus the mean with the other prompts: mean states of either text
    read alone, at the middle layer of `judge`. `items`: the prompt of each text; an empty text has none (nan)."""
    unique = list(dict.fromkeys(text for text in texts if text))
    if not unique or len(prompts) < 2:
        return np.full(len(texts), np.nan)
    mean = _text_states(judge, [*prompts, *unique])
    cosine = mean[len(prompts) :] @ mean[: len(prompts)].T  # text, prompt
    row = {text: k for k, text in enumerate(unique)}
    found = []
    for i, text in zip(items, texts, strict=True):
        of = cosine[row[text]] if text else torch.full((len(prompts),), torch.nan)
        found.append(float(of[i] - (of.sum() - of[i]) / (len(prompts) - 1)))
    return np.array(found)


def _text_states(judge: LanguageModel, texts: Sequence[str]) -> Float[Tensor, "text hidden"]:
    """The mean state of each text at the middle layer, of length 1; tokens that the tokenizer adds do not count."""
    encodings = judge.encode(texts)
    own = [[k for k, (start, end) in enumerate(e.offsets) if end > start] for e in encodings]
    states = hidden_states(judge, encodings, positions=own, layers=[max(judge.n_layers // 2, 1)])
    mean = _mean_by(states.hidden[:, 0].double(), states.item, len(texts))
    return mean / mean.norm(dim=-1, keepdim=True)


def _mean_by(values: Float[Tensor, "site width"], item: Tensor, n: int) -> Float[Tensor, "item width"]:
    """The mean of each item's sites; nan where it has none."""
    total = torch.zeros(n, values.shape[1], dtype=values.dtype).index_add_(0, item, values)
    return total / torch.bincount(item, minlength=n)[:, None]
