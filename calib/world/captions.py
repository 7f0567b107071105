"""Draws scenes at random: a caption and a picture that keeps its promises."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from .palette import BACKGROUNDS, TEXTURES, colours_on
from .scene import SIZE, Group, Part, Relation, Scene, Stem

SIMPLE = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
ZONES = {
    (0, 0): "at the top left",
    (1, 0): "at the top",
    (2, 0): "at the top right",
    (0, 1): "at the left",
    (1, 1): "in the middle",
    (2, 1): "at the right",
    (0, 2): "at the bottom left",
    (1, 2): "at the bottom",
    (2, 2): "at the bottom right",
}
PLACES = {
    "above": "above",
    "below": "below",
    "left": "to the left of",
    "right": "to the right of",
}

_MARGIN = 3  # pixels between a simple shape and the canvas's edge; suns and trees come nearer
_HELD_OUT = 20  # one caption of so many is kept from training


def is_held_out(caption: str) -> bool:
    """Whether a caption is kept for scoring; the same on every machine."""
    return zlib.crc32(caption.encode()) % _HELD_OUT == 0


def scenes(seed: int, *, held_out: bool) -> Iterator[Scene]:
    """Endless scenes, of the training captions or of those kept for scoring.

    Args:
        seed: The same seed gives the same scenes.
        held_out: Which of the two sets.
    """
    index = 0
    while True:
        scene = make_scene(Random(f"{seed}/{index}"))
        if is_held_out(scene.caption) == held_out:
            yield scene
        index += 1


def make_scene(random: Random) -> Scene:
    """One scene of any kind."""
    make = random.choices([each for each, _ in _KINDS], [weight for _, weight in _KINDS])[0]
    background = random.choice(list(BACKGROUNDS))
    texture = random.choice(TEXTURES) if random.random() < 0.45 else "plain"
    drawn = make(random, list(colours_on(background)))
    ground = background if texture == "plain" else f"{texture} {background}"
    return Scene(
        caption=f"{drawn.text} on {_a(ground)} background",
        groups=drawn.groups,
        relations=drawn.relations,
        background=background,
        texture=texture,
        parts=drawn.parts,
        stems=drawn.stems,
        extras=drawn.extras,
    )


@dataclass(frozen=True)
class _Drawn:
    """A scene without its background."""

    text: str
    groups: tuple[Group, ...]
    parts: tuple[Part, ...]
    relations: tuple[Relation, ...] = ()
    stems: tuple[Stem, ...] = ()
    extras: tuple[str, ...] = ()


def _single(random: Random, colours: list[str]) -> _Drawn:
    """One shape, perhaps of a stated size, perhaps at a stated place."""
    shape, colour = random.choice(SIMPLE), random.choice(colours)
    size = random.choice(["small", "big", None])
    zone = random.choice(list(ZONES)) if random.random() < 0.75 else None
    radius = {"small": (11, 14), "big": (26, 31), None: (12, 29)}[size]
    part = _somewhere(random, shape, colour, random.uniform(*radius), zone)
    text = _a(f"{size} {colour} {shape}" if size else f"{colour} {shape}")
    text += f" {ZONES[zone]}" if zone else ""
    return _Drawn(text, (Group(1, colour, shape, size, zone),), (part,))


def _several(random: Random, colours: list[str]) -> _Drawn:
    """Two to four of the same."""
    shape, colour, count = random.choice(SIMPLE), random.choice(colours), random.randint(2, 4)
    parts: list[Part] = []
    radius = random.uniform(12, 17)
    while len(parts) < count:
        new = _somewhere(random, shape, colour, radius, None)
        apart = 2.3 * radius + 3
        if all((new.x - each.x) ** 2 + (new.y - each.y) ** 2 >= apart**2 for each in parts):
            parts.append(new)
    text = f"{NUMBERS[count]} {colour} {_plural(shape)}"
    return _Drawn(text, (Group(count, colour, shape),), tuple(parts))


def _pair(random: Random, colours: list[str]) -> _Drawn:
    """Two shapes and how they lie to each other."""
    place = random.choice(list(PLACES))
    names = [random.choice(SIMPLE) for _ in range(2)]
    first, second = random.sample(colours, 2)
    near, far = 0.29 * SIZE, 0.71 * SIZE
    ends = (near, far) if place in ("above", "left") else (far, near)
    upright = place in ("above", "below")
    parts = []
    for name, colour, along in zip(names, (first, second), ends, strict=True):
        radius = random.uniform(14, 21)
        across = 0.5 * SIZE + random.uniform(-22, 22)
        along += random.uniform(-6, 6)
        x, y = (across, along) if upright else (along, across)
        parts.append(Part(name, colour, x, y, radius, radius))
    text = f"{_a(f'{first} {names[0]}')} {PLACES[place]} {_a(f'{second} {names[1]}')}"
    groups = (Group(1, first, names[0]), Group(1, second, names[1]))
    return _Drawn(text, groups, tuple(parts), (Relation(0, place, 1),))


def _vase(random: Random, colours: list[str]) -> _Drawn:
    """A vase with one to three flowers on green stems."""
    vase, flower = random.sample([each for each in colours if each != "green"], 2)
    count = random.randint(1, 3)
    middle = 64 + random.uniform(-14, 14)
    spread = {1: [0], 2: [-19, 19], 3: [-30, 0, 30]}[count]
    body = Part("vase", vase, middle, 93, 29, 29)
    heads = [
        Part("flower", flower, middle + dx, 28 + abs(dx) * 0.3 + random.uniform(-4, 4), 14, 14)
        for dx in spread
    ]
    stems = tuple(Stem(middle + 0.15 * (each.x - middle), 66, each.x, each.y) for each in heads)
    # Below a flower the stem would show in its middle.
    stems = tuple(Stem(s.x1, s.y1, s.x2, each.y + 9) for s, each in zip(stems, heads, strict=True))
    flowers = "flower" if count == 1 else "flowers"
    text = f"{_a(f'{vase} vase')} with {NUMBERS[count]} {flower} {flowers}"
    groups = (Group(1, vase, "vase"), Group(count, flower, "flower"))
    return _Drawn(text, groups, (body, *heads), (Relation(1, "above", 0),), stems, ("green",))


def _house(random: Random, colours: list[str]) -> _Drawn:
    """A house with a roof, perhaps with a sun, a moon or a tree."""
    beside = random.choice([None, "sun", "moon", "tree"])
    usable = [each for each in colours if each != "brown" or beside != "tree"]
    wall, roof, other = random.sample(usable, 3)
    on_left = random.random() < 0.5
    shift = 0 if beside is None else 18 if on_left else -18
    middle = 64 + shift + random.uniform(-6, 6)
    parts = [
        Part("house", wall, middle, 93, 27, 27),
        Part("triangle", roof, middle, 54.5, 33, 20),
    ]
    groups = [Group(1, wall, "house"), Group(1, roof, "triangle")]
    relations = [Relation(1, "above", 0)]
    text = f"{_a(f'{wall} house')} with {_a(f'{roof} roof')}"
    extras: tuple[str, ...] = ()
    if beside in ("sun", "moon"):
        x = 24 if on_left else 104
        y = 24 + random.uniform(-3, 6)
        parts.append(Part(beside, other, x + random.uniform(-2, 6), y, 16, 16))
        text += f" under {_a(f'{other} {beside}')}"
        relations.append(Relation(2, "above", 0))
    elif beside == "tree":
        parts += _tree(other, middle - 62 if on_left else middle + 62, 0.8)
        text += f" next to {_a(f'{other} tree')}"
        extras = ("brown",)
    if beside:
        groups.append(Group(1, other, beside))
    return _Drawn(text, tuple(groups), tuple(parts), tuple(relations), extras=extras)


def _trees(random: Random, colours: list[str]) -> _Drawn:
    """A tree, perhaps under a sun or a moon."""
    light = random.choice([None, "sun", "moon"])
    crown, other = random.sample([each for each in colours if each != "brown"], 2)
    middle = 64 + random.uniform(-12, 12)
    parts, groups = [*_tree(crown, middle, 1)], [Group(1, crown, "tree")]
    relations: tuple[Relation, ...] = ()
    text = _a(f"{crown} tree")
    if light:
        x = random.choice([20, 108])
        parts.append(Part(light, other, x, 20 + random.uniform(0, 6), 15, 15))
        groups.append(Group(1, other, light))
        relations = (Relation(1, "above", 0),)
        text += f" under {_a(f'{other} {light}')}"
    return _Drawn(text, tuple(groups), tuple(parts), relations, extras=("brown",))


def _tree(colour: str, x: float, scale: float) -> list[Part]:
    x = min(max(x, 32 * scale + _MARGIN - 7), SIZE - 32 * scale - _MARGIN + 7)
    radius = 30 * scale if scale == 1 else 21.0
    crown = Part("tree", colour, x, 66 if scale == 1 else 74, radius, radius)
    foot = 120.0
    top = crown.y + radius * 0.75
    trunk = Part("trunk", "brown", x, (top + foot) / 2, 5 * scale, (foot - top) / 2)
    return [trunk, crown]


_KINDS: tuple[tuple[Callable[[Random, list[str]], _Drawn], float], ...] = (
    (_single, 0.28),
    (_several, 0.2),
    (_pair, 0.24),
    (_vase, 0.1),
    (_house, 0.12),
    (_trees, 0.06),
)


def _somewhere(
    random: Random, shape: str, colour: str, radius: float, zone: tuple[int, int] | None
) -> Part:
    """A part within the canvas, in a zone or anywhere."""
    low, high = radius + _MARGIN, SIZE - radius - _MARGIN
    if zone is None:
        x, y = random.uniform(low, high), random.uniform(low, high)
    else:
        x, y = (
            min(max(SIZE * (0.2 + 0.3 * index) + random.uniform(-5, 5), low), high)
            for index in zone
        )
    return Part(shape, colour, x, y, radius, radius)


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _plural(word: str) -> str:
    return f"{word}es" if word.endswith("s") else f"{word}s"
