"""One request of a client, as a block: what is planned and sent when it is entered, and settled when it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from ...support.block import NeedsAsyncWith
from ...support.checks import check_flag
from ...support.generators import close_generator
from ..content import NOTHING, make_content
from .following import Following

if TYPE_CHECKING:
    from types import TracebackType

    from yarl import URL

    from ..content import Content
    from .plan import Plan
    from .response import Response
    from .sender import Sender

__all__ = ["ClientRequest"]


class ClientRequest(NeedsAsyncWith):
    """What `HTTPClient.request` returns: an asynchronous context manager of the `Response`."""

    __slots__ = ("_arguments", "_entered", "_method", "_redirects", "_response", "_sender", "_url")

    def __init__(
        self, sender: Sender, redirects: tuple[bool, int, bool], method: str, url: str | URL, *arguments: Any
    ) -> None:
        self._sender = sender
        self._method = method
        self._url = url
        self._redirects = redirects  # whether they are followed, how many at most, and whether they may lead to http
        self._arguments = arguments
        self._response: Response | None = None
        self._entered = False

    def _usage(self) -> str:
        return "a request is a block: write `async with client.request(...) as response`"

    @enable_ki_protection
    async def __aenter__(self) -> Response:
        if self._entered:
            raise RuntimeError("this request was sent already; call request() again")
        self._entered = True  # another task may have the same object, and would take this one's slot for its own
        headers, content, json, keep, *others = self._arguments
        sender, (follow, most, downgrade) = self._sender, self._redirects
        try:
            if follow is not True:
                check_flag("follow_redirects", follow)
            body = NOTHING if content is None and json is None else make_content(content, json)
            plan = self._planned(headers, body, *others)
            response, plan = await sender.send(plan, body, keep=keep)
            if follow and 300 < response.status < 400:
                response = await Following(sender, keep, most, downgrade).follow(response, plan, body)
        except BaseException:
            self._entered = False
            await close_generator(content)  # noqa: ASYNC102, ASYNC120 - what it waits for is its own business
            raise
        self._response = response
        return response

    def _planned(self, headers: Any, body: Content, params: Any, auth: Any, expect_continue: bool) -> Plan:
        planner = self._sender.planner
        if headers or params is not None or auth is not None or expect_continue:
            return planner.plan_with(
                self._method, self._url, headers, body, params=params, auth=auth, expect_continue=expect_continue
            )
        return planner.plan(self._method, self._url, body)

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
