"""Following redirects: from one response to the next request, until a response leads nowhere.

What a redirect asks for is worked out in `redirect`, without I/O. Here it is carried out. A response that redirects is
given an end as the end of a block would give it: its body is drained within the bounds, so that a redirect to the same
origin goes out on the same connection. What cannot be followed is an error, since the program has asked for the final
response.

A redirect can make an error look harmless: the server carries a POST out, leads on with 303, and the GET behind that
fails. Sending the whole request again would carry the POST out twice. So once a request that is not idempotent has led
on to another one, errors are judged by the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...errors import BodyNotReplayableError, RemoteProtocolError, TooManyRedirectsError
from ...support.texts import amount
from ..content import NOTHING
from ..url.parts import for_people
from .redirect import next_request
from .retry import IDEMPOTENT, mark, mark_carried_out

if TYPE_CHECKING:
    from ..content import Content
    from .plan import Plan
    from .redirect import Next
    from .response import Response
    from .sender import Sender

__all__ = ["Following"]


class Following(NamedTuple):
    """How one request follows redirects."""

    sender: Sender
    keep: bool
    """Whether its responses keep their connections."""
    max_redirects: int
    allow_downgrade: bool

    async def follow(self, response: Response, plan: Plan, content: Content) -> Response:
        """Go where the response leads, and on, until there is one that leads nowhere.

        Raises and Cancellation: as `HTTPClient.request`.
        """
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
            plan = self.sender.planner.plan_for(onward.method, onward.target, onward.headers)
            response, plan = await self._send_on(plan, content, asked)

    async def _send_on(self, plan: Plan, content: Content, asked: str) -> tuple[Response, Plan]:
        """As `Sender.send`; what goes wrong is judged by what was `asked` for and got before, if anything was."""
        try:
            response, plan = await self.sender.send(plan, content, keep=self.keep)
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
        method, locations = plan.prepared.method, response.headers.get_list("location")
        location = locations[0] if locations else None
        onward = next_request(
            response.status, location, method, plan.target, plan.headers, allow_downgrade=self.allow_downgrade
        )
        if onward is None:
            return None
        if len(locations) > 1:
            shown = ", ".join(repr(for_people(each)) for each in locations)
            raise RemoteProtocolError(
                f"redirect ({response.status}) from {for_people(plan.target.url)} cannot be followed: it has "
                f"{len(locations)} Location fields ({shown}), and only one is allowed",
                502,
            )
        if followed >= self.max_redirects:
            raise TooManyRedirectsError(
                f"{method} {for_people(plan.target.url)} leads on to {for_people(location)!r}, "
                f"after {amount(followed, 'redirect')}; at most {self.max_redirects} are followed (max_redirects)"
            )
        if not onward.drops_body and not content.replayable:
            raise BodyNotReplayableError(
                f"{method} {for_people(plan.target.url)} was answered with {response.status}: its body has to be sent "
                f"again, to {for_people(location)!r}, and can be produced only once; give bytes, or "
                f"follow_redirects=False"
            )
        return onward
