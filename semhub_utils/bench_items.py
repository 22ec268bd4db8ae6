"""What the chapters give their instruments to read, for `bench`: the items that the spokes make for the notebooks, at
the places where the experiments read and change them.

An intervention adds one random vector where a chapter adds its own: the time is the same. The patches of the chapters
are the book's own; there is no released method to compare them with.
"""

from collections.abc import Callable, Sequence

from .errors import SemhubError
from .experiments.continuations import word_vector
from .experiments.core import readable
from .experiments.interventions import RANGE_AS_RELEASED
from .experiments.pushes import RELEASED as PUSHES
from .experiments.pushes import RELEASED_DEPTH as PUSH_DEPTH
from .experiments.sentiment import COEFFICIENTS, PAPER_DEPTH
from .experiments.token_types import fitting, text_positions
from .experiments.unsaid import sites
from .experiments.words import asked, word_items
from .inputs import Prompt
from .models import LanguageModel
from .spokes import (
    arithmetic,
    audio,
    code,
    languages,
    semantics,
    sentiment,
    vision,
)
from .spokes.items import Pair
from .yardsticks import Workload

Works = dict[str, Workload]
"""By instrument: "lens", "similarity", "intervention"."""


def workloads(chapter: str, model: LanguageModel, n: int, *, seed: int = 0) -> Works:
    """What a chapter, one of CHAPTERS, gives its instruments on this model; `n` prompts or so where they are short, and
    fewer where they are long. Raises SemhubError where the model does not take what the chapter's items hold, or they
    leave it nothing to read."""
    medium = MEDIA.get(chapter, "text")
    if medium not in model.modalities:
        raise SemhubError(
            f"The items of {chapter} hold {medium}s, which {model.model_id} does not take; a model that does would do."
        )
    return {instrument: work for instrument, work in CHAPTERS[chapter](model, n, seed).items() if len(work.a) > 1}


def _sides(pairs: Sequence[Pair]) -> Workload:
    return Workload([pair.a for pair in pairs], [pair.b for pair in pairs])


def _layer(model: LanguageModel, depth: float) -> tuple[int]:
    return (max(1, round(depth * model.n_layers)),)


