"""The example of book/architecture.md, which includes this file: an experiment that the package does not have."""

from dataclasses import dataclass

import numpy as np
from planted import two_worlds, word_items

from semhub_utils.evidence import Unit
from semhub_utils.experiments.core import Claim, Experiment, run
from semhub_utils.experiments.words import words_of
from semhub_utils.lens import lens
from semhub_utils.states import hidden_states
from semhub_utils.verdicts import HOLDS, NOT, judge


# --- the experiment ---
@dataclass(frozen=True)
class AmongFirst(Experiment):
    """Is the hub's word among the `k` likeliest words of a middle layer?"""

    hub: str
    own: str
    k: int = 10

    @property
    def claims(self):
        return (Claim("lens-among", self.hub, outcome=True, unit=Unit("share of prompts", 0.1, "one in ten")),)

    def fit(self, model, items):
        return words_of(model, items, self.hub, self.own)

    def read(self, reader, kept, prompts, reading):
        first = lens(reader, hidden_states(reader, prompts).hidden, top_k=self.k, reading=reading).top_ids
        word = kept.more.table.word_of_token(reader.vocab_size)[first.numpy()]  # [item, layer, k]
        answers = kept.more.own[self.hub]  # [answer, word]
        among = [(answer[word] & (word >= 0)).any(-1) for answer in answers]  # -1 is none of the words
        return {("lens-among", self.hub): np.stack(among, axis=2).astype(float)}


# --- its test ---
def test_a_planted_word_is_among_the_first():
    for shared, verdict in ((True, HOLDS), (False, NOT)):
        _, [claim] = run(AmongFirst("word", "digit", k=1), two_worlds(shared), word_items(), series="digits")
        assert judge(claim).verdict == verdict
