"""What the chapters ask of the instruments, for `bench`: a declared experiment with its items is a workload.

An intervention adds one random vector where a chapter adds its own: the time is the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .errors import need
from .experiments.alike import Alike
from .experiments.core import Experiment, readable
from .experiments.interventions import RANGE_AS_RELEASED, Steering
from .experiments.unsaid import Ands, Roles
from .experiments.words import Lens, word_items
from .inputs import Prompt
from .models import LanguageModel
from .spokes import arithmetic, audio, code, languages, semantics, sentiment, vision

STRENGTHS, DEPTH = Steering().strengths, 25 / 32  # the paper's, for arithmetic
MEDIA = {"vision": "image", "audio": "sound"}


@dataclass(frozen=True)
class Workload:
    """Prompts to be read and changed, and for similarity their other sides. every: at all positions, not at those of
    pictures and sounds, or the last one. depth, strengths, new_tokens: of an intervention; of one new token the
    log-probability is what is read."""

    a: Sequence[Prompt]
    b: Sequence[Prompt] = ()
    every: bool = False
    depth: float = DEPTH
    strengths: tuple[float, ...] = STRENGTHS
    new_tokens: int = 16


Works = dict[str, Workload]
"""By instrument: "lens", "similarity", "intervention"."""


def workloads(chapter: str, model: LanguageModel, n: int) -> Works:
    """What a chapter, one of CHAPTERS, gives its instruments on this model; `n` prompts or so where they are short, and
    fewer where they are long. Raises SemhubError where the model does not take what the chapter's items hold, or they
    leave it nothing to read."""
    takes = MEDIA.get(chapter, "text") in model.modalities
    what = f"The items of {chapter} hold {MEDIA.get(chapter)}s, which {model.model_id} does not take"
    need(takes, f"{what}; a model that does would do.")
    return {instrument: work for instrument, work in CHAPTERS[chapter](model, n, 0).items() if len(work.a) > 1}


def of(experiment: Experiment, model: LanguageModel, items: Sequence) -> Workload:
    """What an experiment reads of these items."""
    kept = experiment.fit(model, items)
    prompts = [item.prompt for item in kept.items] if kept.prompts is None else kept.prompts
    return Workload(prompts, [item.b for item in kept.items] if isinstance(experiment, Alike) else ())


def _arithmetic(model: LanguageModel, n: int, seed: int) -> Works:
    drawn = arithmetic.items(n, seed)
    return {
        "lens": of(Lens("word", "digit"), model, arithmetic.lens_items(drawn)),
        "similarity": of(Alike(), model, arithmetic.similarity_pairs(drawn)),
        "intervention": Workload([item.prompt for item in arithmetic.steering_items(drawn)][: n // 2]),
    }


def _languages(model: LanguageModel, n: int, seed: int) -> Works:
    """Continued sentences of Spanish and English; running text up to every word that the lens is asked."""
    found = languages.parallel_sentences(8 * n, seed=seed)  # most have a word in common
    continuation = languages.known_continuation(model.tokenizer)
    found = readable(model, found, lambda s: languages.continued(s, continuation))
    sets = (s for s in languages.pair_sets(found, continuation) if s.ending == "continued")
    pairs = next(s.pairs for s in sets if s.series == "spanish")
    lines, known = languages.running_text("spanish", n, seed=seed), languages.dictionary("spanish")
    words = word_items(model, lines, "spanish", known, {}, n_words=n, seed=seed)
    return {"lens": of(Lens("english", "own"), model, words), "similarity": of(Alike(), model, pairs[:n])}


def _layers(model: LanguageModel, n: int, seed: int) -> Works:
    lines = [line for some in languages.split_texts(max(1, n // 8), 1, seed=seed) for line in some.read]
    return {"lens": Workload(readable(model, lines, lambda line: line), every=True)}


def _steering(model: LanguageModel, n: int, seed: int) -> Works:
    tasks = [sentiment.task(name, max(1, n // 16), seed=seed, tagged=True) for name in languages.LANGUAGES]
    prompts = [prompt.prompt for task in tasks for prompt in task.prompts]
    return {"intervention": Workload(prompts, every=True, depth=17 / 32, strengths=(-4.0, -2.0, 0.0, 2.0, 4.0))}


def _code(model: LanguageModel, n: int, seed: int) -> Works:
    """Programs up to every comma, and up to the bracket of `range`."""
    found, push = code.programs(n, seed=seed), RANGE_AS_RELEASED
    ranges = [place.text[: place.at] for place in code.range_places(found)][: n // 4]
    given = {"depth": push.depth, "strengths": push.strengths, "new_tokens": push.max_new_tokens}
    return {"lens": of(Ands(), model, code.comma_places(found)), "intervention": Workload(ranges, **given)}


def _semantics(model: LanguageModel, n: int, seed: int) -> Works:
    """Sentences with their forms; sentences up to a name."""
    known = semantics.meanings(seed=seed)
    pairs = readable(model, semantics.similarity_pairs(known, n // 2, seed=seed), lambda p: (p.a, p.b))
    roles = of(Roles(()), model, semantics.role_items(known, n, seed=seed))
    return {"lens": roles, "similarity": of(Alike(), model, pairs)}


def _vision(model: LanguageModel, n: int, seed: int) -> Works:
    """Pictures with captions, read and changed at every patch."""
    pairs = vision.similarity_pairs(vision.scenes(n // 4, seed=seed))
    pictures = Workload([pair.a for pair in pairs], depth=0.5, strengths=(1.0,), new_tokens=12)
    return {"lens": pictures, "similarity": of(Alike(), model, pairs), "intervention": pictures}


def _audio(model: LanguageModel, n: int, seed: int) -> Works:
    """Clips with labels, read and changed at every frame."""
    clips = audio.clips(n // 4, seed=seed)
    given = {"depth": 13 / 32, "strengths": (0.0, *map(float, range(10, 101, 10))), "new_tokens": 1}  # the paper's
    sounds = Workload([audio.heard(clip) for clip in clips], [clip.label for clip in clips], **given)
    return dict.fromkeys(("lens", "similarity", "intervention"), sounds)


CHAPTERS: dict[str, Callable[[LanguageModel, int, int], Works]] = {
    work.__name__[1:]: work
    for work in (_arithmetic, _languages, _layers, _steering, _code, _semantics, _vision, _audio)
}
