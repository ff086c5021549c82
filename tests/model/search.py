"""Breadth-first search over every interleaving, so the first violation that it finds has the shortest story."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from tests.helpers.untraced import untraced

from .bounds import Bounds
from .game import Game
from .invariants import wrong, wrong_step
from .state import World, beginning
from .world import Machine, MachineError, Step

# What happens by itself once a scope is being left: no new command, no act of the peer, no deadline, no force.
_BY_ITSELF = (
    "was woken",
    "cancelled #",
    "all was sent",
    "EOF is out",
    "lease ends",
    "is flushed",
    "waiter goes on",
    "drain goes on",
    "goodbye was said",
    "goes on leaving",
)
_NOT_BY_ITSELF = ("aclose cancelled",)


@dataclass
class Found:
    """What a search came to."""

    bounds: str
    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    violation: str = ""
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.bounds:<9} {self.states:>8,} states {self.transitions:>10,} transitions"
            f"  depth {self.depth:>2}  {self.seconds:5.1f} s  {self.violation or 'no violation'}"
        )


class Search:
    """One search. `run` it once."""

    def __init__(self, bounds: Bounds, machine: Machine | None = None, hands: type[Step] = Step) -> None:
        self.game = Game(bounds, machine, hands)
        self.found = Found(bounds.name)
        self.parents: dict[World, tuple[World, str] | None] = {}
        self._leads_here: defaultdict[World, list[World]] = defaultdict(list)

    def run(self) -> Found:
        """Every reachable world, until one is wrong."""
        began = time.perf_counter()
        with untraced():
            self._expand_all()
            if not self.found.violation:
                self._check_exits()
        self.found.states = len(self.parents)
        self.found.seconds = time.perf_counter() - began
        return self.found

    def _expand_all(self) -> None:
        level = [beginning()]
        self.parents[level[0]] = None
        while level and not self.found.violation:
            self.found.depth += 1
            level = [after for world in level for after in self._try_expanding(world)]

    def _try_expanding(self, world: World) -> list[World]:
        try:
            return self._expand(world)
        except MachineError as exc:
            self._violated(str(exc), world)
            return []

    def _expand(self, world: World) -> list[World]:
        """The worlds that this one leads to and that were not known."""
        fresh: list[World] = []
        leaving = "leaving" in world.scopes
        for label, step in self.game.moves(world):
            self.found.transitions += 1
            after = step.world()
            if problem := wrong_step(world, after):
                self._violated(problem, world, label)
            if after not in self.parents:
                self.parents[after] = world, label
                fresh.append(after)
                if problem := wrong(after):
                    self._violated(problem, world, label)
            if leaving and _by_itself(label):
                self._leads_here[after].append(world)
        return fresh

    def _violated(self, problem: str, world: World, *labels: str) -> None:
        if not self.found.violation:
            self.found.violation = problem
            self.found.trace = [*self._path(world), *labels]

    def _path(self, world: World) -> list[str]:
        path: list[str] = []
        while (parent := self.parents[world]) is not None:
            world, label = parent
            path.append(label)
        return path[::-1]

    def _check_exits(self) -> None:
        """From every world in which a scope is being left, it ends by itself: no wake-up is lost on the way."""
        good = {world for world in self.parents if "leaving" not in world.scopes}
        todo = list(good)
        while todo:
            for before in self._leads_here.get(todo.pop(), ()):
                if before not in good:
                    good.add(before)
                    todo.append(before)
        for world in self.parents:
            if world not in good:
                self._violated("the scope can be left by its deadline only, though nothing is in progress", world)
                return


def _by_itself(label: str) -> bool:
    return any(words in label for words in _BY_ITSELF) and not any(words in label for words in _NOT_BY_ITSELF)
