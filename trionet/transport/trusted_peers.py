"""Which peers are trusted to speak for others: addresses, networks, Unix sockets. A proxy in front is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

__all__ = ["TrustedPeers"]


class TrustedPeers:
    """Some peers, told by their addresses.

    Args:
        argument: What errors call the argument that names them.
        peers: Addresses and networks (``10.0.0.0/8``), also as one text with commas between; ``*`` for every peer;
            ``unix:`` for those that come over a Unix socket, ``unix:/path`` for those over the one with that path.

    Raises:
        ValueError, TypeError: something is neither an address nor a network.
    """

    __slots__ = ("_all", "_argument", "_hosts", "_networks", "_sockets")

    def __init__(self, argument: str, peers: Iterable[str]) -> None:
        if isinstance(peers, str):
            peers = [part.strip() for part in peers.split(",") if part.strip()]
        self._argument = argument
        self._all = False
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        self._sockets: set[str] = set()
        for peer in peers:
            self._add(peer)

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return self._all or bool(self._hosts or self._networks or self._sockets)

    def _add(self, peer: Any) -> None:
        if not isinstance(peer, str):
            raise TypeError(f"{self._argument} has {peer!r}; a peer is a str such as '10.0.0.1' or '10.0.0.0/8'")
        if peer == "*":
            self._all = True
        elif peer.startswith(("unix:", "/")):
            self._sockets.add(peer.removeprefix("unix:"))
        else:
            import ipaddress  # which few programs need

            try:
                network = ipaddress.ip_network(peer)
            except ValueError:
                raise ValueError(
                    f"{self._argument} has {peer!r}, which is not an address, nor a network such as 10.0.0.0/8 "
                    f"(the bits behind the prefix have to be 0), nor 'unix:', nor '*'"
                ) from None
            if network.num_addresses == 1:
                self._hosts.add(str(network.network_address))
            else:
                self._networks.append(network)

    def has_host(self, host: str) -> bool:
        """Whether this address is a trusted peer's."""
        if self._all or host in self._hosts:
            return True
        import ipaddress

        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(address) in self._hosts or any(
            address.version == network.version and address in network for network in self._networks
        )

    def has(self, remote: Any, local: Any) -> bool:
        """Whether whoever has connected is trusted, by the addresses of both ends."""
        if isinstance(remote, tuple):
            return self.has_host(str(remote[0]))
        if not isinstance(local, (str, bytes)):
            return self._all  # no socket, or one whose client a proxy has named by the path of its Unix socket
        path = local.decode("utf-8", "surrogateescape") if isinstance(local, bytes) else local
        return self._all or "" in self._sockets or (path != "" and path in self._sockets)
