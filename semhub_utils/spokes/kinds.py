"""Questions of what kind of animal is heard, with the English words that are pushed into the sound."""

from collections.abc import Sequence
from dataclasses import dataclass

from semhub_utils.errors import SemhubError
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.items import LensItem


@dataclass(frozen=True, eq=False)
class KindItem:
    """A clip of an animal and a question of its kind. prompt: with SLOT where the sound is, or a plain question;
    answers: words of the language, of which the first says that it is a mammal and the others that it is not; right:
    which is true; other, alike: the English words of animals of the other class and of the own one."""

    clip: audio.Clip
    prompt: str
    answers: tuple[str, ...]
    right: int
    other: str
    alike: str

    @property
    def asked(self) -> LensItem:
        """The question with its sound, as an item: the true answer is its "own", the others are wrong."""
        wrong = (*self.answers[: self.right], *self.answers[self.right + 1 :])
        own = {"own": (self.answers[self.right],)}
        prompt = audio.heard(self.clip, self.prompt)
        return LensItem(self.clip.id, prompt, own, self.clip.cluster, wrong={"own": wrong}, anchor=self.clip.label)


def kind_items(
    clips: Sequence[audio.Clip], language: str, *, plain: bool = False, forms: Sequence[int] = (0,), seed: int = 0
) -> list[KindItem]:
    """What kind of animal is it? In the world's own sentences, once in each of `forms`; or, plainly, once, whether it
    is a mammal. Raises SemhubError on a clip without a kind, or a language or form that there is not."""
    if plain and language not in audio.YES_NO:
        raise SemhubError(f"There is no plain question in {language!r}; one of {', '.join(audio.YES_NO)} would do.")
    items = []
    for form in (0,) if plain else forms:
        for clip in clips:
            ask = clip.kind_ask
            others = audio.of_the_other_class(clip, seed=seed), audio.of_the_own_class(clip, seed=seed)
            if plain:
                said = audio.PLAIN["mammal"][language], audio.YES_NO[language], int(not clip.is_mammal)
            else:
                prompt, _ = audio.question(ask, language, form=form)
                answers = tuple(vision.word(kind, language) for kind in audio.KINDS)
                said = prompt, answers, audio.KINDS.index(clip.kind)
            items.append(KindItem(clip, *said, *others))
    return items
