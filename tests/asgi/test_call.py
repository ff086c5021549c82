"""The call of an application: its context, and what a look at the task shows of it."""

import contextvars
import traceback

import pytest
import trio

from trionet.asgi.call import Call, begin
from trionet.asgi.response import Progress

VARIABLE = contextvars.ContextVar("variable", default="outside")


class Cycle:
    progress = Progress.NONE

    async def receive(self):
        raise AssertionError

    async def send(self, message):
        self.progress = Progress.COMPLETE


def started(app, cycle=None, lingering=None):
    """The call of an application that waits, at its first wait; None if it has returned."""
    cycle, context = cycle or Cycle(), contextvars.copy_context()
    begun = context.run(begin, app, {}, cycle.receive, cycle.send)
    if begun is None:
        return None
    return Call(begun, cycle, context, ([] if lingering is None else lingering).append)


async def call(app, lingering=None):
    if (one := started(app, lingering=lingering)) is not None:
        await one
    return one


async def test_it_raises_what_the_application_raises():
    async def raises(scope, receive, send):
        raise ValueError("its own")

    async def fails(scope, receive, send):
        await trio.lowlevel.checkpoint()
        raise ValueError("its own")

    for app in (raises, fails):
        with pytest.raises(ValueError, match="its own"):
            await call(app)


async def test_one_that_does_not_wait_has_no_call():
    async def app(scope, receive, send):
        await send({})
        seen.append("done")

    seen = []
    assert await call(app) is None
    assert seen == ["done"]


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
            seen.append(VARIABLE.get())

        return inner()

    seen = []
    await call(app)
    assert seen == ["before"]
    assert VARIABLE.get() == "outside"


async def test_any_awaitable_will_do_and_nothing_else():
    async def yields():
        await trio.lowlevel.checkpoint()

    class Awaitable:
        def __await__(self):
            yield from yields().__await__()
            seen.append("awaited")

    seen = []
    await call(lambda scope, receive, send: Awaitable())
    assert seen == ["awaited"]
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
    one = await call(app, lingering)
    assert lingering == [one]


async def test_one_that_goes_on_from_its_first_wait_on_is_told_of_too():
    async def app(scope, receive, send):
        await send({})
        await trio.lowlevel.checkpoint()

    lingering = []
    one = await call(app, lingering)
    assert lingering == [one]


async def test_one_that_ends_with_its_response_is_not():
    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        await send({})

    lingering = []
    await call(app, lingering)
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
        assert names[:3] == ["serve", "call", "the_application"]
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
    one = started(app)
    steps = one.__await__()
    coroutine = one._coroutine
    assert coroutine.cr_frame is one.cr_frame
    assert one.cr_await is coroutine.cr_await
    steps.close()
    assert closed == [True]
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)