def _arithmetic(model: LanguageModel, n: int, seed: int) -> Works:
    drawn = arithmetic.items(n, seed)
    return {
        "lens": Workload([item.prompt for item in arithmetic.lens_items(drawn)]),
        "similarity": _sides(arithmetic.similarity_pairs(drawn)),
        "intervention": Workload([item.prompt for item in arithmetic.steering_items(drawn)][: n // 2]),
    }


def _languages(model: LanguageModel, n: int, seed: int) -> Works:
    """Continued sentences of English and each other language; running text up to every word that the lens is asked."""
    found = languages.parallel_sentences(8 * n, seed=seed)  # most have a word in common
    continuation = languages.known_continuation(model.tokenizer)
    found = readable(model, found, lambda s: languages.continued(s, continuation))
    sets = [s for s in languages.pair_sets(found, continuation) if s.ending == "continued" and "-" not in s.series]
    counts = languages.word_counts(languages.running_text("english", n, seed=seed))
    words, whole = [], []
    for s in sets:
        lines = languages.running_text(s.series, n // len(sets), seed=seed)
        known = languages.dictionary(s.series)
        whole += lines
        words += word_items(model, lines, s.series, known, counts, n_words=n, seed=seed)[0]
    return {
        "lens": Workload([item.prompt for item in words], texts=whole),
        "similarity": _sides([pair for s in sets for pair in s.pairs[: n // len(sets)]]),
    }


def _layers(model: LanguageModel, n: int, seed: int) -> Works:
    """Lines of every type, read at every position for P(type | token)."""
    found = languages.split_texts(max(1, n // 8), 1, seed=seed)
    lines = [encoding for some in found for encoding in fitting(model, some.read)[0]]
    places = [text_positions(model, encoding) for encoding in lines]
    return {"lens": Workload([encoding.text for encoding in lines], places=places, classes=len(found))}


def _steering(model: LanguageModel, n: int, seed: int) -> Works:
    """Prompts of every language, changed at as many first positions as the words have tokens."""
    tasks = [sentiment.task(name, max(1, n // 16), seed=seed, tagged=True) for name in languages.LANGUAGES]
    width = word_vector(model, *tasks[0].vectors["english"]).shape[1]
    prompts = [prompt.prompt for task in tasks for prompt in task.prompts]
    return {
        "intervention": Workload(
            prompts, places=[range(width)] * len(prompts), layers=_layer(model, PAPER_DEPTH), strengths=COEFFICIENTS
        )
    }


def _code(model: LanguageModel, n: int, seed: int) -> Works:
    """Programs up to every comma and every argument; up to the bracket of `range`."""
    found = code.programs(n, seed=seed)
    read = sites(model, [*code.comma_places(found)[0], *code.argument_places(found)[0]])[0]
    ranges = sites(model, code.range_places(found)[0], ahead=False)[0]
    push = RANGE_AS_RELEASED
    given = {"strengths": push.strengths, "new_tokens": push.max_new_tokens, "layers": tuple(push.tried(model))}
    return {
        "lens": Workload([site.prompt for site in read], texts=[program.text for program in found]),
        "intervention": Workload([site.prompt for site in ranges][: n // 4], **given),
    }


def _semantics(model: LanguageModel, n: int, seed: int) -> Works:
    """Sentences with their forms; sentences up to a name, behind another sentence."""
    known = semantics.meanings(seed=seed)
    pairs = readable(model, semantics.similarity_pairs(known, n // 2, seed=seed), lambda p: (p.a, p.b))
    roles = semantics.behind_another(semantics.role_items(known, n, seed=seed), known, seed=seed)
    return {"lens": Workload([item.prompt for item in roles]), "similarity": _sides(pairs)}


def _vision(model: LanguageModel, n: int, seed: int) -> Works:
    """Pictures with captions, read at every patch; pictures of two halves, one of which is overwritten from the middle
    layer on."""
    pairs = vision.similarity_pairs(vision.scenes(n // 4, seed=seed))
    halves = vision.recolour_items(vision.two_halves(n // 4, seed=seed, held_out=None), seed=seed)
    prompts = [asked(model, item.prompts[0]) for item in halves]
    places = [item.places(encoding) for item, encoding in zip(halves, model.encode(prompts), strict=True)]
    given = {"layers": tuple(range(model.n_layers // 2, model.n_layers + 1)), "mode": "replace", "strengths": (1.0,)}
    return {
        "lens": Workload([pair.a for pair in pairs]),
        "similarity": _sides(pairs),
        "intervention": Workload(prompts, places=places, **given, new_tokens=12),
    }


def _audio(model: LanguageModel, n: int, seed: int) -> Works:
    """Clips with labels, read at every frame; clips of animals that are asked about, pushed at every frame."""
    clips = audio.clips(n // 4, seed=seed)
    animals = audio.kind_items(audio.animal_clips(n // 8, seed=seed, held_out=None), "english")
    prompts: list[Prompt] = [audio.heard(clip) for clip in clips]
    given = {"layers": _layer(model, PUSH_DEPTH), "strengths": PUSHES, "new_tokens": 1}
    return {
        "lens": Workload(prompts),
        "similarity": Workload(prompts, [clip.label for clip in clips]),
        "intervention": Workload([asked(model, item.asked.prompt) for item in animals], **given),
    }


MEDIA = {"vision": "image", "audio": "sound"}
CHAPTERS: dict[str, Callable[[LanguageModel, int, int], Works]] = {
    "arithmetic": _arithmetic,
    "languages": _languages,
    "layers": _layers,
    "steering": _steering,
    "code": _code,
    "semantics": _semantics,
    "vision": _vision,
    "audio": _audio,
}
