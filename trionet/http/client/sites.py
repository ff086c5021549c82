"""Slots: how many requests a client carries at a time, to each origin and to all of them, and whose turn it is.

A request first takes a slot of its origin, then one of the client's, both first come first served. In this order,
because a request that waits for a busy origin must not hold a slot that a request to another origin could use.
Semaphores keep the accounts: they are fair, and no slot is lost when a task is cancelled while it waits, or in the
moment in which it is given one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ...errors import ScopeClosedError
from .retry import mark_unsent

if TYPE_CHECKING:
    from ...custody.owner import Owner
    from ..url.url import Origin
    from .connection import HTTPClientConnection

__all__ = ["Site", "Slots"]


class Site:
    """What a client has for one origin.

    Attributes:
        origin: The origin.
        slots: Those that are free.
        idle: Connections to it, in the order in which they became idle.
        users: Requests that hold a slot of it or wait for one.
    """

    __slots__ = ("idle", "origin", "slots", "users")

    def __init__(self, origin: Origin, max_requests: int) -> None:
        self.origin = origin
        self.slots = trio.Semaphore(max_requests)
        self.idle: dict[HTTPClientConnection, None] = {}
        self.users = 0


class Slots:
    """The slots of one client, and its sites: those that are in use.

    Args:
        owner: Owns the connections; when it closes, no more slots are given.
        most: Slots for all origins together.
        most_per_origin: For one of them.

    Attributes:
        sites: By origin.
        running: Requests that hold their slots.
        waiting: Requests that wait for one.
    """

    __slots__ = ("_free", "_most_per_origin", "_owner", "running", "sites", "waiting")

    def __init__(self, owner: Owner, most: int, most_per_origin: int) -> None:
        self._owner = owner
        self._most_per_origin = most_per_origin
        self._free = trio.Semaphore(most)
        self.sites: dict[Origin, Site] = {}
        self.running = self.waiting = 0

    def check_open(self) -> None:
        """Raise `ScopeClosedError` if the client is closing or closed. A step."""
        try:
            self._owner.check_open("request")
        except ScopeClosedError as exc:
            mark_unsent(exc)
            raise

    @enable_ki_protection
    async def acquire(self, origin: Origin) -> Site:
        """Wait for the slots of a request; `release` gives them back. Not a checkpoint if both are free.

        Raises:
            ScopeClosedError: the client is closing or closed, or was closed meanwhile.

        Cancellation: no slot is held.
        """
        self.check_open()
        site = self.sites.get(origin)
        if site is None:
            site = self.sites[origin] = Site(origin, self._most_per_origin)
        site.users += 1
        if site.slots.value and self._free.value:
            site.slots.acquire_nowait()
            self._free.acquire_nowait()
        else:
            await self._wait(site)
        self.running += 1
        return site

    async def _wait(self, site: Site) -> None:
        self.waiting += 1
        try:
            await site.slots.acquire()
            try:
                await self._acquire_free()
            except BaseException:
                site.slots.release()
                raise
        except BaseException:
            self._left(site)
            raise
        finally:
            self.waiting -= 1

    async def _acquire_free(self) -> None:
        await self._free.acquire()
        try:
            self.check_open()
        except BaseException:
            self._free.release()
            raise

    @enable_ki_protection
    def release(self, site: Site) -> None:
        """The request is over: the next one may come. A step."""
        self.running -= 1
        self._free.release()
        site.slots.release()
        self._left(site)

    def _left(self, site: Site) -> None:
        site.users -= 1
        if not site.users and not site.idle:
            self.sites.pop(site.origin, None)

    def forget_unused(self, site: Site) -> None:
        """A site has lost an idle connection: it is forgotten with the last one, if no request needs it. A step."""
        if not site.users and not site.idle:
            self.sites.pop(site.origin, None)

    def wake_all(self) -> None:
        """The client is about to close: tasks that wait for a slot find the door shut. A step.

        One extra slot for each queue is enough: the task that is woken by it hands it on.
        """
        for site in self.sites.values():
            site.slots.release()
        self._free.release()
