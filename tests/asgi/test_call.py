"""The call of an application: its context, and what a look at the task shows of it."""

import contextvars
import traceback

import pytest
import trio

from trionet.asgi.call import Call
from trionet.asgi.response import Progress

VARIABLE = contextvars.ContextVar("variable", default="outside")


class Cycle:
    progress = Progress.NONE

    async def receive(self):
        raise AssertionError

    async def send(self, message):
        self.progress = Progress.COMPLETE


def call(app, cycle=None, lingering=None):
    return Call(app, {}, cycle or Cycle(), contextvars.copy_context(), ([] if lingering is None else lingering).append)


async def test_it_gives_what_the_application_returns_and_raises():
    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        return 5

    async def fails(scope, receive, send):
        await trio.lowlevel.checkpoint()
        raise ValueError("its own")

    assert await call(app) == 5
    with pytest.raises(ValueError, match="its own"):
        await call(fails)


async def test_each_step_runs_in_the_context_and_nothing_of_it_is_seen_outside():
    seen = []

    async def app(scope, receive, send):
        VARIABLE.set("inside")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(VARIABLE.get())

    await call(app)
    assert seen == ["inside"] * 3
    assert VARIABLE.get() == "outside"


async def test_what_runs_before_the_coroutine_is_in_the_context_too():
    def app(scope, receive, send):
        VARIABLE.set("before")

        async def inner():
            return VARIABLE.get()

        return inner()

    assert await call(app) == "before"
    assert VARIABLE.get() == "outside"


async def test_any_awaitable_will_do_and_nothing_else():
    async def yields():
        await trio.lowlevel.checkpoint()

    class Awaitable:
        def __await__(self):
            yield from yields().__await__()
            return "awaited"

    assert await call(lambda scope, receive, send: Awaitable()) == "awaited"
    with pytest.raises(TypeError, match="must be an async function of scope, receive and send; this one returned 7"):
        await call(lambda scope, receive, send: 7)


async def test_an_application_that_goes_on_behind_its_response_is_told_of_once():
    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        assert not lingering
        await send({})
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    lingering = []
    one = call(app, lingering=lingering)
    await one
    assert lingering == [one]


async def test_one_that_ends_with_its_response_is_not():
    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        await send({})

    lingering = []
    await call(app, lingering=lingering)
    assert not lingering


async def test_a_cancellation_comes_through():
    async def app(scope, receive, send):
        try:
            await trio.sleep_forever()
        finally:
            seen.append(VARIABLE.get())

    seen = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await call(app)
    assert seen == ["outside"]


async def test_a_look_at_the_task_shows_the_frames_of_the_application():
    async def the_application(scope, receive, send):
        await trio.sleep_forever()

    async def serve():
        await call(the_application)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        [task] = nursery.child_tasks
        names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
        assert names[:2] == ["serve", "the_application"]
        assert "sleep_forever" in names
        assert traceback.StackSummary.extract(task.iter_await_frames())
        nursery.cancel_scope.cancel()


def test_one_that_is_never_finished_can_be_closed():
    async def app(scope, receive, send):
        try:
            await trio.lowlevel.checkpoint()
        finally:
            closed.append(True)

    closed = []
    one = call(app)
    steps = one.__await__()
    coroutine = one._coroutine
    assert coroutine.cr_frame is one.cr_frame
    assert one.cr_await is None
    steps.close()
    assert not closed  # it had not begun
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)
