"""Fixtures that more than one test module needs."""

from __future__ import annotations

import gc
import importlib
import ssl
from collections.abc import Iterator
from types import ModuleType

import pytest
import trustme
from hypothesis import settings

from .helpers.logs import logging_settings

settings.register_profile("everyday", derandomize=True)
"""The same examples in each run. Those of ``--hypothesis-profile search`` are new ones."""
settings.register_profile("search", max_examples=1000)
settings.load_profile("everyday")


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of garbage collection.

    Many tests collect garbage, to see that nothing was left open, at each of their steps. Thousands of collected tests
    made that ten times slower.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What the tests of a file have left open is a failure there, not where the collector happens to run.

    What is left of a file behind that lives on: modules, caches, what pytest remembers of each test. It is not looked
    at again; otherwise each collection would take longer than the one before.
    """
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """A test that sets up logging for the whole process changes what the tests of other files see."""
    before = logging_settings()
    yield
    assert [it[:3] for it in logging_settings()] == [it[:3] for it in before], "restore it with logging_restored()"


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(ca: trustme.CA) -> ssl.SSLContext:
    """A TLS server that is ``localhost``, ``127.0.0.1`` and ``bücher.example``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1", "xn--bcher-kva.example").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """A TLS client that trusts `ca`; each test's own, as tests set options on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


TRIO_WEBSOCKETS = {"real": "trio_websocket", "trionet": "trionet.interop.trio_websocket"}


@pytest.fixture(params=TRIO_WEBSOCKETS)
def tw(request: pytest.FixtureRequest) -> ModuleType:
    """What a program for trio-websocket imports: the real one, or trionet's in its place."""
    return importlib.import_module(TRIO_WEBSOCKETS[request.param])


@pytest.fixture(params=TRIO_WEBSOCKETS, ids=[f"peer-{name}" for name in TRIO_WEBSOCKETS])
def other(request: pytest.FixtureRequest) -> ModuleType:
    """The same choice for the peer."""
    return importlib.import_module(TRIO_WEBSOCKETS[request.param])
