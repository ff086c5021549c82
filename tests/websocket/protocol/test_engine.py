"""The engine without I/O: the same events however the input is cut, its bounds, and its fast path."""

import sys
import zlib

from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

from trionet import PerMessageDeflate
from trionet.websocket.protocol.deflate import CALL, EFFORT
from trionet.websocket.protocol.engine import Engine

from ...helpers.websockets_by_hand import close, frame, text


def events(engine):
    failure = engine.failure and (engine.failure[0], str(engine.failure[1]))
    due = engine.writer.pongs, engine.writer.close_frame
    return list(engine.reader.messages), due, engine.pongs, engine.peer_close, failure


pieces = st.one_of(
    st.builds(text, st.text(max_size=200)),
    st.builds(lambda data: frame(Opcode.BINARY, data), st.binary(max_size=70_000)),
    st.builds(
        lambda a, b: text(a, fin=False) + frame(Opcode.CONT, b.encode()), st.text(max_size=9), st.text(max_size=9)
    ),
    st.builds(lambda data: frame(Opcode.PING, data), st.binary(max_size=125)),
    st.builds(lambda data: frame(Opcode.PONG, data), st.binary(max_size=125)),
    st.builds(close, st.sampled_from([None, 1000, 4000])),
    st.binary(min_size=1, max_size=8),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(pieces, max_size=6).map(b"".join), st.data())
def test_however_the_stream_is_cut_the_events_are_the_same(stream, data):
    whole, cut, single = (Engine(client=False, max_message_size=60_000) for _ in range(3))
    whole.receive(stream)
    at = data.draw(st.integers(0, len(stream)))
    for part in (stream[:at], stream[at:]):
        if part:
            cut.receive(part)
    for index in range(min(len(stream), 500)):
        single.receive(stream[index : index + 1])
    if len(stream) > 500:
        single.receive(stream[500:])
    assert events(whole) == events(cut) == events(single)


def outcome_of(stream):
    """What trionet's engine makes of `stream`, and what the websockets library does: messages, controls, close code."""
    engine = Engine(client=False, max_message_size=60_000)
    engine.receive(stream)
    while engine.reader.stalled:
        engine.go_on()
    ours = [bytes(m, "utf-8") if isinstance(m, str) else m for m in engine.reader.messages], engine.pongs
    ours_code = engine.failure[0] if engine.failure else (engine.peer_close or (None,))[0]
    library = Protocol(Side.SERVER, state=State.OPEN, max_size=60_000)
    library.receive_data(stream)
    messages, pongs, partial, ended = [], [], b"", None
    for event in library.events_received():
        if event.opcode is Opcode.PONG:
            pongs.append(event.data)
        elif event.opcode is Opcode.CLOSE:
            ended = library.close_rcvd.code
        elif event.opcode is not Opcode.PING:
            kind = event.opcode if event.opcode is not Opcode.CONT else kind  # noqa: F821 - set by the first one
            partial += event.data
            if event.fin:
                try:
                    partial.decode("utf-8" if kind is Opcode.TEXT else "latin-1")
                except UnicodeDecodeError:  # which the library leaves to others
                    return ours, ours_code, ([bytes(m) for m in messages], pongs), 1007
                messages.append(partial)
                partial = b""
    if ended is None and library.close_sent is None and engine.failure is not None:
        library.receive_data(bytes(70_000))  # it looks at a head only when all of it is there
    if ended is None and library.close_sent is not None:
        ended = library.close_sent.code
    return ours, ours_code, ([bytes(m) for m in messages], pongs), ended


@settings(deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=6).map(b"".join))
@example(b"\x00\xff" + text("") * 2)
@example(b"\x03\xfe")
def test_the_websockets_library_finds_the_same_in_a_stream(stream):
    ours, ours_code, theirs, their_code = outcome_of(stream)
    assert ours[0] == theirs[0]
    if ours_code != their_code:  # a head that breaks a rule and the limit: either may be named
        assert (ours_code, their_code) == (1002, 1009)


# --- the fast path --------------------------------------------------------------------------------------------------


