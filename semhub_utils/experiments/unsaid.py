"""Words that a text leaves out, read with the lens (Eq. 2): the "and" of a Python list, the name of a parameter, the
role of whoever is named next."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from semhub_utils.experiments.core import TOO_LONG, Claim, Experiment, readable
from semhub_utils.experiments.numbers import FEW_DRAWS, Chance, Columns, Given, Kept, Numbers, Scores
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.code import FREQUENT, KEYWORDS, Place
from semhub_utils.spokes.facts import english_words
from semhub_utils.spokes.items import Items, LensItem
from semhub_utils.spokes.semantics import ROLES
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table

# ---- places in programs ----


@dataclass(frozen=True)
class Site:
    """A place in a program as one model's tokenizer sees it: the prompt that ends there, the token that comes next (it
    may be a bare space), and the first one that is not blank. cluster: the program."""

    place: Place
    prompt: str
    next_id: int
    next_text: str

    @property
    def cluster(self) -> str:
        return self.place.program


def sites(model: LanguageModel, places: Sequence[Place], *, ahead: bool = True) -> Items:
    """The places whose comma or bracket is a token of its own, as `Site`; the others are left out and counted.

    A prompt that the tokenizer cuts in another way when the program ends there is no reading of that program, and of
    equal prompts the first stands for all. ahead: what comes next is asked for too, and must be known to the tokenizer.
    """
    programs = readable(model, [*dict.fromkeys(place.text for place in places)], lambda text: text)
    whole = dict(zip(programs, model.encode(programs), strict=True))
    prompts = list(dict.fromkeys(p.text[: p.at] for p in places if p.text in whole))
    cut = {prompt: encoding.ids for prompt, encoding in zip(prompts, model.encode(prompts), strict=True)}
    found, seen = Items(), set()
    for place in places:
        where = f"{place.program}:{place.at}"
        encoding, prompt = whole.get(place.text), place.text[: place.at]
        if encoding is None:
            found.drop(f"program {TOO_LONG}", where)
            continue
        ends = [k for k, (start, end) in enumerate(encoding.offsets) if end == place.at and end > start]
        if not ends or place.text[slice(*encoding.offsets[ends[-1]])].strip() != prompt[-1]:
            found.drop("comma or bracket merged into a longer token", where)
            continue
        k = ends[-1]
        if cut[prompt] != encoding.ids[: k + 1]:
            found.drop("tokens cut in another way when the program ends there", where)
            continue
        spoken = [(i, place.text[slice(*span)].strip()) for i, span in enumerate(encoding.offsets[k + 1 :], k + 1)]
        visible, following = next(((i, token) for i, token in spoken if token), (None, ""))
        if ahead and (visible is None or encoding.ids[visible] == model.tokenizer.unk_token_id):
            found.drop("what comes next is unknown to the tokenizer", where)
        elif (prompt, place.name) in seen:
            found.drop("same prompt again", where)
        else:
            seen.add((prompt, place.name))
            found.append(Site(place, prompt, encoding.ids[k + 1] if visible else -1, following))
    return found


def argument_items(model: LanguageModel, places: Items) -> Items:
    """Places before an argument as items of `words.Lens("name", "argument")`: the name of the parameter against the
    argument as written. What was left out (`sites`) is counted.

    The own word is the first token of the argument, and wrong words are the names of all other parameters that are read
    after the same token, bracket or comma, as only these change places in the null: the token itself tells first
    arguments from later ones. The wrong words "same function" are the other parameters of that function.
    """
    found = sites(model, places)
    found.sort(key=lambda site: len(site.prompt))  # words are resolved after the shortest prompt
    names: dict[str, set[str]] = {}  # by the token that is read: a bracket or a comma
    for site in found:
        names.setdefault(site.prompt[-1], set()).add(site.place.name)
    items = places.but([])
    items.dropped += found.dropped
    for site in found:
        place, read = site.place, site.prompt[-1]
        wrong = {"name": tuple(sorted(names[read] - {place.name})), "same function": place.names}
        targets = {"name": (place.name,), "argument": (site.next_text,)}
        at = f"{place.program}:{place.at}"
        items.append(LensItem(at, site.prompt, targets, place.program, wrong, group=read, anchor=place.name))
    return items


# ---- the "and" of a list ----


@dataclass(frozen=True)
class Ands(Experiment):
    """Does the lens read "and" at the commas of lists, as English joins its lists? Items: places in programs.

    `and-lead`: log P(and) minus the largest of: log P of Python's other keywords, as "and" is one itself, and the log
    of the mean probability of frequent English words; at list commas. `and-place`: log P(and) at list commas minus that
    at commas between arguments, so that a model which puts "and" after any comma cannot win; English may say "and"
    between arguments too, so that this is the harder one. Each has two nulls: chance, or kinds shuffled among
    programs; and the same number for every other English word, as all lists have their form in common,
    so that any one word may be likely there by accident. `and-end`: at the last layer, log P of the token that is
    written next minus log P(and). Curves: probabilities; that of "and" has the null of kinds shuffled.
    """

    keywords: tuple[str, ...] = KEYWORDS
    frequent: tuple[str, ...] = FREQUENT

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim("and-lead", nulls=(Chance(), Given())),
            Claim("and-place", nulls=(Given(),), embedded=False),  # a comma's own embedding reads no layer
            Claim("and-end", nulls=(Chance(),), window="last"),
        )

    def fit(self, model: LanguageModel, items: Sequence[Place]) -> Kept:
        found = sites(model, items)
        words = dict.fromkeys(("and", *self.keywords, *self.frequent, *english_words()))
        table = target_table(model, words, min((site.prompt for site in found), key=len, default=""))
        single = table.single
        if "and" not in single or not single & {*self.keywords, *self.frequent}:
            return Kept([], found.dropped + Counter({"no token of its own for the words": len(found)}))
        return Kept(found, found.dropped, more=table)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        table, programs = kept.more, kept.labels("cluster")
        hidden_states(reader, [*dict.fromkeys(site.place.text for site in kept.items)])  # whole: all places at once
        lists = np.array([site.place.kind == "list" for site in kept.items])
        both = np.full(len(lists), lists.any() and not lists.all())
        targets = torch.cat([table.ids.expand(len(prompts), -1), torch.tensor(kept.labels("next_id"))[:, None]], 1)
        logprob = lens(reader, hidden_states(reader, prompts).hidden, targets=targets, reading=reading).logprob.double()
        words = zip(table.words, word_logprobs(logprob[..., :-1], table.groups).unbind(-1), strict=True)
        of = {word: some.numpy() for word, some in words if word in table.single}
        said, following = of["and"], logprob[..., -1].numpy()
        groups = {name: (name,) for name in ("and", *self.keywords[:2])}
        groups |= {"other keywords": self.keywords[2:], "frequent words": self.frequent}
        p = {name: [np.exp(of[word]) for word in some if word in of] for name, some in groups.items()}
        p = {name: np.mean(some, 0) for name, some in p.items() if some} | {"next token": np.exp(following)}
        rivals = [of[word] for word in self.keywords if word in of]
        rivals = np.max(rivals + [np.log(p[name]) for name in ("frequent words",) if name in p], 0)
        leads = [some - rivals for word, some in of.items() if word not in ("and", *self.keywords, *self.frequent)]
        others = [some for word, some in of.items() if word != "and"]
        apart = difference(said, lists) if both.all() else said[:0]
        cells = {(site.cluster, site.place.kind) for site in kept.items}
        least_p = 1 / math.comb(len(cells), sum(kind == "list" for _, kind in cells))
        words = _means(others, lists) - _means(others, ~lists)

        def apart_by_chance(first: int, end: int) -> list[np.ndarray]:
            at_lists, elsewhere = kinds_shuffled(said, lists, programs, first, end, kept.seed)
            return [at_lists - elsewhere, words[first:end]]

        found: Numbers = {
            ("and-lead", ""): Scores((said - rivals)[lists], null=[_means(leads, lists)], of=lists),
            ("and-place", ""): Scores(apart, null=apart_by_chance, least_p=least_p, of=both),
            ("and-end", ""): Scores((following - said)[lists], of=lists),
        }
        found |= {("and-probability", name): Scores(some[lists], of=lists) for name, some in p.items()}
        for name, at in (("and", lists), ("and, between arguments", ~lists)):
            null = [kinds_shuffled(p["and"], at, programs, 0, FEW_DRAWS, kept.seed)[0]]
            found["and-probability", name] = Scores(p["and"][at], null=null, of=at)
        return found


def _means(values: Sequence[Float[np.ndarray, "site layer"]], of: Bool[np.ndarray, " site"]) -> np.ndarray:
    """The mean of each over some sites, as draws [word, layer]; of none, 0."""
    return np.array([some[of].sum(0) for some in values]).reshape(len(values), -1) / max(of.sum(), 1)


def kinds_shuffled(
    values: Float[np.ndarray, "site layer"],
    first: Bool[np.ndarray, " site"],
    clusters: Sequence,
    begin: int,
    end: int,
    seed: int,
) -> tuple[Float[np.ndarray, "draw layer"], Float[np.ndarray, "draw layer"]]:
    """Means over `first` and over the others with the two kinds shuffled, draws `begin` to `end`: what is of one
    cluster and one kind moves together. No draw if there is one kind only."""
    if not first.any() or first.all():
        return values[:0], values[:0]
    cells = codes(list(zip(clusters, first.tolist(), strict=True)))
    kind, size = np.zeros(cells.max() + 1, bool), np.bincount(cells)
    total = np.zeros((len(kind), values.shape[1]))
    kind[cells] = first
    np.add.at(total, cells, values)
    rng = np.random.default_rng(seed + begin)
    drawn = np.stack([rng.permutation(kind) for _ in range(end - begin)]).astype(float)
    one, other = ((some @ total) / (some @ size)[:, None] for some in (drawn, 1 - drawn))
    return one, other


def difference(
    values: Float[np.ndarray, "site layer"], first: Bool[np.ndarray, " site"]
) -> Float[np.ndarray, "site layer"]:
    """Numbers whose mean is the mean over `first` minus that over the others; linearised, so that the interval is that
    of the difference and not of how many there are of each kind."""
    means = values[first].mean(0), values[~first].mean(0)
    weight = np.where(first, len(first) / first.sum(), -len(first) / (~first).sum())
    return means[0] - means[1] + weight[:, None] * (values - np.where(first[:, None], *means))


# ---- the word of a role ----


@dataclass(frozen=True)
class RoleWords:
    """The role words of one token; the tokens of these and of the other words; what is compared with what."""

    roles: tuple[str, ...]
    tokens: Mapping[str, tuple[int, ...]]
    places: Int[np.ndarray, " item"]


@dataclass(frozen=True)
class RolesShuffled:
    """True roles change places among the clusters of a place, and the means over roles are taken again."""

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        roles, places, found = kept.target, kept.more.places, []
        values, drawn = scores.values[:, :, : len(kept.more.roles)], {"draws": end - first, "seed": seed + first}
        for p in random_pairings(len(roles), groups=places, clusters=kept.labels("cluster"), **drawn):
            stay = np.flatnonzero(p >= 0)
            drawn = roles[p[stay]]
            above = above_roles(values[stay], drawn, places[stay])[np.arange(len(stay)), :, drawn]
            above = above[np.isfinite(above).all(1)]
            found.append(above.mean(0) if len(above) else np.full(values.shape[1], np.nan))
        return [np.array(found) @ columns]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return least_permutation_p(kept.more.places, kept.labels("cluster"))


@dataclass(frozen=True)
class OtherWords:
    """As many other words, drawn at random, stand for the roles."""

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        roles, others = np.arange(kept.target.max() + 1), scores.values[:, :, len(kept.more.roles) :]
        if others.shape[2] < len(roles):
            return []
        of_role = np.stack([others[kept.target == role].sum(0) for role in roles]) / len(others)  # [role, layer, word]
        rng = np.random.default_rng(seed + first)
        drawn = (rng.permutation(others.shape[2])[: len(roles)] for _ in range(end - first))
        return [np.array([of_role[roles, :, words].sum(0) for words in drawn]) @ columns]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        """1 where there are too few other words: nothing says then that the role words are no accident."""
        n_roles, others = kept.target.max() + 1, len(kept.more.tokens) - len(kept.more.roles)
        return 1.0 if others < n_roles else 1 / math.perm(others, n_roles)


@dataclass(frozen=True)
class Roles(Experiment):
    """Before a name, does the lens (Eq. 2) raise the word of the role that the name will have?

    Claim `roles`: log P(true role's word) minus the mean of that word's log P over all true roles, every role weighing
    the same, so that a word that is likely everywhere wins nothing. same_position: prompts are compared with those of
    as many words (`group`), so that where the name stands decides nothing. Two nulls, the harder counts: true roles
    shuffled among what is read last (`cluster`), and as many of `others` in place of the role words, as often few last
    words ("by", "to") tell the role and three words may fit them by accident. Where all are compared the table adds the
    paper's figure, the scores of every role word by true role (`roles-confusion`), and the paper's statistic, which is
    in probabilities (`roles-probability`).
    """

    others: tuple[str, ...]
    same_position: bool = False

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = "true roles shuffled among what is read last; other words in place of the role words"
        return (Claim("roles", nulls=(RolesShuffled(), OtherWords()), null_in_words=said),)

    def fit(self, model: LanguageModel, items: Sequence[LensItem]) -> Kept:
        context = items[0].prompt if items else ""
        words, others = (_single(model, some, context) for some in (ROLES, self.others))
        taken = {i for ids in words.values() for i in ids}
        others = {word: ids for word, ids in others.items() if not taken & {*ids}}
        kept = [(item, item.group if self.same_position else "") for item in items if item.targets["role"][0] in words]
        lost = {"no single token for the role word": len(items) - len(kept)}
        at = Counter(place for place, _ in {(place, item.targets["role"]) for item, place in kept})
        few = "no other role at its position" if self.same_position else "no second role to compare with"
        lost[few] = sum(at[place] < 2 for _, place in kept)
        kept = [(item, place) for item, place in kept if at[place] > 1]
        roles = np.array([[*words].index(item.targets["role"][0]) for item, _ in kept], int)
        more = RoleWords(tuple(words), words | others, codes([place for _, place in kept]))
        return Kept([item for item, _ in kept], lost, roles, more)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        names, places, roles = kept.more.roles, kept.more.places, kept.target
        ids = [*kept.more.tokens.values()]
        ends = np.cumsum([len(some) for some in ids]).tolist()
        columns = [range(end - len(some), end) for end, some in zip(ends, ids, strict=True)]
        targets = torch.tensor([i for some in ids for i in some])
        seen = lens(reader, hidden_states(reader, prompts).hidden, targets=targets, reading=reading)
        logprob = word_logprobs(seen.logprob, columns).double().numpy()
        above = above_roles(logprob, roles, places)
        if self.same_position:
            return {("roles", ""): above}
        p = above_roles(np.exp(logprob[:, :, : len(names)]), roles, places)
        null = RolesShuffled().draws(kept, Scores(p), "", np.eye(p.shape[1]), 0, FEW_DRAWS, kept.seed)
        found: Numbers = {
            ("roles", ""): above,
            ("roles-probability", "true role's word"): Scores(kept.own(p), null=null),
        }
        for word, true in product(ROLES, ROLES):
            of = np.array([word in names and item.targets["role"][0] == true for item in kept.items])
            column = above[of][:, :, names.index(word) if word in names else 0]
            found["roles-confusion", true, (("word", word),)] = Scores(column, of=of, alone=True)
        return found


def above_roles(
    values: Float[np.ndarray, "item layer word"], roles: Int[np.ndarray, " item"], places: Int[np.ndarray, " item"]
) -> Float[np.ndarray, "item layer word"]:
    """Values of words minus their mean over the true roles that occur at the item's place, every role weighing the
    same; nan where no other role occurs there."""
    n_places, n_roles = places.max() + 1, roles.max() + 1
    member = np.zeros((n_places * n_roles, len(roles)))
    member[places * n_roles + roles, np.arange(len(roles))] = 1
    counts = member.sum(1)
    means = (member @ values.reshape(len(roles), -1)) / np.maximum(counts, 1)[:, None]
    means, there = means.reshape(n_places, n_roles, *values.shape[1:]), (counts > 0).reshape(n_places, n_roles).sum(1)
    base = means.sum(1) / np.maximum(there, 1)[:, None, None]
    return np.where((there > 1)[places, None, None], values - base[places], np.nan)


def _single(model: LanguageModel, words: Sequence[str], context: str) -> dict[str, tuple[int, ...]]:
    """The tokens of the words that are one token, and no other word's."""
    return {form.word: form.ids for form in target_table(model, words, context).forms if form.single}
