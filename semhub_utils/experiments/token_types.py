"""Which data type is a token of? P(type | token) from text of each type, and whether that tells the types apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import MIN_ACCURACY, bootstrap_interval
from semhub_utils.inputs import Encoding
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.languages import TypeTexts

SMOOTHING = 0.1


@dataclass(frozen=True)
class TokenTypes:
    """What text of each type says of every token: counts, and P(type | token) with a uniform prior over types."""

    names: tuple[str, ...]
    counts: Int[Tensor, "vocab type"]  # without special tokens
    special: Bool[Tensor, " vocab"]

    @property
    def seen(self) -> Bool[Tensor, " vocab"]:
        return self.counts.sum(1) > 0

    @property
    def shared(self) -> Bool[Tensor, " vocab"]:
        """Tokens that more than one type has."""
        return (self.counts > 0).sum(1) > 1

    @property
    def share(self) -> Float[Tensor, "vocab type"]:
        """P(token | type): the token's share of the type's text."""
        return self.counts.double() / self.counts.sum(0).clamp_min(1)

    def posterior(self, smoothing: float = SMOOTHING) -> Float[Tensor, "vocab type"]:
        """P(type | token), all types being equally likely beforehand.

        `smoothing`: a seen token counts as if every type had it that many more times in a text of mean length; given
        as a share of the text, so that it favours no type for having little of it. Zero for tokens never seen, about
        which text says nothing, and for special ones.
        """
        more = smoothing * self.share.shape[1] / self.counts.sum()
        given_type = (self.share + more) * self.seen[:, None]
        return given_type / given_type.sum(1, keepdim=True).clamp_min(1e-300)


def count_tokens(model: LanguageModel, texts: Sequence[TypeTexts]) -> TokenTypes:
    """Counts of every token in the counted lines of each type. Raises SemhubError on fewer than two types, or where no
    type has a token."""
    if len(texts) < 2:
        raise SemhubError(f"Text of {len(texts)} data type was given; of two or more would do.")
    special = torch.zeros(model.vocab_size, dtype=torch.bool)
    special[[i for i in model.tokenizer.all_special_ids if i < model.vocab_size]] = True
    counts = torch.zeros(model.vocab_size, len(texts), dtype=torch.long)
    for column, some in enumerate(texts):
        ids = model.tokenizer(list(some.counted), add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([i for line in ids for i in line], dtype=torch.long)
        counts[:, column] = torch.bincount(ids, minlength=model.vocab_size)[: model.vocab_size]
    counts[special] = 0
    if not counts.any():
        raise SemhubError(f"The tokenizer of {model.model_id} knows no token of the texts; one that does would do.")
    return TokenTypes(tuple(some.name for some in texts), counts, special)


def fitting(model: LanguageModel, lines: Sequence[str]) -> tuple[list[Encoding], int]:
    """The lines that fit the model's context and have a token of their own, encoded, and how many do not."""
    ids = model.tokenizer(list(lines), verbose=False)["input_ids"] if lines else []
    short = [line for line, i in zip(lines, ids, strict=True) if i and len(i) <= (model.max_length or len(i))]
    kept = [encoding for encoding in model.encode(short) if text_positions(model, encoding)]
    return kept, len(lines) - len(kept)


def text_positions(model: LanguageModel, encoding: Encoding) -> list[int]:
    """Positions of the text's own tokens, not of those that the tokenizer puts around it."""
    added = set(model.tokenizer.all_special_ids)
    both = enumerate(zip(encoding.ids, encoding.offsets, strict=True))
    return [place for place, (i, (start, end)) in both if i not in added or end > start]


def token_table(model: LanguageModel, texts: Sequence[TypeTexts], *, seed: int = 0) -> pd.DataFrame:
    """Can the type of a text be told by its tokens one by one?

    One row per type. value: the mean of P(own type | token) over the tokens of the lines that are read, with its
    interval over lines: what the lens would give, were it certain of the tokens that stand there. Beside it, as shares
    of these tokens: `unseen` in the counted lines, `shared` with another type, `special` (such as unknown words), and
    `pieces`, bytes that are no whole character.
    """
    types = count_tokens(model, texts)
    posterior, seen, shared = types.posterior(), types.seen, types.shared
    rows = []
    for column, some in enumerate(texts):
        encodings, long = fitting(model, some.read)
        lines = [torch.tensor(e.ids)[text_positions(model, e)] for e in encodings]
        ids = torch.cat(lines) if lines else torch.empty(0, dtype=torch.long)
        broken = torch.tensor([i for i in ids.unique().tolist() if "\ufffd" in model.tokenizer.decode([i])])
        told = np.array([float(posterior[line, column].mean()) for line in lines])
        of = some.clusters_of(e.text for e in encodings)
        low, high = bootstrap_interval(told[:, None], clusters=of, seed=seed) if len(lines) else ([np.nan], [np.nan])
        marks = {"unseen": ~seen & ~types.special, "shared": shared, "special": types.special}
        shares = {name: mark[ids].double() for name, mark in marks.items()}
        shares["pieces"] = torch.isin(ids, broken.long()).double()
        rows.append(
            {"experiment": "layers-told", "series": some.name, "value": told.mean() if len(told) else np.nan,
             "low": low[0], "high": high[0], "n": len(lines), "dropped": long, "tokens": len(ids),
             "counted": int(types.counts[:, column].sum()), "vocabulary": int((types.counts[:, column] > 0).sum())}
            | {name: float(share.mean()) for name, share in shares.items()}
        )  # fmt: skip
    return pd.DataFrame(rows)


def cannot_tell(table: pd.DataFrame, *names: str) -> str | None:
    """The precondition of every claim about `names`, from `token_table`: None, or why these types cannot be told apart.

    Each must be given at least MIN_ACCURACY of the tokens of its own text, and at most half of these may be bytes.
    """
    for name in names:
        row, language = table[table.series == name].iloc[0], name.title()
        if not row.n:
            return f"no line of {language} fits the model's context."
        if row.pieces > 0.5:
            return f"the tokenizer writes {language} in bytes: {row.pieces:.0%} of its tokens are no whole character."
        if row.value < MIN_ACCURACY:
            told = f"{row.value:.0%} of its text goes to it, token by token, and {MIN_ACCURACY:.0%} is asked."
            return f"{language} cannot be told by its tokens: {told}"
    return None
