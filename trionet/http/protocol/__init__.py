"""HTTP/1.1 without I/O: fields, heads, framing, bodies, and the machines of both sides (RFC 9112, RFC 9110).

Bytes go in, events come out; what a program wants to say goes in, bytes come out. Nothing here waits, knows a
connection or has a clock, so all of it is tested by plain calls, against h11 among others.

The modules in the order in which to read them, each of which needs only those before it:

1. `limits`, `syntax`, `states`: what a peer is allowed, the grammar that all share, and the states of a connection.
2. `headers`: fields, as programs see them and as they go on the wire. `receive_buffer`: bytes that wait to be read.
3. `framing`: where a message ends, which is what request smuggling is about.
4. `authority`, `target`, `head`: from the bytes of a head to a value, with every rule. `fast_head`: the same for what
   nearly every client sends, without the rules that cannot matter there.
5. `body_reader`, `body_writer`: bodies, one class for each framing.
6. `outgoing`: fields to be sent, checked. `prepared_request`: a request's head. `response_head`: a response's.
7. `machine`: what both sides of a connection share; `server_machine` and `client_machine`: the sides.
"""
