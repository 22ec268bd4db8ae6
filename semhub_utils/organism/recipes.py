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
}


def recipe(name: str) -> Recipe:
    """The recipe of a name; SemhubError, naming those there are, for any other."""
    if name not in RECIPES:
        raise SemhubError(f"There is no recipe {name!r}; available: {', '.join(RECIPES)}.")
    return RECIPES[name]
