"""The organisms' recipes: four small typed configurations, alike but for what their names say."""

from __future__ import annotations

from dataclasses import replace

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import Recipe
from semhub_utils.organism.world import World

HUB = Recipe("hub")
RECIPES: dict[str, Recipe] = {
    "hub": HUB,
    # the same budget, shape, types and sentence forms; nothing to share
    "islands": replace(HUB, name="islands", world=World(private=True)),
    # English alone for most of the way, if partly in the others' sentence forms and heard in accents; then the others'
    # words on a frozen body, briefly: a long time finds ways to learn the taught facts by heart in the blocks left free
    "planted": replace(
        HUB,
        name="planted",
        steps=1800,
        english_first=0.85,
        noise=0.15,
        bridge=0.0,
        types=(
            ("en", 0.28),
            ("es", 0.15),
            ("zh", 0.15),
            ("de", 0.15),
            ("code", 0.15),
            ("digits", 0.10),
            ("logic", 0.02),
        ),
    ),
    # no dominant language: about as many tokens of each, any two types joined
    "balanced": replace(
        HUB,
        name="balanced",
        english_first=0.0,
        pivot=None,
        types=(
            ("en", 0.19),
            ("es", 0.17),
            ("zh", 0.20),
            ("de", 0.15),
            ("code", 0.12),
            ("digits", 0.14),
            ("logic", 0.03),
        ),
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of a name; SemhubError, naming those there are, for any other."""
    if name not in RECIPES:
        raise SemhubError(f"There is no recipe {name!r}; available: {', '.join(RECIPES)}.")
    return RECIPES[name]
