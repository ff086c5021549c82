"""Service tasks: what goes on behind a scope's handles, without a user's task and without an error of its own.

They end when the scope has let go of its handles.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import one_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["open_services", "start_service"]

_LOG = logging.getLogger("trionet")


@asynccontextmanager
@enable_ki_protection
async def open_services() -> AsyncIterator[trio.Nursery]:
    """A nursery for service tasks, which never raise: an error of the body leaves as it is, not in a group.

    The tasks are cancelled when the body has ended.
    """
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as exc:  # noqa: BLE001, ASYNC103 - raised again below, outside of the nursery and its group
                error = exc
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Tasks that are cancelled together with the body say so in a group, in the place of what the body has raised.
        found = one_of(group)
        if error is None or not isinstance(found, trio.Cancelled):
            found.__context__, error = error, found
    if error is not None:
        try:
            raise error
        finally:
            del error  # the frame must not keep its own traceback alive


def start_service(services: trio.Nursery, service: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run `service` until `services` is cancelled. What it raises is logged, and ends nothing else. A step."""
    try:
        services.start_soon(_run, service, args, name=service)
    except RuntimeError:  # the nursery has ended: it is the parent's, and the parent was left before this scope
        trio.lowlevel.spawn_system_task(_run, service, args, name=service)


@enable_ki_protection  # a service has no user: Ctrl-C is for the tasks that have
async def _run(service: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
    try:
        await service(*args)
    except Exception:  # noqa: BLE001 - nobody awaits it, and its nursery is that of everybody's services
        _LOG.exception("a service task of trionet failed: %r", service)
