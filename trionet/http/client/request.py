"""One request of a client on its way: its slots, its connection, its redirects, its one retry.

A request holds slots of one origin at a time, from before it connects until its response has ended. A redirect gives
its response an end as the end of a block would, within bounds; where it leads to the same origin, the connection is the
next one's. What fails is judged once: nothing was sent, or it was and may have been carried out.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from trio.lowlevel import enable_ki_protection

from ...errors import BodyNotReplayableError, RemoteProtocolError, TooManyRedirectsError
from ...support.block import NeedsAsyncWith
from ...support.checks import check_flag
from ...support.generators import close_generator
from ...support.texts import amount
from ..content import NOTHING, make_content
from ..protocol.headers import Headers
from ..url.parts import for_people
from ..url.url import parse_url
from .redirect import next_request
from .retry import IDEMPOTENT, mark, mark_carried_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from yarl import URL

    from ..content import Content
    from ..protocol.prepared import PreparedRequest
    from ..url.url import Target
    from .client import HTTPClient
    from .connection import HTTPClientConnection
    from .pool import Site
    from .redirect import Next
    from .response import Response

__all__ = ["ClientRequest", "Plan"]


class Plan(NamedTuple):
    """How a request, or what a redirect made of it, is sent."""

    target: Target
    headers: Headers
    """What was given for it: a redirect goes on with these."""
    prepared: PreparedRequest


class ClientRequest(NeedsAsyncWith):
    """What `HTTPClient.request` returns: an asynchronous context manager of the `Response`."""

    __slots__ = ("_arguments", "_client", "_connection", "_keep", "_method", "_response", "_sending", "_site",
                 "_url")  # fmt: skip

    def __init__(self, client: HTTPClient, method: str, url: str | URL, keep: bool, *arguments: Any) -> None:
        self._client = client
        self._keep = keep
        self._method = method
        self._url = url
        self._arguments = arguments
        self._site: Site | None = None
        self._connection: HTTPClientConnection | None = None
        self._response: Response | None = None
        self._sending = False

    def _usage(self) -> str:
        return "a request is a block: write `async with client.request(...) as response`"

    @enable_ki_protection
    async def __aenter__(self) -> Response:
        if self._response is not None or self._sending:
            raise RuntimeError("this request was sent already; call request() again")
        client = self._client
        headers, content, json, params, follow, auth, expect_continue = self._arguments
        self._sending = True  # another task may have the same object, and would take this one's slot for its own
        try:
            if follow is not None:
                check_flag("follow_redirects", follow)
            body = NOTHING if content is None and json is None else make_content(content, json)
            if headers or params is not None or auth is not None or expect_continue or client.cookies is not None:
                plan = client.first_plan(
                    self._method, self._url, headers, body, params=params, auth=auth, expect_continue=expect_continue
                )
            else:
                plan = client.usual_plan(self._method, self._url, body)
            response, plan = await self._send(plan, body)
            if (client.follow_redirects if follow is None else follow) and 300 < response.status < 400:
                response = await self._follow(response, plan, body)
        except BaseException:
            self._sending = False
            self._give_back()
            await close_generator(content)  # noqa: ASYNC102, ASYNC120 - what it waits for is its own business
            raise
        self._response = response
        return response

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        response = self._response
        assert response is not None
        try:
            if not response._body.settled:
                await response._leave(exc)  # noqa: ASYNC102 - a cancelled block drains nothing
        finally:
            if (content := self._arguments[1]) is not None:
                await close_generator(content)  # noqa: ASYNC102 - as above; it may not have been asked for

    # --- one hop -------------------------------------------------------------------------------------------------

    async def _send(self, plan: Plan, content: Content) -> tuple[Response, Plan]:
        """Send what is planned, as the hooks have it, and receive the head of its response; with what was sent."""
        client = self._client
        if client.hooks.request:
            plan = await self._ask_hooks(plan)
        self._site = await client.pool.acquire(plan.target.origin)
        response = await self._exchange(plan.prepared, content)
        response._body.claim.lend(self._give_back, keep=self._keep)
        response.url = plan.target.url
        try:
            if client.cookies is not None:
                client.cookies.store(plan.target.url, response.headers)
            if client.hooks.response:
                await _call(client.hooks.response, response)
        except BaseException as exc:
            await response._leave(exc)  # noqa: ASYNC102, ASYNC120 - the connection is aborted, at once
            raise
        return response, plan

    async def _exchange(self, prepared: PreparedRequest, content: Content) -> Response:
        """The exchange, on an idle connection or a new one; once more, where that is known to be safe."""
        pool = self._client.pool
        assert self._site is not None
        self._connection = connection = pool.take_idle(self._site)
        if connection is not None:
            try:
                return await connection._exchange(prepared, content)
            except trio.BrokenResourceError:
                if connection._io.answered or prepared.method not in IDEMPOTENT or content.data is None:
                    raise
            pool.retried += 1
        self._connection = connection = await pool.open(self._site)  # noqa: ASYNC120 - only after a failure
        return await connection._exchange(prepared, content)

    async def _ask_hooks(self, plan: Plan) -> Plan:
        """What the hooks make of it: what a redirect leads on from."""
        from .client import HTTPRequest

        request = HTTPRequest(plan.prepared.method, plan.target.url, plan.headers)
        await _call(self._client.hooks.request, request)
        asked = self._client.plan(request.method, parse_url(request.url), Headers(request.headers))
        return asked._replace(headers=plan.headers)  # the next hop asks them again: what they add would add up

    @enable_ki_protection
    def _give_back(self) -> None:
        """The connection goes back to its pool, or ends; the next request may come. A step."""
        site, self._site = self._site, None
        connection, self._connection = self._connection, None
        if site is not None:
            if connection is not None:
                self._client.pool.put(site, connection)
            self._client.pool.release(site)

    # --- redirects -----------------------------------------------------------------------------------------------

    async def _follow(self, response: Response, plan: Plan, content: Content) -> Response:
        """Go where the response leads, and on, until there is one that leads nowhere."""
        history: list[Response] = []
        asked = ""  # what the program has asked for and got, where that is not to be done a second time
        while True:
            try:
                onward = self._next(response, plan, content, len(history))
            except Exception as exc:
                await response._leave(exc)  # noqa: ASYNC120 - the connection is aborted, at once
                mark(exc, asked or plan.prepared.method, lasts=True)
                raise
            if onward is None:
                response.history = tuple(history)
                return response
            await response._leave(None)
            history.append(response)
            if onward.drops_body:
                content = NOTHING
            if onward.method != plan.prepared.method not in IDEMPOTENT:
                asked = plan.prepared.method
            plan = self._client.plan(onward.method, onward.target, onward.headers)
            response, plan = await self._send_on(plan, content, asked)

    async def _send_on(self, plan: Plan, content: Content, asked: str) -> tuple[Response, Plan]:
        """As `_send`; what goes wrong is judged by what was `asked` for and got before, if anything was."""
        try:
            response, plan = await self._send(plan, content)
        except Exception as exc:
            if asked:
                mark_carried_out(exc, asked)
            raise
        response._body.asked = asked or response.method
        return response, plan

    def _next(self, response: Response, plan: Plan, content: Content, followed: int) -> Next | None:
        """What the response asks to be sent next, if that can be done.

        Raises:
            TooManyRedirectsError, BodyNotReplayableError, LocalProtocolError, RemoteProtocolError: it cannot.
        """
        client = self._client
        method, locations = plan.prepared.method, response.headers.get_list("location")
        location = locations[0] if locations else None
        onward = next_request(
            response.status, location, method, plan.target, plan.headers, allow_downgrade=client.allow_downgrade
        )
        if onward is None:
            return None
        if len(locations) > 1:
            raise RemoteProtocolError(f"redirect ({response.status}) with {len(locations)} Location fields", 502)
        if followed >= client.max_redirects:
            raise TooManyRedirectsError(
                f"{method} {for_people(plan.target.url)} leads on to {for_people(location)!r}, "
                f"after {amount(followed, 'redirect')}; at most {client.max_redirects} are followed (max_redirects)"
            )
        if not onward.drops_body and not content.replayable:
            raise BodyNotReplayableError(
                f"{method} {for_people(plan.target.url)} was answered with {response.status}: its body has to be sent "
                f"again, to {for_people(location)!r}, and can be produced only once; give bytes, or "
                f"follow_redirects=False"
            )
        return onward


async def _call(hooks: Iterable[Callable[[Any], Any]], subject: Any) -> None:
    for hook in hooks:
        result = hook(subject)
        if inspect.isawaitable(result):
            await result
