"""Places in programs as one model's tokenizer sees them, and the name of a parameter read before its argument."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.code import Place
from semhub_utils.spokes.items import LensItem


@dataclass(frozen=True)
class Site:
    """A place as one model's tokenizer sees it: the prompt that ends there, the token that comes next (it may be a bare
    space), and the first one that is not blank."""

    place: Place
    prompt: str
    next_id: int
    next_text: str


def sites(model: LanguageModel, places: Sequence[Place], *, ahead: bool = True) -> tuple[list[Site], dict[str, int]]:
    """The places whose comma or bracket is a token of its own; the others by reason.

    A prompt that the tokenizer cuts in another way when the program ends there is no reading of that program, and of
    equal prompts the first stands for all. ahead: what comes next is asked for too, and must be known to the tokenizer.
    """
    encodings = {text: _encode(model, text) for text in dict.fromkeys(place.text for place in places)}
    prompts = list(dict.fromkeys(p.text[: p.at] for p in places if encodings[p.text] is not None))
    cut = {prompt: encoding.ids for prompt, encoding in zip(prompts, model.encode(prompts), strict=True)}
    found: dict[tuple[str, str], Site] = {}
    dropped: Counter[str] = Counter()
    for place in places:
        encoding, prompt = encodings[place.text], place.text[: place.at]
        if encoding is None:
            dropped["program longer than the model's context"] += 1
            continue
        ends = [k for k, (start, end) in enumerate(encoding.offsets) if end == place.at and end > start]
        if not ends or place.text[slice(*encoding.offsets[ends[-1]])].strip() != prompt[-1]:
            dropped["comma or bracket merged into a longer token"] += 1
            continue
        k = ends[-1]
        if cut[prompt] != encoding.ids[: k + 1]:
            dropped["tokens cut in another way when the program ends there"] += 1
            continue
        spoken = [(i, place.text[slice(*span)].strip()) for i, span in enumerate(encoding.offsets[k + 1 :], k + 1)]
        visible, following = next(((i, token) for i, token in spoken if token), (None, ""))
        if ahead and (visible is None or encoding.ids[visible] == model.tokenizer.unk_token_id):
            dropped["what comes next is unknown to the tokenizer"] += 1
        elif (key := (prompt, place.name)) in found:
            dropped["same prompt again"] += 1
        else:
            found[key] = Site(place, prompt, encoding.ids[k + 1] if visible else -1, following)
    return list(found.values()), dict(dropped)


def argument_items(model: LanguageModel, places: Sequence[Place]) -> tuple[list[LensItem], dict[str, int]]:
    """Places before an argument as items of `words.Lens("name", "argument")`: the name of the parameter against the
    argument as written; and how many places were left out for which reason (`sites`).

    The own word is the first token of the argument, and wrong words are the names of all other parameters that are read
    after the same token, bracket or comma, as only these change places in the null: the token itself tells first
    arguments from later ones. The wrong words "same function" are the other parameters of that function.
    """
    found, lost = sites(model, places)
    found = sorted(found, key=lambda site: len(site.prompt))  # words are resolved after the shortest prompt
    names: dict[str, set[str]] = {}  # by the token that is read: a bracket or a comma
    for site in found:
        names.setdefault(site.prompt[-1], set()).add(site.place.name)
    items = [
        LensItem(
            id=f"{site.place.program}:{site.place.at}",
            prompt=site.prompt,
            targets={"name": (site.place.name,), "argument": (site.next_text,)},
            cluster=site.place.program,
            wrong={
                "name": tuple(sorted(names[site.prompt[-1]] - {site.place.name})),
                "same function": site.place.names,
            },
            group=site.prompt[-1],
            anchor=site.place.name,
        )
        for site in found
    ]
    return items, lost


def _encode(model: LanguageModel, text: str) -> Encoding | None:
    """None where the text does not fit the model."""
    try:
        return model.encode([text])[0]
    except SemhubError:
        return None
