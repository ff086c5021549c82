"""TLS as an upgrade: `recipes` put it on a connection and take it off again.

Beside them: `arguments` checks what a program gives, `first_bytes` tells plaintext from TLS before OpenSSL sees it, and
`client_hello` reads the name that a client asks for, which OpenSSL does not tell a server.
"""

from .recipes import to_plaintext, to_tls_client, to_tls_server

__all__ = ["to_plaintext", "to_tls_client", "to_tls_server"]
