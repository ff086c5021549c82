"""What can happen next in a world: the families of moves put together.

They come in families, so that a search can look at some of them with many bytes or a long chain, and at others with
many tasks.
"""

from __future__ import annotations

from collections.abc import Callable

from .bounds import Bounds
from .changes import capsule, chaining, door, upgrading
from .endings import closing, draining, ending, peer, scopes
from .moves import Moves, Rules
from .operations import buffering, leasing, reading, writing
from .state import Capsule, Handle, World
from .world import Machine, Step


class Game(Rules):
    """The rules by which a world unfolds: bounds, the machine, and the hands that carry out its effects."""

    def __init__(self, bounds: Bounds, machine: Machine | None = None, hands: type[Step] = Step) -> None:
        super().__init__(bounds, machine, hands)
        self.families = tuple(family for name, family in FAMILIES.items() if name in bounds.families)

    def moves(self, world: World) -> Moves:
        """Everything that can happen next."""
        yield from peer(self, world)
        yield from scopes(self, world)
        for i, node in enumerate(world.nodes):
            if isinstance(node, Capsule):
                yield from capsule(self, world, i, node)
            elif node.live:
                for family in self.families:
                    yield from family(self, world, i, node)
            else:
                yield from stale(self, world, i, node)


def stale(game: Game, world: World, i: int, handle: Handle) -> Moves:
    """Commands and late events on a handle that has ended: only a broken machine lets them do anything."""
    for event in game.machine.stirs(handle.life):
        step = game.step(world)
        step.next = step.twin(i, handle.scope), handle.scope
        step.take(i, event)
        yield f"{event.value} on the old handle #{i}", step
    yield from door(game, world, i, handle)


Family = Callable[[Game, World, int, Handle], Moves]

FAMILIES: dict[str, Family] = {
    "reading": reading,
    "writing": writing,
    "leasing": leasing,
    "buffering": buffering,
    "chaining": chaining,
    "door": door,
    "upgrading": upgrading,
    "closing": closing,
    "draining": draining,
    "ending": ending,
}
