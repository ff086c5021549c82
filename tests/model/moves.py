"""What all moves are made of: a label for the story, and the step that was taken."""

from __future__ import annotations

from collections.abc import Iterator

from trionet.ownership import Event, Refuse

from .bounds import Bounds
from .state import Handle, World
from .world import Machine, Step

Moves = Iterator[tuple[str, Step]]


class Rules:
    """Bounds, the machine, and the hands that carry out its effects."""

    def __init__(self, bounds: Bounds, machine: Machine | None = None, hands: type[Step] = Step) -> None:
        self.bounds = bounds
        self.machine = machine or Machine()
        self.hands = hands

    def step(self, world: World) -> Step:
        """A step that starts from this world."""
        return self.hands(world, self.machine)

    def allows(self, handle: Handle, event: Event) -> bool:
        """Whether the machine would take the event; a refusal is checked to change nothing on the way."""
        return not isinstance(self.machine.step(handle.life, event)[1], Refuse)

    def harmless(self, handle: Handle, event: Event) -> bool:
        """Whether the event is refused or ignored, and changes nothing at all."""
        life, answer = self.machine.step(handle.life, event)
        return life == handle.life and (isinstance(answer, Refuse) or answer == ())


def take(game: Rules, world: World, i: int, event: Event, name: str = "") -> Moves:
    """The handle takes one event, if that comes to anything."""
    handle = world.nodes[i]
    assert isinstance(handle, Handle)
    if not game.harmless(handle, event):
        step = game.step(world)
        step.take(i, event)
        yield f"{name or event.value} #{i}", step


def moving(game: Rules, world: World, i: int, name: str) -> tuple[str, Step]:
    """A label and a step in which more than one event is taken."""
    return f"{name} #{i}", game.step(world)
