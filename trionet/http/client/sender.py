"""What a client does for each hop of a request: hooks, the exchange, cookies, hooks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ..protocol.headers import Headers
from ..url.url import parse_url
from .hooks import HTTPRequest, call
from .hop import Hop

if TYPE_CHECKING:
    from ..content import Content
    from .cookies import Cookies
    from .hooks import Hooks
    from .plan import Plan, Planner
    from .pool import Pool
    from .response import Response

__all__ = ["Sender"]


class Sender:
    """Sends what a client has planned: what all of its requests have in common.

    Attributes:
        planner: Plans them.
        pool: Has their connections.
    """

    __slots__ = ("_cookies", "_hooks", "planner", "pool")

    def __init__(self, planner: Planner, pool: Pool, cookies: Cookies | None, hooks: Hooks) -> None:
        self.planner = planner
        self.pool = pool
        self._cookies = cookies
        self._hooks = hooks

    @enable_ki_protection
    async def send(self, plan: Plan, content: Content, *, keep: bool) -> tuple[Response, Plan]:
        """Send what is planned, as the hooks have it, and receive the head of its response; with what was sent.

        Raises and Cancellation: as `HTTPClient.request`.
        """
        if self._hooks.request:
            plan = await self._ask_hooks(plan)
        target = plan.target
        response = await Hop(self.pool).exchange(target.origin, plan.prepared, content, keep=keep)
        response._url = target.url
        try:
            if self._cookies is not None:
                self._cookies.store(target.url, response.headers)
            if self._hooks.response:
                await call(self._hooks.response, response)
        except BaseException as exc:
            await response._leave(exc)  # noqa: ASYNC102, ASYNC120 - the connection is aborted, at once
            raise
        return response, plan

    async def _ask_hooks(self, plan: Plan) -> Plan:
        """What the hooks make of it: what a redirect leads on from."""
        request = HTTPRequest(plan.prepared.method, plan.target.url, plan.headers)
        await call(self._hooks.request, request)
        changed = self.planner.plan_for(request.method, parse_url(request.url), Headers(request.headers))
        return changed._replace(headers=plan.headers)  # the next hop asks them again: what they add would add up
