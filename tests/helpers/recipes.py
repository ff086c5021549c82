"""Recipes of a program's own, for tests."""

import trionet


class Greeting:
    """A little protocol of a user's own: both sides say HELLO; one that hears NO is refused, anything else fails."""

    def __init__(self, say=b"HELLO\n", commit=trionet.Connection):
        self.say = say
        self.make = commit
        self.wire = None

    def prepare(self, source):
        assert isinstance(source, trionet.Connection)

    async def handshake(self, wire):
        self.wire = wire
        if self.say:
            await wire.send_all(self.say)
        answer = await wire.receive_until(b"\n", max_bytes=16)
        if answer == b"NO\n":
            raise trionet.UpgradeRefusedError("the peer said no", answer)
        if answer != b"HELLO\n":
            raise trionet.UpgradeFailedError(f"expected HELLO, not {answer!r}")

    def commit(self):
        return self.make(self.wire.detach())
