"""HTTP/1.1 as a server: a connection, its exchanges, and what they become."""