class Careful(Engine):
    """An engine that looks at every frame with care."""

    def _take_messages(self, data, at, size):
        return at


def compressed(message, *, fin=True):
    """A client's text message as one compressed frame, or the beginning of one."""
    stream = zlib.compressobj(wbits=-12)
    data = (stream.compress(message.encode()) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    whole = bytearray(text("", fin=fin)[:1] + frame(Opcode.BINARY, data)[1:])
    whole[0] |= 0x40
    return bytes(whole)


more_pieces = st.one_of(
    pieces,
    st.builds(compressed, st.text(max_size=400), fin=st.booleans()),
    st.builds(lambda count: text("") * count, st.integers(1, 600)),
    st.builds(lambda data: frame(Opcode.TEXT, data), st.binary(min_size=1, max_size=3)),
)
WANTS = ["want_whole", "want_parts", "want_nothing"]
steps = st.one_of(
    st.tuples(st.just("receive"), st.lists(more_pieces, max_size=4).map(b"".join), st.booleans()),
    st.tuples(st.just("go on"), st.booleans()),
    st.tuples(st.just("want"), st.sampled_from(WANTS)),
    st.tuples(st.just("take"), st.integers(0, 700)),
    st.tuples(st.just("cut"), st.lists(more_pieces, max_size=2).map(b"".join), st.integers(0, 300)),
)


def do(engine, step):
    match step:
        case "receive", data, patient:
            engine.receive(data, patient=patient)
        case "go on", patient:
            engine.go_on(patient=patient)
        case "want", wanted:
            getattr(engine.reader, wanted)()
        case "take", count:
            for _ in range(min(count, len(engine.reader.messages))):
                engine.reader.messages.popleft()
        case "cut", data, at:
            engine.receive(data[:at])
            engine.receive(data[at:])


@settings(deadline=None, max_examples=150)
@given(st.lists(steps, max_size=8), st.sampled_from([None, 50, 60_000]), st.booleans())
@example([("receive", text("") * 300 + frame(Opcode.PING) + text("x" * 60), False), ("go on", False)], 50, False)
@example([("receive", text("x" * 40) * 4, False), ("take", 4), ("go on", False)], 50, False)
def test_the_fast_path_takes_what_the_careful_one_takes(steps, limit, deflates):
    """Frame by frame, whatever is wanted meanwhile: the same messages, controls, failure, and how far each has come."""
    compression = PerMessageDeflate() if deflates else None
    fast, careful = (kind(client=False, max_message_size=limit, compression=compression) for kind in (Engine, Careful))
    for step in steps:
        for engine in (fast, careful):
            do(engine, step)
        while careful.reader.tired:  # what counts as much work for one call is all that differs
            careful.go_on()
        while fast.reader.tired:
            fast.go_on()
        assert events(fast) == events(careful)
        assert list(fast.reader.parts) == list(careful.reader.parts)
        assert (fast.full, fast.reader.stalled) == (careful.full, careful.reader.stalled)


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_a_million_empty_fragments_cost_no_memory():
    engine = Engine(client=False, max_message_size=100)
    engine.receive(text("", fin=False))
    for _ in range(100):
        engine.receive(b"\x00\x80\0\0\0\0" * 1000)
        while engine.reader.tired:
            engine.go_on()
    assert engine.reader.unfinished == 0
    assert sys.getsizeof(engine._rest) < 1000
    engine.receive(frame(Opcode.CONT, b"x"))
    assert list(engine.reader.messages) == ["x"]


def test_a_message_may_consist_of_very_many_final_blocks():
    """Each ends what zlib takes for its input, and what is behind it goes on as a new stream (RFC 7692 §7.2.3.5)."""
    engine = Engine(client=False, max_message_size=2**20, compression=PerMessageDeflate())
    engine.receive(frame(Opcode.BINARY, b"\x03\x00" * 20_000).replace(b"\x82", b"\xc2", 1))
    calls = 1
    while engine.reader.tired:
        calls += 1
        engine.go_on()
    assert list(engine.reader.messages) == [b""]
    assert calls >= 20_000 * CALL // EFFORT
