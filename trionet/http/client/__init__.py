"""HTTP/1.1 as a client: a connection, responses, the pool, and the client that a program uses."""
