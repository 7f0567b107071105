"""Which calls of a U-Net calibration data keeps."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

# One prompt of so many is drawn without guidance.
UNGUIDED_EVERY = 4


@dataclass(frozen=True, order=True)
class ChosenCall:
    """A call to keep: the number of its prompt, and its own number in the prompt's run, from 0."""

    prompt: int
    call: int


def is_unguided(prompt: int) -> bool:
    """Whether a prompt, by its number, is drawn without guidance."""
    return prompt % UNGUIDED_EVERY == UNGUIDED_EVERY - 1


def choose_calls(prompts: int, calls: int, samples: int, seed: int) -> tuple[ChosenCall, ...]:
    """Chooses calls at random, spread evenly over the run and over the prompts.

    Each number of a call is chosen as often as every other, or once more; so is each prompt. Where
    there are fewer samples than calls in a run, the run is cut into as many stretches, and one call
    is chosen of each.

    Args:
        prompts: How many prompts there are.
        calls: Calls of each prompt's run.
        samples: How many to choose; all where there are no more.
        seed: The same seed chooses the same.

    Returns:
        The calls by prompt, then by number.
    """
    # Random with a string does the same on every version of Python since 3.2.
    random = Random(f"{seed}/calls")
    samples = min(samples, prompts * calls)
    every, more = divmod(samples, calls)
    numbers = [call for call in range(calls) for _ in range(every)]
    for part in range(more):
        numbers.append(random.randrange(part * calls // more, (part + 1) * calls // more))
    # Dealt out like cards, run after run: no prompt gets the same number twice, for no number comes
    # more often than there are prompts.
    order = _shuffled(prompts, random)
    dealt = (order[index % prompts] for index in range(samples))
    chosen = map(ChosenCall, dealt, sorted(numbers))
    return tuple(sorted(chosen))


def _shuffled(prompts: int, random: Random) -> list[int]:
    """All prompts in a random order that keeps the unguided ones evenly among the others."""
    guided = [prompt for prompt in range(prompts) if not is_unguided(prompt)]
    unguided = [prompt for prompt in range(prompts) if is_unguided(prompt)]
    random.shuffle(guided)
    random.shuffle(unguided)
    return [(unguided if is_unguided(place) else guided).pop() for place in range(prompts)]
