"""Which peers are trusted, by their addresses."""

import pytest

from trionet.transport.trusted_peers import TrustedPeers

HERE = ("10.0.0.9", 80)


@pytest.mark.parametrize(
    ("peers", "remote", "local", "trusted"),
    [
        (["10.0.0.1"], ("10.0.0.1", 5), HERE, True),
        (["10.0.0.1"], ("10.0.0.2", 5), HERE, False),
        ("10.0.0.1, 10.1.0.0/16", ("10.1.2.3", 5), HERE, True),
        (["10.0.0.1"], ("::ffff:10.0.0.1", 5, 0, 0), HERE, True),
        (["10.0.0.0/8"], ("::ffff:10.9.9.9", 5, 0, 0), HERE, True),
        (["fe80::/10"], ("fe80::1%eth0", 5, 0, 2), HERE, True),
        (["::1"], ("127.0.0.1", 5), HERE, False),
        (["0.0.0.0/0"], ("::1", 5), HERE, False),
        (["10.0.0.1"], ("nobody", 5), HERE, False),
        (["*"], ("::1", 5), HERE, True),
        (["*"], None, None, True),
        (["unix:"], "", "/run/socket", True),
        (["unix:"], ("127.0.0.1", 5), HERE, False),
        (["unix:/run/socket"], "", b"/run/socket", True),
        (["/run/socket"], "", "/run/other", False),
        (["unix:/run/socket"], "", "", False),
        (["unix:"], None, None, False),
        # The path of a client that a proxy has named, on a connection over TCP: that is no Unix socket of this machine.
        (["unix:"], "/run/client", HERE, False),
    ],
)
def test_a_peer_is_told_by_its_address(peers, remote, local, trusted):
    assert TrustedPeers("trusted", peers).has(remote, local) is trusted


def test_what_is_no_peer_is_refused():
    with pytest.raises(ValueError, match=r"trusted has '10\.0\.0\.1/8', which is not an address"):
        TrustedPeers("trusted", ["10.0.0.1/8"])
    with pytest.raises(TypeError, match="trusted has 5; a peer is a str"):
        TrustedPeers("trusted", [5])
    assert not TrustedPeers("trusted", " , ")
