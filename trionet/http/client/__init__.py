"""HTTP/1.1 as a client: a connection, responses, the pool, and the client that a program uses.

A GET goes through these rooms, one call after the other: `client` (what a program asks) makes a `request`, which is
planned (`plan`) and sent (`sender`) as one hop or, with redirects, several (`following`). A `hop` takes its slots
(`sites`) and a connection (`pool`, `connector`), and asks that for an `exchange`. Below it `io` alone moves bytes: for
the head, for what is still to be sent (`upload`), and for the body as it comes (`incoming_body`), which a `response`
reads. With the end of the body the response gives up its `claim`, and `ending` decides whether the connection may be
used again (`reuse`); a block that is left before that is settled by `leaving`.

To understand one exchange, read `io`, `exchange`, `incoming_body`, `claim`, `ending`, `leaving`, in this order; to
understand a client, `sites`, `reuse`, `pool`, `hop`, `sender`, `following`.
"""
