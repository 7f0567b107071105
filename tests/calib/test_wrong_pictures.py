"""Pictures that are wrong in one thing: that costs its attribute, and no other.

Every change makes of a held-out scene one that differs in one thing, or None where it does not fit.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
from kdexport.calib.world.captions import SIMPLE, scenes
from kdexport.calib.world.paint import paint
from kdexport.calib.world.palette import BACKGROUNDS, colours_on
from kdexport.calib.world.scene import SIZE, Part
from kdexport.calib.world.score import judge


def recoloured(scene):
    """Another colour for the first group: nothing that the caption says of that group holds."""
    group = scene.groups[0]
    used = {*scene.extras, *(each.colour for each in scene.groups)}
    free = [colour for colour in colours_on(scene.background) if colour not in used]
    return swapped(scene, group, colour=free[0]) if free else None


def reshaped(scene):
    group = scene.groups[0]
    if group.shape not in SIMPLE:
        return None
    other = SIMPLE[(SIMPLE.index(group.shape) + 1) % len(SIMPLE)]
    return swapped(scene, group, shape=other)


def one_fewer(scene):
    group = scene.groups[0]
    return replace(scene, parts=scene.parts[:-1]) if group.count > 1 else None


def one_more(scene):
    """Another of the only group; it has no place that it could leave."""
    (group, *others), part = scene.groups, scene.parts[0]
    corners = [(20, 20), (SIZE - 20, 20), (20, SIZE - 20), (SIZE - 20, SIZE - 20)]
    far = [c for c in corners if all(np.hypot(p.x - c[0], p.y - c[1]) > 50 for p in scene.parts)]
    if others or group.shape not in SIMPLE or group.zone or group.size or not far:
        return None
    return replace(scene, parts=(*scene.parts, Part(part.shape, part.colour, *far[0], 15, 15)))


def a_stranger(scene):
    """A thing that the caption does not name."""
    (group, *others), part = scene.groups, scene.parts[0]
    colour = "red" if group.colour != "red" else "blue"
    if others or len(scene.parts) > 1 or colour not in colours_on(scene.background):
        return None
    x, y = (20 if middle > SIZE / 2 else SIZE - 20 for middle in (part.x, part.y))
    if np.hypot(part.x - x, part.y - y) < part.width * 1.5 + 15:
        return None
    return replace(scene, parts=(part, Part("heart", colour, x, y, 14, 14)))


def moved(scene):
    """A single thing to the opposite side."""
    part, zone = scene.parts[0], scene.groups[0].zone
    if zone in (None, (1, 1)):
        return None
    return replace(scene, parts=(replace(part, x=SIZE - part.x, y=SIZE - part.y),))


def exchanged(scene):
    """The two things of a pair, each where the other was."""
    if not scene.relations or not all(part.shape in SIMPLE for part in scene.parts):
        return None
    first, second = scene.parts
    return replace(
        scene, parts=(replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y))
    )


def resized(scene):
    (part, *_), group = scene.parts, scene.groups[0]
    if group.size is None:
        return None
    radius = 29 if group.size == "small" else 12
    x, y = (min(max(each, radius + 3), SIZE - radius - 3) for each in (part.x, part.y))
    return replace(scene, parts=(replace(part, x=x, y=y, width=radius, height=radius),))


def on_another_background(scene):
    used = {*scene.extras, *(group.colour for group in scene.groups)}
    fit = [b for b in BACKGROUNDS if b != scene.background and used <= set(colours_on(b))]
    return replace(scene, background=fit[0]) if fit else None


def swapped(scene, group, **change):
    parts = tuple(
        replace(part, **change) if part.colour == group.colour else part for part in scene.parts
    )
    return replace(scene, parts=parts)


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (recoloured, {"colour", "shape", "count", "position", "size"}),
        (reshaped, {"shape"}),
        (one_fewer, {"count"}),
        (one_more, {"count"}),
        (a_stranger, {"count"}),
        (moved, {"position"}),
        (exchanged, {"position"}),
        (resized, {"size"}),
        (on_another_background, {"background"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_costs_its_attribute_and_no_other(change, lost):
    wrong = [(scene, change(scene)) for scene in islice(scenes(0, held_out=True), 300)]
    wrong = [(scene, other) for scene, other in wrong if other is not None][:12]
    assert len(wrong) == 12
    for scene, other in wrong:
        before, after = (asdict(judge(scene, paint(each))) for each in (scene, other))
        stated = {name for name, value in before.items() if value is not None}
        assert False not in before.values()
        assert {name for name, value in after.items() if value is False} == lost & stated
