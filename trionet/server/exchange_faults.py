"""What becomes of an exchange whose handler raises, or leaves it without a complete response.

There are three to be told. The *client* gets a response that says what it did wrong, or 500 where that was not its
doing; a response that has begun is visibly truncated. The *program* is told of its mistakes, by ``on_error`` or in the
log, and not of what its clients do. The *server* counts whose fault it was (`fault`).
"""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import outcome
import trio

from ..errors import LocalProtocolError, TrionetError
from ..http.server.error_response import PLAIN_TEXT, error_text, status_for
from ..http.server.http_exception import HTTPException
from ..ownership import Reason
from ..support.texts import printable, shown_address
from .fault import Fault, Verdict, fault_of_end, judge, only, said
from .follower import REMEDY, STREAM_REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ..http.server.connection import HTTPServerConnection
    from ..http.server.exchange import Exchange
    from .follower import Follower

    ErrorHook: TypeAlias = Callable[[Exchange, outcome.Error], object]

__all__ = ["ExchangeFaults"]

_LOG = logging.getLogger("trionet.server")


class ExchangeFaults:
    """The failures of one connection's exchanges.

    Args:
        name: Of the handler.
        follower: Who decides whose fault an error is.
        on_error: The program's hook.
    """

    __slots__ = ("_follower", "_name", "_on_error")

    def __init__(self, name: str, follower: Follower, on_error: ErrorHook | None) -> None:
        self._name = name
        self._follower = follower
        self._on_error = on_error

    # --- how a handler ends --------------------------------------------------------------------------------------

    async def returned(self, exchange: Exchange, result: object) -> None:
        """The handler has returned: that is its mistake if there is no response, or not all of one."""
        if not exchange.status:
            await self._left_unanswered(exchange, result)
        elif exchange.connection._ending.is_unfinished(exchange):
            self._follower.count(Fault.PROGRAM)
            self._tell(exchange, LocalProtocolError(f"{self._name} has left {exchange!r} unfinished: {STREAM_REMEDY}"))
            exchange.connection._cycle.truncate(exchange)

    async def _left_unanswered(self, exchange: Exchange, result: object) -> None:
        """That is the handler's mistake, unless there is nobody to be answered."""
        connection = exchange.connection
        if connection._cycle.peer_failed:
            await _respond(exchange, 400)
        elif connection._lookouts.was_told(exchange):
            await _respond(exchange, 500)  # it may have half-closed, and read on
        elif connection._cycle.exchange is exchange and not connection.phase.terminal:
            hint = "; is there an await missing?" if inspect.isawaitable(result) else ""
            returned = printable(repr(result)[:64])
            self._follower.count(Fault.PROGRAM)
            self._tell(
                exchange,
                LocalProtocolError(
                    f"{self._name} returned {returned} and has not answered {exchange!r}{hint}: {REMEDY}"
                ),
            )
            await _respond(exchange, 500)

    def explained(self, exc: Exception) -> Exception:
        """The same; or, where calling the handler did not come as far as its first line, why not."""
        traceback = exc.__traceback__
        if isinstance(exc, TypeError) and traceback is not None and traceback.tb_next is None:
            error = TypeError(
                f"the handler must be an async function of one exchange, which {self._name} is not: {exc}"
            )
            return error.with_traceback(traceback)
        return exc

    async def raised(self, exchange: Exchange, exc: Exception) -> bool:
        """The handler has raised `exc`: a response, or a failure. Whether it is a failure."""
        if not isinstance(response := only(exc), HTTPException):
            await self.failed(exchange, self.explained(exc))
            return True
        if not exchange.status:  # else the loop truncates the response that was begun
            try:
                await exchange.respond(response.status, response.body, headers=response.headers)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()  # its client has gone
            except Exception as error:  # noqa: BLE001 - it cannot be sent: the program's failure, as in the handler
                await self.failed(exchange, error)
                return True
        return False

    async def failed(self, exchange: Exchange, exc: Exception) -> None:
        """The handler has failed with `exc`."""
        verdict = self._follower.judge(exc)
        if verdict.fault is Fault.PROGRAM:
            _tell_successor(exchange.connection, exc)
            self._tell(exchange, verdict.error)
            status = 500
        else:
            self._follower.say(verdict, _named(exchange))
            status = status_for(verdict.error)
        if not exchange.status:  # else the loop truncates the response that was begun
            await _respond(exchange, status)

    async def failed_partly(self, exchange: Exchange, group: BaseExceptionGroup[BaseException]) -> NoReturn:
        """The handler has raised errors together with something that ends the program, or cancels it: raise that."""
        failures, others = group.split(Exception)
        if failures is not None:
            await self.failed(exchange, failures)
        assert others is not None  # else it were an Exception
        raise others from None

    def cancelled(self, exchange: Exchange) -> None:
        """The handler was cancelled: say so if that is because its client has gone."""
        if (fault := fault_of_end(exchange.connection)) is not None:
            self._follower.count(fault)
            self._follower.say(
                Verdict(fault, TrionetError("its client does not wait for the response any more")), _named(exchange)
            )

    # --- how the loop ends ---------------------------------------------------------------------------------------

    def loop_ended(self, http: HTTPServerConnection) -> None:
        """The loop has ended quietly: so it does also if its client did not complete a request, and got a 408."""
        end = http.end
        if end is not None and end.reason is Reason.IDLE_TIMEOUT and isinstance(end.outcome, outcome.Error):
            self._follower.count(Fault.SILENT)
            self._follower.say(Verdict(Fault.SILENT, end.outcome.error), _client_of(http))

    def loop_failed(self, http: HTTPServerConnection, exc: Exception) -> None:
        """The loop has ended with an error: the client's, or that of a connection which the handler has aborted."""
        verdict = judge(exc, self._follower, draining=self._follower.draining)
        if verdict.fault.peers:
            self._follower.count(verdict.fault)
            self._follower.say(verdict, _client_of(http))

    # --- the program ---------------------------------------------------------------------------------------------

    def _tell(self, exchange: Exchange, exc: BaseException) -> None:
        if self._on_error is None:
            _LOG.error("the handler of %r failed: %s", exchange, said(exc), exc_info=exc)
            return
        try:
            self._on_error(exchange, outcome.Error(exc))
        except Exception:  # noqa: BLE001 - a hook that fails must not end the connection
            _LOG.exception("on_error raised for %r", exchange)


def _tell_successor(connection: Any, exc: BaseException) -> None:
    """What the handler has upgraded the connection to learns that it has raised: a WebSocket closes with 1011."""
    handle = connection
    while handle.end is not None and handle.end.reason is Reason.UPGRADED:
        handle = handle.end.successor
    if handle is not connection:
        handle._handler_failed(exc)


async def _respond(exchange: Exchange, status: int) -> None:
    """Respond for a handler that did not, if anybody is there to be told."""
    connection = exchange.connection
    if connection._cycle.exchange is exchange and not (connection.phase.terminal or connection._life.state.reset):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await exchange.respond(status, error_text(status), headers=PLAIN_TEXT)


def _named(exchange: Exchange) -> str:
    return f"{exchange!r} from {shown_address(exchange.connection.remote_address)}"


def _client_of(http: HTTPServerConnection) -> str:
    return f"HTTP with {shown_address(http.remote_address)}"
