"""Mistakes that beginners make, by the place where they are made, and what each is told.

`test_mistakes` tries them. Addresses, ports and the like are written as N.
"""

# ruff: noqa: E501

TABLES = {
    "scope": [
        ('scope.connect_tcp("", 80)', "ValueError: host must not be empty; use 'localhost' for this machine"),
        (
            'scope.connect_tcp("localhost:80", 80)',
            "ValueError: host must come without a port, which is an argument of its own, not 'localhost:80'",
        ),
        (
            'scope.connect_tcp("http://localhost", 80)',
            "ValueError: host must be a bare host name or IP address, without brackets, scheme or path, not 'http://localhost'",
        ),
        (
            'scope.connect_tcp("[::1]", 80)',
            "ValueError: host must be a bare host name or IP address, without brackets, scheme or path, not '[::1]'",
        ),
        ("scope.connect_tcp(None, 80)", "TypeError: host must be a str or bytes, not None"),
        ('scope.connect_tcp("localhost", 0)', "ValueError: port must be 1 to 65535, not 0"),
        ('scope.connect_tcp("localhost", 65536)', "ValueError: port must be 1 to 65535, not 65536"),
        ('scope.connect_tcp("localhost", "80")', "TypeError: port must be an int, not '80'"),
        ('scope.connect_tcp("localhost", 80.0)', "TypeError: port must be an int, not 80.0"),
        ('scope.connect_tcp("localhost", None)', "TypeError: port must be an int, not None"),
        ('scope.connect_tcp("localhost", True)', "TypeError: port must be an int, not True"),
        (
            'scope.connect_tcp("local host", 80)',
            "ValueError: host must be a bare host name or IP address, without brackets, scheme or path, not 'local host'",
        ),
        (
            'scope.connect_tcp("localhost", 80, local_address="nowhere")',
            "ValueError: local_address must be an IP address such as '192.0.2.1', not 'nowhere'",
        ),
        (
            'scope.connect_tcp("localhost", 80, happy_eyeballs_delay="1")',
            "TypeError: happy_eyeballs_delay must be a number of seconds (None: one address after the other), not '1'",
        ),
        (
            'scope.connect_tcp("localhost", 80, happy_eyeballs_delay=-1)',
            "ValueError: happy_eyeballs_delay must be at least 0 seconds (None: one address after the other), not -1",
        ),
        (
            'scope.connect_tcp("localhost", 80, local_address=5)',
            "TypeError: local_address must be an IP address as a str, not 5",
        ),
        (
            'scope.connect_tcp("localhost", 80, timeout=5)',
            "TypeError: Scope.connect_tcp() got an unexpected keyword argument 'timeout'",
        ),
        ('scope.connect_unix("")', "ValueError: path must not be empty"),
        ("scope.connect_unix(5)", "TypeError: path must be a str, bytes or a path such as pathlib.Path, not 5"),
        (
            'scope.connect_unix("/nowhere/at/all")',
            "FileNotFoundError: [Errno 2] cannot connect to /nowhere/at/all: No such file or directory (nothing was sent: a retry is safe)",
        ),
        (
            'scope.connect_unix("x" * 200)',
            "OSError: [Errno 36] cannot connect to xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: a socket's path has at most 107 bytes, not 200",
        ),
        (
            "scope.adopt(None)",
            "TypeError: adopt needs a trio.abc.Stream, a connected stream socket or a Detached, not None",
        ),
        (
            'scope.adopt("localhost")',
            "TypeError: adopt needs a trio.abc.Stream, a connected stream socket or a Detached, not 'localhost'",
        ),
        (
            "scope.adopt(conn)",
            "TypeError: adopt(<Connection 127.0.0.1:N - 127.0.0.1:N open>) refused: it has an owner; use transfer(scope), or adopt what its detach() returns",
        ),
        (
            "scope.adopt(listener)",
            "ValueError: adopt(<socket.socket fd=N, family=2, type=1, proto=0, laddr=('127.0.0.1', N)>) refused: it listens; use trionet.serve() with it",
        ),
        (
            "scope.adopt(datagrams)",
            "ValueError: adopt(<socket.socket fd=N, family=2, type=2, proto=0, laddr=('0.0.0.0', 0)>) refused: only stream sockets carry connections",
        ),
        (
            "scope.adopt(unconnected)",
            "ValueError: adopt(<socket.socket fd=N, family=2, type=1, proto=0, laddr=('0.0.0.0', 0)>) refused: it is not connected, or the peer has gone ([Errno 107] Transport endpoint is not connected)",
        ),
        (
            "scope.open_scope(drain_timeout=-1)",
            "ValueError: drain_timeout must be at least 0 seconds (math.inf: waits for ever), not -1",
        ),
        (
            'scope.open_scope(drain_timeout="5")',
            "TypeError: drain_timeout must be a number of seconds (math.inf: waits for ever), not '5'",
        ),
        (
            "trionet.open_scope(drain_timeout=math.nan)",
            "ValueError: drain_timeout must be at least 0 seconds (math.inf: waits for ever), not nan",
        ),
        (
            'trionet.open_scope(drain_timeout="5")',
            "TypeError: drain_timeout must be a number of seconds (math.inf: waits for ever), not '5'",
        ),
        ('trionet.open_scope("name")', "TypeError: open_scope() takes 0 positional arguments but 1 was given"),
        ("trionet.open_scope(name=5)", "TypeError: name must be a str, not 5"),
        ("trionet.open_scope(observer=5)", "TypeError: observer must be a function of a handle and two phases, not 5"),
        ('trionet.open_tcp("localhost")', "TypeError: open_tcp() missing 1 required positional argument: 'port'"),
        ("trionet.open_unix(5)", "TypeError: path must be a str, bytes or a path such as pathlib.Path, not 5"),
        (
            'trionet.open_tcp("localhost", 80, drain_timeout="5")',
            "TypeError: drain_timeout must be a number of seconds (math.inf: waits for ever), not '5'",
        ),
        (
            'left_scope.connect_tcp("localhost", 80)',
            "ScopeClosedError: connect_tcp refused: scope yesterday is closed; open it in a scope that stays open, or before this one is left",
        ),
        (
            'left_conn.send_all(b"x")',
            "HandleClosedError: send refused: <Connection 127.0.0.1:N - 127.0.0.1:N closed: local>: its scope yesterday was left; use it inside the block that opened it",
        ),
        (
            "left_conn.receive_some()",
            "HandleClosedError: receive refused: <Connection 127.0.0.1:N - 127.0.0.1:N closed: local>: its scope yesterday was left; use it inside the block that opened it",
        ),
        (
            'left_ws.send_message("x")',
            "ConnectionClosed: send refused: <WebSocket 127.0.0.1:N - 127.0.0.1:N closed: local>: its scope open_websocket was left; use it inside the block that opened it (CloseReason<code=1000, name=NORMAL_CLOSURE, reason=None>)",
        ),
        (
            "left_ws.get_message()",
            "ConnectionClosed: receive refused: <WebSocket 127.0.0.1:N - 127.0.0.1:N closed: local>: its scope open_websocket was left; use it inside the block that opened it (CloseReason<code=1000, name=NORMAL_CLOSURE, reason=None>)",
        ),
        ('conn.send_all("abc")', "TypeError: data must be bytes, bytearray or memoryview, not str; encode it"),
        ("conn.send_all(None)", "TypeError: data must be bytes, bytearray or memoryview, not NoneType"),
        ("conn.send_all(5)", "TypeError: data must be bytes, bytearray or memoryview, not int"),
        ('conn.send_all([b"a"])', "TypeError: data must be bytes, bytearray or memoryview, not list"),
        ('conn.send_vectored(b"abc")', "TypeError: parts must be a sequence of bytes, not one bytes; use send_all()"),
        ('conn.send_vectored(["a"])', "TypeError: data must be bytes, bytearray or memoryview, not str; encode it"),
        ("conn.receive_some(0)", "ValueError: max_bytes must be at least 1, not 0"),
        ("conn.receive_some(-1)", "ValueError: max_bytes must be at least 1, not -1"),
        ('conn.receive_some("5")', "TypeError: max_bytes must be an int, not '5'"),
        ("conn.receive_some(5.0)", "TypeError: max_bytes must be an int, not 5.0"),
        ("conn.receive_exactly(0)", "ValueError: n must be at least 1, not 0"),
        ("conn.receive_exactly(-1)", "ValueError: n must be at least 1, not -1"),
        ('conn.receive_exactly("5")', "TypeError: n must be an int, not '5'"),
        ("conn.peek(0)", "ValueError: n must be at least 1, not 0"),
        ('conn.peek("5")', "TypeError: n must be an int, not '5'"),
        (r'conn.receive_until("\r\n", max_bytes=5)', r"TypeError: delimiter must be bytes, not '\r\n'"),
        ('conn.receive_until(b"", max_bytes=5)', "ValueError: delimiter must be at least one byte, not b''"),
        (
            r'conn.receive_until(b"\r\n")',
            "TypeError: Connection.receive_until() missing 1 required keyword-only argument: 'max_bytes'",
        ),
        (r'conn.receive_until(b"\r\n", max_bytes=0)', "ValueError: max_bytes must be at least 1, not 0"),
        (r'conn.receive_until(b"\r\n", max_bytes="5")', "TypeError: max_bytes must be an int, not '5'"),
        (
            r'conn.receive_until(b"\r\n", max_bytes=1)',
            r"ValueError: max_bytes (1) must have room for the delimiter b'\r\n'",
        ),
        ("conn.upgrade(None)", "TypeError: upgrade needs a recipe, such as to_tls_client('host.example'), not None"),
        (
            "conn.upgrade(trionet.to_tls_client)",
            "TypeError: upgrade needs a recipe, such as to_tls_client('host.example'), not <function to_tls_client at N>; call it",
        ),
        (
            "conn.upgrade(Recipe(handshake=nothing))",
            "TypeError: upgrade needs a recipe, such as to_tls_client('host.example'), not Recipe(...), which has no method commit",
        ),
        (
            "conn.upgrade(Recipe(handshake=plain, commit=plain))",
            "TypeError: Recipe.handshake must be an async function, but that of Recipe(...) returned None",
        ),
        (
            "conn.upgrade(trionet.to_tls_server(client_context))",
            "ValueError: to_tls_server: <ssl.SSLContext object at N> is for the client side (PROTOCOL_TLS_CLIENT); use ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain()",
        ),
        (
            'conn.upgrade(trionet.to_tls_server("cert.pem"))',
            "TypeError: to_tls_server: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain(), not 'cert.pem'",
        ),
        (
            "conn.upgrade(trionet.to_tls_server())",
            "TypeError: to_tls_server() missing 1 required positional argument: 'ssl_context'",
        ),
        (
            "conn.upgrade(trionet.to_tls_client())",
            "ValueError: to_tls_client: server_hostname is missing, so nobody could tell whose certificate it is; give server_hostname='host.example', or an ssl_context with check_hostname = False",
        ),
        (
            "conn.upgrade(trionet.to_tls_client(server_hostname=5))",
            "TypeError: to_tls_client: server_hostname must be a str like 'host.example', not 5",
        ),
        (
            'conn.upgrade(trionet.to_tls_client(server_hostname=""))',
            "ValueError: to_tls_client: server_hostname '' is neither a host name nor an IP address (not a host name); give the name alone, like 'host.example', without scheme, port and brackets",
        ),
        (
            'conn.upgrade(trionet.to_tls_client(server_hostname="a b"))',
            "ValueError: to_tls_client: server_hostname 'a b' is neither a host name nor an IP address (not a host name); give the name alone, like 'host.example', without scheme, port and brackets",
        ),
        (
            'conn.upgrade(trionet.to_tls_client(server_hostname="https://localhost"))',
            "ValueError: to_tls_client: server_hostname 'https://localhost' is neither a host name nor an IP address (Unexpected '/' in 'https://localhost'); give the name alone, like 'host.example', without scheme, port and brackets",
        ),
        (
            'conn.upgrade(trionet.to_tls_client(server_hostname="localhost:443"))',
            "ValueError: to_tls_client: server_hostname 'localhost:443' is neither a host name nor an IP address (At least 3 parts expected in 'localhost:443'); give the name alone, like 'host.example', without scheme, port and brackets",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", ssl_context=True))',
            "TypeError: to_tls_client: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(), not True",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", ssl_context=server_context))',
            "ValueError: to_tls_client: <ssl.SSLContext object at N> is for the server side (PROTOCOL_TLS_SERVER); use ssl.create_default_context()",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", alpn="h2"))',
            "TypeError: to_tls_client: alpn must be a sequence of names, not 'h2'; write alpn=['h2']",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", alpn=["é"]))',
            "ValueError: to_tls_client: alpn has 'é'; a protocol name is 1 to 255 ASCII characters like 'h2'",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", alpn=[""]))',
            "ValueError: to_tls_client: alpn has ''; a protocol name is 1 to 255 ASCII characters like 'h2'",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", handshake_timeout=0))',
            "ValueError: handshake_timeout must be more than 0 seconds (math.inf: no limit), not 0",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", handshake_timeout="5"))',
            "TypeError: handshake_timeout must be a number of seconds (math.inf: no limit), not '5'",
        ),
        (
            'conn.upgrade(trionet.to_tls_client("localhost", handshake_timeout=None))',
            "TypeError: handshake_timeout must be a number of seconds (math.inf: no limit), not None",
        ),
        (
            "conn.upgrade(trionet.to_http_client(limits=5))",
            "TypeError: limits must be a trionet.HTTPLimits, not 5",
        ),
        (
            'conn.upgrade(trionet.to_http_server(limits={"max_head": 5}))',
            "TypeError: limits must be a trionet.HTTPLimits, not {'max_head': 5}",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("http://localhost/"))',
            "ValueError: url 'http://localhost/' must begin with ws:// or wss://",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("localhost"))',
            "ValueError: url 'localhost' has no scheme; it must begin with ws:// or wss://",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("/chat"))',
            "ValueError: url '/chat' has no scheme; it must begin with ws:// or wss://",
        ),
        (
            "conn.upgrade(trionet.to_websocket_client(None))",
            "TypeError: url must be a str like 'ws://host.example/path', not None",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", subprotocols="chat"))',
            "TypeError: subprotocols must be a sequence of names, not 'chat'; write subprotocols=['chat']",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", subprotocols=["a b"]))',
            "ValueError: subprotocol 'a b' is not a token like 'chat' (RFC 6455 §4.1)",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", subprotocols=["a", "a"]))',
            "ValueError: subprotocols must be different names, not ('a', 'a')",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", extra_headers=["a: b"]))',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write ('a', 'b')",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", extra_headers=("Cookie", "a=b")))',
            "TypeError: headers must be (name, value) pairs or a mapping, not ('Cookie', 'a=b'); write [('Cookie', 'a=b')]",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", extra_headers=[("Sec-WebSocket-Key", "x")]))',
            "ValueError: extra_headers must not have 'Sec-WebSocket-Key': the handshake sets it",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", extra_headers=5))',
            "TypeError: headers must be (name, value) pairs or a mapping, not 5",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", max_message_size=0))',
            "ValueError: max_message_size must be at least 1 (None: no limit), not 0",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", max_message_size="5"))',
            "TypeError: max_message_size must be an int (None: no limit), not '5'",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", max_message_size=-1))',
            "ValueError: max_message_size must be at least 1 (None: no limit), not -1",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", ping_interval=0))',
            "ValueError: ping_interval must be more than 0 seconds (None: none), not 0",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", ping_interval="20"))',
            "TypeError: ping_interval must be a number of seconds (None: none), not '20'",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", ping_timeout=5))',
            "ValueError: ping_timeout=5 without ping_interval: no ping would be sent",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", compression=True))',
            "TypeError: compression must be PerMessageDeflate() or None, not True",
        ),
        (
            'conn.upgrade(trionet.to_websocket_client("ws://localhost/", compression="deflate"))',
            "TypeError: compression must be PerMessageDeflate() or None, not 'deflate'",
        ),
        (
            'conn.upgrade(trionet.to_websocket_server(origins="https://a.example"))',
            "TypeError: origins must be a list of origins, or a function, not 'https://a.example'; write ['https://a.example']",
        ),
        (
            'conn.upgrade(trionet.to_websocket_server(origins=["a.example"]))',
            "ValueError: 'a.example' is not an origin: it has a scheme, '://', an ASCII host, perhaps a port, and nothing behind (RFC 6454 §6.2); or it is 'null'",
        ),
        (
            'conn.upgrade(trionet.to_websocket_server(origins=["https://a.example/"]))',
            "ValueError: 'https://a.example/' is not an origin: it has a scheme, '://', an ASCII host, perhaps a port, and nothing behind (RFC 6454 §6.2); or it is 'null'",
        ),
        (
            "conn.upgrade(trionet.to_websocket_server(origins=5))",
            "TypeError: origins must be a list of origins, or a function, not 5",
        ),
        (
            'conn.upgrade(trionet.to_websocket_server(subprotocols="chat"))',
            "TypeError: subprotocols must be a sequence of names, not 'chat'; write subprotocols=['chat']",
        ),
        (
            "conn.upgrade(trionet.to_plaintext())",
            "LocalProtocolError: upgrade refused: <Connection 127.0.0.1:N - 127.0.0.1:N open> is not TLS; it is plain already, use it as it is",
        ),
        ("conn.transfer(None)", "TypeError: transfer needs a trionet scope (of open_scope), not None"),
        (
            "conn.transfer(conn)",
            "TypeError: transfer needs a trionet scope (of open_scope), not <Connection 127.0.0.1:N - 127.0.0.1:N open>",
        ),
        ("trionet.PerMessageDeflate(level=10)", "ValueError: level must be 0 to 9, not 10"),
        (
            "trionet.PerMessageDeflate(server_max_window_bits=7)",
            "ValueError: server_max_window_bits must be 8 to 15, not 7",
        ),
        (
            'trionet.to_connection("a b")',
            "ValueError: protocol must be a token, perhaps with a version, such as 'h2c' or 'foo/2', not 'a b'",
        ),
        ("trionet.to_connection(5)", "TypeError: protocol must be a str like 'h2c', not 5"),
        ('trionet.serve_tcp(nothing, "80")', "TypeError: port must be an int, not '80'"),
        ("trionet.serve_tcp(nothing, -1)", "ValueError: port must be 0 to 65535, not -1"),
        ("trionet.serve_tcp(nothing, 65536)", "ValueError: port must be 0 to 65535, not 65536"),
        (
            'trionet.serve_tcp(nothing, 0, host="a b")',
            "ValueError: host must be a bare host name or IP address, without brackets, scheme or path, not 'a b'",
        ),
        ("trionet.serve_tcp(nothing, 0, host=5)", "TypeError: host must be a str or bytes, not 5"),
        (
            'trionet.serve_tcp(nothing, 0, host="192.0.2.1")',
            "OSError: [Errno 99] cannot listen on 192.0.2.1:0: Cannot assign requested address",
        ),
        (
            "trionet.serve_tcp(nothing(), 0)",
            "TypeError: handler must be an async function, not <coroutine object nothing at N>: pass the function itself, without calling it",
        ),
        (
            "trionet.serve_tcp(plain, 0)",
            "TypeError: handler must be an async function, not <function plain at N>: write async def (or, for a function that returns an awaitable, lambda x: plain(x))",
        ),
        ("trionet.serve_tcp(None, 0)", "TypeError: handler must be an async function, not None"),
        ("trionet.serve_tcp(8080, nothing)", "TypeError: handler must be an async function, not 8080"),
        (
            "trionet.serve_tcp(without_arguments, 0)",
            "TypeError: handler must take one argument, the connection or exchange: <function without_arguments at N> takes () (too many positional arguments)",
        ),
        (
            "trionet.serve_tcp(nothing, 0, ssl_context=True)",
            "TypeError: to_tls_server: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain(), not True",
        ),
        (
            "trionet.serve_tcp(nothing, 0, ssl_context=client_context)",
            "ValueError: to_tls_server: <ssl.SSLContext object at N> is for the client side (PROTOCOL_TLS_CLIENT); use ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain()",
        ),
        (
            'trionet.serve_tcp(nothing, 0, ssl_context="cert.pem")',
            "TypeError: to_tls_server: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain(), not 'cert.pem'",
        ),
        ("trionet.serve_tcp(nothing, 0, limits=5)", "TypeError: limits must be a trionet.Limits, not 5"),
        (
            'trionet.serve_tcp(nothing, 0, limits={"max_connections": 5})',
            "TypeError: limits must be a trionet.Limits, not {'max_connections': 5}",
        ),
        ('trionet.serve_tcp(nothing, 0, backlog="5")', "TypeError: backlog must be an int, not '5'"),
        ("trionet.serve_tcp(nothing, 0, backlog=-1)", "ValueError: backlog must be at least 1, not -1"),
        ("trionet.serve_tcp(nothing, 0, backlog=0)", "ValueError: backlog must be at least 1, not 0"),
        ("trionet.serve_http(nothing, 0, http_limits=5)", "TypeError: limits must be a trionet.HTTPLimits, not 5"),
        (
            "trionet.serve_http(plain, 0)",
            "TypeError: handler must be an async function, not <function plain at N>: write async def (or, for a function that returns an awaitable, lambda x: plain(x))",
        ),
        (
            "trionet.serve_http(nothing, 0, on_error=5)",
            "TypeError: on_error must be a function of the exchange and the error, not 5",
        ),
        (
            "trionet.serve_http(without_arguments, 0)",
            "TypeError: handler must take one argument, the connection or exchange: <function without_arguments at N> takes () (too many positional arguments)",
        ),
        ("trionet.serve_http(nothing, None)", "TypeError: port must be an int, not None"),
        ('trionet.serve_unix(nothing, "")', "ValueError: path must not be empty"),
        (
            "trionet.serve_unix(nothing, 5)",
            "TypeError: path must be a str, bytes or a path such as pathlib.Path, not 5",
        ),
        (
            'trionet.serve_unix(nothing, "/nowhere/at/all")',
            "FileNotFoundError: [Errno 2] cannot listen on /nowhere/at/all: No such file or directory",
        ),
        (
            'trionet.serve_unix(nothing, "/tmp")',
            "OSError: [Errno 98] cannot listen on /tmp: something other than a socket is there",
        ),
        (
            'trionet.serve_unix(nothing, "x" * 200)',
            "OSError: [Errno 36] cannot listen on xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: a socket's path has at most 107 bytes, not 200",
        ),
        ('trionet.serve_unix(nothing, "/tmp/x", mode="660")', "TypeError: mode must be an int, not '660'"),
        ("trionet.serve(nothing, [])", "ValueError: serve() needs at least one listener"),
        (
            "trionet.serve(nothing, listener)",
            "TypeError: listeners must be an iterable of listening sockets, not <socket.socket fd=N, family=2, type=1, proto=0, laddr=('127.0.0.1', N)>; write [listener]",
        ),
        (
            "trionet.serve(nothing, [unconnected])",
            "ValueError: <socket.socket fd=N, family=2, type=1, proto=0, laddr=('0.0.0.0', 0)> does not listen; call listen() on it first",
        ),
        ("trionet.serve(nothing, [8080])", "TypeError: a listener must be a listening socket, not 8080"),
        (
            "trionet.serve(nothing, 8080)",
            "TypeError: listeners must be an iterable of listening sockets, not 8080; write [listener]",
        ),
        (
            "trionet.Limits(max_connections=0)",
            "ValueError: max_connections must be at least 1 (math.inf: no limit), not 0",
        ),
        (
            'trionet.Limits(max_connections="5")',
            "TypeError: max_connections must be an int (math.inf: no limit), not '5'",
        ),
        (
            "trionet.Limits(handshake_timeout=0)",
            "ValueError: handshake_timeout must be more than 0 seconds (math.inf: no limit), not 0",
        ),
        (
            "trionet.Limits(handshake_timeout=-1)",
            "ValueError: handshake_timeout must be more than 0 seconds (math.inf: no limit), not -1",
        ),
        (
            "trionet.Limits(drain_timeout=math.nan)",
            "ValueError: drain_timeout must be at least 0 seconds (math.inf: no limit), not nan",
        ),
        (
            "trionet.Limits(drain_timeout=None)",
            "TypeError: drain_timeout must be a number of seconds (math.inf: no limit), not None",
        ),
        (
            "trionet.Limits(max_connections=True)",
            "TypeError: max_connections must be an int (math.inf: no limit), not True",
        ),
        ("trionet.Limits(5)", "TypeError: Limits.__init__() takes 1 positional argument but 2 were given"),
        ("trionet.HTTPLimits(max_head=0)", "ValueError: max_head must be at least 64, not 0"),
        ('trionet.HTTPLimits(max_head="5")', "TypeError: max_head must be an int, not '5'"),
        (
            "trionet.HTTPLimits(idle_timeout=-1)",
            "ValueError: idle_timeout must be at least 0 seconds (math.inf: no limit), not -1",
        ),
        (
            "trionet.HTTPLimits(idle_timeout=None)",
            "TypeError: idle_timeout must be a number of seconds (math.inf: no limit), not None",
        ),
        ("trionet.HTTPLimits(max_fields=0)", "ValueError: max_fields must be at least 1, not 0"),
        (
            "trionet.serve_tcp(with_a_yield, 0)",
            "TypeError: handler must be an async function, not <function with_a_yield at N>, which has a yield and so is a generator",
        ),
        (
            "await trionet.open_scope()",
            "TypeError: open_scope() opens a block: write `async with open_scope(...) as ...`, without await",
        ),
        (
            'await trionet.open_tcp("localhost", 80)',
            "TypeError: open_tcp() opens a block: write `async with open_tcp(...) as ...`, without await",
        ),
        (
            "await trionet.open_http_client()",
            "TypeError: open_http_client() opens a block: write `async with open_http_client(...) as ...`, without await",
        ),
        (
            'await trionet.open_websocket("ws://localhost/")',
            "TypeError: open_websocket() opens a block: write `async with open_websocket(...) as ...`, without await",
        ),
        (
            "await scope.open_scope()",
            "TypeError: open_scope() opens a block: write `async with open_scope(...) as ...`, without await",
        ),
        (
            "trionet.open_scope().__enter__()",
            "TypeError: open_scope() opens a block: write `async with open_scope(...) as ...`, not `with`",
        ),
    ],
    "exchange": [
        (
            'x.respond("200 OK", b"")',
            "TypeError: status must be an int such as 200, without a reason phrase, not '200 OK'",
        ),
        ('x.respond("200", b"")', "TypeError: status must be an int such as 200, without a reason phrase, not '200'"),
        ("x.respond(None)", "TypeError: status must be an int such as 200, without a reason phrase, not None"),
        ("x.respond(99)", "LocalProtocolError: status must be that of a final response, 200 to 999, not 99"),
        (
            "x.respond(100)",
            "LocalProtocolError: status must be that of a final response, 200 to 999, not 100; inform() sends 1xx",
        ),
        (
            "x.respond(101)",
            "LocalProtocolError: status must be that of a final response, 200 to 999, not 101; inform() sends 1xx",
        ),
        ("x.respond(1000)", "LocalProtocolError: status must be that of a final response, 200 to 999, not 1000"),
        ("x.respond(True)", "TypeError: status must be an int such as 200, without a reason phrase, not True"),
        ('x.respond(200, {"a": 1})', "TypeError: body must not be a dict; for a JSON body give json=..."),
        (
            "x.respond(200, 5)",
            "TypeError: body must be bytes, str, a binary file, or an iterable or async iterable of bytes, not 5; for a JSON body give json=...",
        ),
        (
            "x.respond(200, object())",
            "TypeError: body must be bytes, str, a binary file, or an iterable or async iterable of bytes, not <object object at N>; for a JSON body give json=...",
        ),
        ("x.respond(200, [1, 2])", "TypeError: a body's pieces must be bytes, not 1"),
        ('x.respond(200, ["a"])', "TypeError: a body's pieces must be bytes, not 'a'; encode it"),
        (
            "x.respond(200, io.StringIO())",
            "TypeError: body is a file in text mode, <_io.StringIO object at N>; open it in binary mode: open(path, 'rb')",
        ),
        (
            "x.respond(200, nothing)",
            "TypeError: body must be bytes, str, a binary file, or an iterable or async iterable of bytes, not <function nothing at N>; for a JSON body give json=...",
        ),
        (
            "x.respond(200, nothing())",
            "TypeError: body must not be a coroutine, <coroutine object nothing at N>: await it, and give what it returns",
        ),
        (
            'x.respond(204, b"body")',
            "LocalProtocolError: 204 has no body, nor a Content-Length (RFC 9110 §8.6)",
        ),
        (
            'x.respond(304, b"body")',
            "LocalProtocolError: 304 has no body",
        ),
        (
            'x.respond(200, b"", headers=["a: b"])',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write ('a', 'b')",
        ),
        (
            'x.respond(200, b"", headers=("Content-Type", "text/plain"))',
            "TypeError: headers must be (name, value) pairs or a mapping, not ('Content-Type', 'text/plain'); write [('Content-Type', 'text/plain')]",
        ),
        (
            'x.respond(200, b"", headers="Content-Type: text/plain")',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'Content-Type: text/plain'; write [('Content-Type', 'text/plain')]",
        ),
        (
            'x.respond(200, b"", headers=b"abc")',
            "TypeError: headers must be (name, value) pairs or a mapping, not b'abc'",
        ),
        ('x.respond(200, b"", headers=5)', "TypeError: headers must be (name, value) pairs or a mapping, not 5"),
        (
            'x.respond(200, b"", headers=[("a b", "c")])',
            "ValueError: header name 'a b' is not a token: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 §5.6.2)",
        ),
        (
            r'x.respond(200, b"", headers=[("a", "b\r\nc")])',
            r"ValueError: value of header 'a' has a control character such as CR, LF or NUL: 'b\r\nc'",
        ),
        ('x.respond(200, b"", headers=[("a", None)])', "TypeError: a header value must be str or bytes, not None"),
        ('x.respond(200, b"", headers=[("a", 5)])', "TypeError: a header value must be str or bytes, not 5; write '5'"),
        (
            'x.respond(200, b"", headers=[("Content-Length", 5)])',
            "TypeError: a header value must be str or bytes, not 5; write '5'",
        ),
        (
            'x.respond(200, b"", headers=[("Content-Length", "5")])',
            "LocalProtocolError: Content-Length is 5, but the body has 0 bytes",
        ),
        (
            'x.respond(200, b"", headers=[("Content-Length", "abc")])',
            "LocalProtocolError: Content-Length b'abc' is not a number (RFC 9110 §8.6)",
        ),
        (
            'x.respond(200, b"", headers=[("Transfer-Encoding", "chunked")])',
            "LocalProtocolError: Transfer-Encoding cannot be given: a body is sent in chunks when its length is not given",
        ),
        (
            'x.respond(200, b"", headers=[("a", "€")])',
            "ValueError: header value '€' has characters outside of latin-1; encode them yourself",
        ),
        (
            'x.respond(200, b"", headers=[("a",)])',
            "TypeError: headers must be (name, value) pairs or a mapping, not ('a',)",
        ),
        (
            'x.respond(200, b"", headers={"a": ["b", "c"]})',
            "TypeError: a header value must be str or bytes, not ['b', 'c']; write one pair for each of them",
        ),
        (
            'x.respond(200, b"", [("a", "b")])',
            "TypeError: Exchange.respond() takes from 2 to 3 positional arguments but 4 were given",
        ),
        (
            'x.respond(b"nothing")',
            "TypeError: status must be an int such as 200, without a reason phrase, not b'nothing'",
        ),
        ("x.respond()", "TypeError: Exchange.respond() missing 1 required positional argument: 'status'"),
        ('x.respond(200, body="x", json={})', "TypeError: give a response body or json, not both: body is 'x'"),
        ('x.stream("200")', "TypeError: status must be an int such as 200, without a reason phrase, not '200'"),
        ("x.stream(200, length=-1)", "ValueError: length must be at least 0, not -1"),
        ('x.stream(200, length="5")', "TypeError: length must be an int, not '5'"),
        ("await x.stream(200)", "TypeError: a stream is a block: write `async with exchange.stream(...) as stream`"),
        (
            'x.stream(200).send(b"x")',
            "LocalProtocolError: send refused: the stream is not open yet; write `async with exchange.stream(...) as stream`",
        ),
        ("x.inform(200)", "LocalProtocolError: status must be that of an informational response, 1xx, not 200"),
        (
            "x.inform(101)",
            "LocalProtocolError: status must be that of an informational response, 1xx, not 101; upgrade() switches protocols",
        ),
        ('x.inform("103")', "TypeError: status must be an int such as 200, without a reason phrase, not '103'"),
        ("x.read(max_bytes=-1)", "ValueError: max_bytes must be at least 0, not -1"),
        ('x.read(max_bytes="5")', "TypeError: max_bytes must be an int, not '5'"),
        ("x.read(max_bytes=None)", "TypeError: max_bytes must be an int, not None"),
        (
            "x.trailers",
            "LocalProtocolError: trailers follow the body: read that of <Exchange GET '/': not answered yet> to its end first",
        ),
        ("x.upgrade(None)", "TypeError: upgrade needs a recipe, such as to_tls_client('host.example'), not None"),
        (
            "x.upgrade(trionet.to_tls_server(server_context))",
            "LocalProtocolError: upgrade refused: to_tls_server works on a Connection, not on <Exchange GET '/': not answered yet>",
        ),
        (
            "x.upgrade(trionet.to_connection())",
            "LocalProtocolError: upgrade refused: <Exchange GET '/': not answered yet> offers no other protocol; respond in another way",
        ),
        (
            "x.connection.detach()",
            "HandleBusyError: detach refused: <HTTPServerConnection 127.0.0.1:N - 127.0.0.1:N open> is in use: exchange (GET /) by task told_in_a_handler.<locals>.handler 1 since t=N s. Wait for it, or cancel it (or detach_when_idle())",
        ),
        ("respond_twice(x)", "LocalProtocolError: respond refused: <Exchange GET '/': answered with 200> is over"),
        ("send(x, 5)", "TypeError: chunk must be bytes or str, not 5"),
        ("send(x, None)", "TypeError: chunk must be bytes or str, not None"),
        ("send_when_over(x)", "LocalProtocolError: send refused: <Exchange GET '/': answered with 200> is over"),
        (
            'send(x, b"xx", length=1)',
            "LocalProtocolError: the body is longer than its Content-Length of 1: 0 bytes sent, and 2 more given",
        ),
        (
            'send(x, b"x", length=2)',
            "LocalProtocolError: the body is shorter than its Content-Length of 2: 1 byte missing",
        ),
        ('x.headers["nothing"]', "KeyError: 'nothing'"),
        ("x.headers[5]", "TypeError: a header name to look for must be a str, not 5"),
        ("x.headers.get(5)", "TypeError: a header name to look for must be a str, not 5"),
        ('x.headers["a"] = "b"', "TypeError: 'Headers' object does not support item assignment"),
        (r'x.respond(200, "\ud800")', r"ValueError: body has a lone surrogate, which UTF-8 cannot carry: '\ud800'"),
        (
            "x.respond(200, json=object())",
            "TypeError: json cannot be sent: Object of type object is not JSON serializable; give dicts, lists, str, numbers, bools and None",
        ),
        (
            "x.respond(200, json={1})",
            "TypeError: json cannot be sent: Object of type set is not JSON serializable; give dicts, lists, str, numbers, bools and None",
        ),
    ],
    "client": [
        ('client.request("GET", "")', "ValueError: url '' has no scheme; it must begin with http:// or https://"),
        (
            'client.request("GET", None)',
            "TypeError: url must be a str like 'https://host.example/path' or a yarl.URL, not None",
        ),
        ("client.request(None, url)", "TypeError: method must be a str like 'GET', not None"),
        (
            'client.request("GÉT", url)',
            "LocalProtocolError: method must be a token like 'GET' (RFC 9110 §9.1), not 'GÉT'",
        ),
        ('client.request("", url)', "LocalProtocolError: method must be a token like 'GET' (RFC 9110 §9.1), not ''"),
        (
            'client.request("G T", url)',
            "LocalProtocolError: method must be a token like 'GET' (RFC 9110 §9.1), not 'G T'",
        ),
        ('client.request(b"GET", url)', "TypeError: method must be a str like 'GET', not b'GET'"),
        ("client.request(url)", "TypeError: HTTPClient.request() missing 1 required positional argument: 'url'"),
        ('client.request(url, "GET")', "ValueError: url 'GET' has no scheme; it must begin with http:// or https://"),
        (
            'client.request("CONNECT", url)',
            "LocalProtocolError: CONNECT is for a connection of its own: use to_http_client() or to_http_tunnel()",
        ),
        (
            'client.request("GET", "localhost/path")',
            "ValueError: url 'localhost/path' has no scheme; it must begin with http:// or https://",
        ),
        (
            'client.request("GET", "/path")',
            "ValueError: url '/path' has no scheme; it must begin with http:// or https://",
        ),
        (
            'client.request("GET", "ftp://localhost/")',
            "ValueError: url 'ftp://localhost/' has the scheme 'ftp'; it must be http:// or https://",
        ),
        (
            'client.request("GET", "ws://localhost/")',
            "ValueError: url 'ws://localhost/' is a WebSocket's: use open_websocket(), or upgrade a connection with to_websocket_client(); it must be http:// or https://",
        ),
        ('client.request("GET", "http://")', "ValueError: url 'http://' has no host"),
        ('client.request("GET", "http:///path")', "ValueError: url 'http:///path' has no host"),
        (
            'client.request("GET", "http://localhost:99999/")',
            "ValueError: url 'http://localhost:99999/': port '99999' is not a number from 1 to 65535",
        ),
        (
            'client.request("GET", "http://localhost:0/")',
            "ValueError: url 'http://localhost:0/': port 0 cannot be connected to; leave it out for the default",
        ),
        (
            'client.request("GET", "http://localhost:abc/")',
            "ValueError: url 'http://localhost:abc/': port 'abc' is not a number from 1 to 65535",
        ),
        (
            'client.request("GET", "http://[::1/")',
            "ValueError: url 'http://[::1/' has a malformed host: only an IPv6 address stands in brackets",
        ),
        (
            'client.request("GET", "http://a b/")',
            "ValueError: url 'http://a b/': 'a b' is not a host name: labels of 1 to 63 letters, digits and '-', with dots between, 254 characters at most",
        ),
        (
            'client.request("GET", "http://user:secret@exa mple/")',
            "ValueError: url 'http://exa mple/': 'exa mple' is not a host name: labels of 1 to 63 letters, digits and '-', with dots between, 254 characters at most",
        ),
        (
            'client.request("GET", url, headers=["a: b"])',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write ('a', 'b')",
        ),
        (
            'client.request("GET", url, headers=("Content-Type", "text/plain"))',
            "TypeError: headers must be (name, value) pairs or a mapping, not ('Content-Type', 'text/plain'); write [('Content-Type', 'text/plain')]",
        ),
        (
            'client.request("GET", url, headers="a: b")',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write [('a', 'b')]",
        ),
        ('client.request("GET", url, headers=5)', "TypeError: headers must be (name, value) pairs or a mapping, not 5"),
        (
            'client.request("GET", url, headers={"a": 5})',
            "TypeError: a header value must be str or bytes, not 5; write '5'",
        ),
        ('client.request("GET", url, headers={"a": None})', "TypeError: a header value must be str or bytes, not None"),
        (
            r'client.request("GET", url, headers={"a": "b\nc"})',
            r"ValueError: value of header 'a' has a control character such as CR, LF or NUL: 'b\nc'",
        ),
        (
            'client.request("GET", url, headers={"": "b"})',
            "ValueError: header name '' is not a token: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 §5.6.2)",
        ),
        (
            'client.request("GET", url, auth="user:pw")',
            "TypeError: auth must be a pair (user name, password), not a str; split it at the colon",
        ),
        ('client.request("GET", url, auth="ab")', "TypeError: auth must be a pair (user name, password), not a str"),
        (
            'client.request("GET", url, auth=("u",))',
            "TypeError: auth must be a pair (user name, password), not a tuple of length 1",
        ),
        (
            'client.request("GET", url, auth=("u", None))',
            "TypeError: the password for Basic authorization must be a str, not NoneType",
        ),
        (
            'client.request("GET", url, auth=("u:x", "pw"))',
            "ValueError: the user name 'u:x' has a colon, which Basic authorization cannot carry (RFC 7617 §2)",
        ),
        ('client.request("GET", url, auth=5)', "TypeError: auth must be a pair (user name, password), not a int"),
        (
            'client.request("POST", url, content={"a": 1})',
            "TypeError: content must not be a dict; for a JSON body give json=...",
        ),
        (
            'client.request("POST", url, content=5)',
            "TypeError: content must be bytes, str, a binary file, or an iterable or async iterable of bytes, not 5; for a JSON body give json=...",
        ),
        ('client.request("POST", url, content=["a"])', "TypeError: a body's pieces must be bytes, not 'a'; encode it"),
        ('client.request("POST", url, content=[1])', "TypeError: a body's pieces must be bytes, not 1"),
        (
            'client.request("POST", url, content=io.StringIO())',
            "TypeError: content is a file in text mode, <_io.StringIO object at N>; open it in binary mode: open(path, 'rb')",
        ),
        (
            'client.request("POST", url, content=nothing)',
            "TypeError: content must be bytes, str, a binary file, or an iterable or async iterable of bytes, not <function nothing at N>; for a JSON body give json=...",
        ),
        (
            'client.request("POST", url, content=nothing())',
            "TypeError: content must not be a coroutine, <coroutine object nothing at N>: await it, and give what it returns",
        ),
        ('client.request("POST", url, content=b"", json={})', "ValueError: give a request content or json, not both"),
        (
            'client.request("POST", url, json=object())',
            "TypeError: json cannot be sent: Object of type object is not JSON serializable; give dicts, lists, str, numbers, bools and None",
        ),
        (
            'client.request("POST", url, json=math.nan)',
            "ValueError: json has NaN or Infinity, which JSON cannot express (RFC 8259 §6); use None",
        ),
        (
            'client.request("POST", url, json={1, 2})',
            "TypeError: json cannot be sent: Object of type set is not JSON serializable; give dicts, lists, str, numbers, bools and None",
        ),
        (
            'client.request("GET", url, follow_redirects="no")',
            "TypeError: follow_redirects must be True or False, not 'no'",
        ),
        (
            'await client.request("GET", url)',
            "TypeError: a request is a block: write `async with client.request(...) as response`, without await",
        ),
        (
            'client.request("GET", url).status',
            "AttributeError: a request is a block: write `async with client.request(...) as response`, and ask that for 'status'",
        ),
        (
            'client.request("GET", url).__enter__()',
            "TypeError: a request is a block: write `async with client.request(...) as response`, not `with`",
        ),
        (
            'trionet.open_http_client().request("GET", url)',
            "AttributeError: open_http_client() opens a block: write `async with open_http_client(...) as ...`, and ask that for 'request'",
        ),
        ('response.headers["nothing"]', "KeyError: 'nothing'"),
        (
            "trionet.open_http_client(base_url=5)",
            "TypeError: url must be a str like 'https://host.example/path' or a yarl.URL, not 5",
        ),
        (
            'trionet.open_http_client(base_url="localhost")',
            "ValueError: url 'localhost' has no scheme; it must begin with http:// or https://",
        ),
        (
            'trionet.open_http_client(headers="a: b")',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write [('a', 'b')]",
        ),
        (
            'trionet.open_http_client(headers=["a: b"])',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write ('a', 'b')",
        ),
        ("trionet.open_http_client(max_connections=0)", "ValueError: max_connections must be at least 1, not 0"),
        ('trionet.open_http_client(max_connections="5")', "TypeError: max_connections must be an int, not '5'"),
        (
            "trionet.open_http_client(max_connections_per_origin=0)",
            "ValueError: max_connections_per_origin must be at least 1, not 0",
        ),
        (
            "trionet.open_http_client(max_connections_per_origin=-1)",
            "ValueError: max_connections_per_origin must be at least 1, not -1",
        ),
        ("trionet.open_http_client(limits=5)", "TypeError: limits must be a trionet.HTTPLimits, not 5"),
        (
            "trionet.open_http_client(ssl_context=True)",
            "TypeError: to_tls_client: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(), not True",
        ),
        (
            "trionet.open_http_client(ssl_context=False)",
            "TypeError: to_tls_client: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(), not False",
        ),
        (
            'trionet.open_http_client(ssl_context="ca.pem")',
            "TypeError: to_tls_client: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(), not 'ca.pem'",
        ),
        (
            "trionet.open_http_client(ssl_context=server_context)",
            "ValueError: to_tls_client: <ssl.SSLContext object at N> is for the server side (PROTOCOL_TLS_SERVER); use ssl.create_default_context()",
        ),
        (
            'trionet.open_http_client(proxy="localhost:8080")',
            "ValueError: proxy 'localhost:8080' must begin with http, https, socks5 or socks5h, and '://'",
        ),
        (
            'trionet.open_http_client(proxy="ftp://localhost")',
            "ValueError: proxy 'ftp://localhost' must begin with http, https, socks5 or socks5h, and '://'",
        ),
        (
            "trionet.open_http_client(proxy=5)",
            "TypeError: a proxy must be a URL like 'http://proxy.example:3128', not 5",
        ),
        (
            'trionet.open_http_client(cookies={"a": "b"})',
            "TypeError: cookies must be True, False or an http.cookiejar.CookieJar, not {'a': 'b'}",
        ),
        (
            "trionet.open_http_client(cookies=5)",
            "TypeError: cookies must be True, False or an http.cookiejar.CookieJar, not 5",
        ),
        (
            'trionet.open_http_client(auth="user:pw")',
            "TypeError: auth must be a pair (user name, password), not a str; split it at the colon",
        ),
        ('trionet.open_http_client(auth="ab")', "TypeError: auth must be a pair (user name, password), not a str"),
        (
            'trionet.open_http_client(event_hooks={"requests": []})',
            "ValueError: event_hooks has ['requests']; the events are 'request' and 'response'",
        ),
        (
            'trionet.open_http_client(event_hooks={"request": nothing})',
            "TypeError: event_hooks must have lists of functions; for 'request' write [<function nothing at N>]",
        ),
        (
            'trionet.open_http_client(event_hooks={"request": [5]})',
            "TypeError: an event hook must be a function (async or not), not 5",
        ),
        (
            "trionet.open_http_client(event_hooks=[nothing])",
            "TypeError: event_hooks must be a mapping like {'request': [function]}, not [<function nothing at N>]",
        ),
        ("trionet.open_http_client(max_redirects=-1)", "ValueError: max_redirects must be at least 0, not -1"),
        ('trionet.open_http_client(max_redirects="5")', "TypeError: max_redirects must be an int, not '5'"),
        ("trionet.open_http_client(max_redirects=None)", "TypeError: max_redirects must be an int, not None"),
        (
            'trionet.open_http_client(follow_redirects="yes")',
            "TypeError: follow_redirects must be True or False, not 'yes'",
        ),
        ("trionet.open_http_client(local_address=5)", "TypeError: local_address must be an IP address as a str, not 5"),
        (
            "trionet.open_http_client(unix_path=5)",
            "TypeError: path must be a str, bytes or a path such as pathlib.Path, not 5",
        ),
        (
            'trionet.open_http_client(drain_timeout="5")',
            "TypeError: drain_timeout must be a number of seconds (math.inf: waits for ever), not '5'",
        ),
        (
            'trionet.open_http_client("http://localhost")',
            "TypeError: open_http_client() takes 0 positional arguments but 1 was given",
        ),
        (
            'client.request("GET", url, params={"a": None})',
            "TypeError: params has the value None for 'a', which has no single spelling in a query; leave it out, or give ''",
        ),
        (
            'client.request("GET", url, params={"b": {"c": 1}})',
            "TypeError: params has the value {'c': 1} for 'b', which has no single spelling in a query; give a str, an int or a float",
        ),
        ('client.request("GET", url, params=5)', "TypeError: params must be a mapping, pairs or a str, not 5"),
        (
            'client.request("GET", url, params=[("a",)])',
            "TypeError: params has ('a',) where a pair of name and value belongs",
        ),
        (
            'client.request("GET", url, params={"a": object()})',
            "TypeError: params has the value <object object at N> for 'a', which has no single spelling in a query; give a str, an int or a float",
        ),
        (
            'client.request("TRACE", url, content=b"x")',
            "LocalProtocolError: TRACE has no content (RFC 9110 §9.3.8); send it without a body",
        ),
        (
            'client.request("TRACE", url, auth=("me", "secret"))',
            "LocalProtocolError: TRACE with Authorization refused: its response shows what was sent (RFC 9110 §9.3.8); leave it out",
        ),
        (
            'trionet.open_http_client(base_url="http://localhost/?a=b")',
            "ValueError: base_url 'http://localhost/?a=b' has a query, after which nothing can be appended; leave it out, and give params= with each request",
        ),
        ("response.read(max_bytes=-1)", "ValueError: max_bytes must be at least 0, not -1"),
        ('response.read(max_bytes="5")', "TypeError: max_bytes must be an int, not '5'"),
    ],
    "websocket": [
        ("ws.send_message(None)", "TypeError: a message must be str or bytes, bytearray, memoryview, not NoneType"),
        ("ws.send_message(5)", "TypeError: a message must be str or bytes, bytearray, memoryview, not int"),
        (
            'ws.send_message({"a": 1})',
            "TypeError: a message must be str or bytes, bytearray, memoryview, not dict; json.dumps() makes text of it",
        ),
        (
            r'ws.send_message("\ud800")',
            r"LocalProtocolError: text message cannot be encoded as UTF-8: 'utf-8' codec can't encode character '\ud800' in position 0: surrogates not allowed; nothing was sent",
        ),
        (
            'ws.send_message(["a"])',
            "TypeError: a message must be str or bytes, bytearray, memoryview, not list; json.dumps() makes text of it",
        ),
        ('ws.ping("abc")', "TypeError: payload must be bytes, not 'abc'"),
        (
            'ws.ping(b"x" * 126)',
            "ValueError: the payload of a control frame has at most 125 bytes, not 126 (RFC 6455 §5.5)",
        ),
        ('ws.pong("abc")', "TypeError: payload must be bytes, not 'abc'"),
        (
            'ws.pong(b"x" * 126)',
            "ValueError: the payload of a control frame has at most 125 bytes, not 126 (RFC 6455 §5.5)",
        ),
        ('ws.aclose("bye")', "TypeError: code must be an int like 1000, not 'bye'; write aclose(reason='bye')"),
        (
            "ws.aclose(999)",
            "LocalProtocolError: close code 999 cannot be sent: use 1000 (normal), 1001 (going away), 1002, 1003, 1007 to 1014, or 3000 to 4999 for an application's own",
        ),
        (
            "ws.aclose(1005)",
            "LocalProtocolError: close code 1005 cannot be sent: use 1000 (normal), 1001 (going away), 1002, 1003, 1007 to 1014, or 3000 to 4999 for an application's own",
        ),
        (
            "ws.aclose(5000)",
            "LocalProtocolError: close code 5000 cannot be sent: use 1000 (normal), 1001 (going away), 1002, 1003, 1007 to 1014, or 3000 to 4999 for an application's own",
        ),
        ('ws.aclose(1000, b"bye")', "TypeError: reason must be a str or None, not b'bye'"),
        ('ws.aclose(1000, "x" * 124)', "LocalProtocolError: a close reason has at most 123 bytes of UTF-8, not 124"),
        ('ws.aclose(reason="x" * 124)', "LocalProtocolError: a close reason has at most 123 bytes of UTF-8, not 124"),
        ("ws.aclose(None)", "TypeError: code must be an int like 1000, not None"),
        ("ws.aclose(1000.0)", "TypeError: code must be an int like 1000, not 1000.0"),
        ('ws.send_fragments("abc")', "TypeError: parts must be an iterable of parts, not one str; use send_message()"),
        (
            'ws.send_fragments(b"abc")',
            "TypeError: parts must be an iterable of parts, not one bytes; use send_message()",
        ),
        (
            'ws.send_fragments([b"a", "b"])',
            "TypeError: the parts of a message must be of one kind: this one is str, the ones before are bytes",
        ),
        ("ws.send_fragments(5)", "TypeError: parts must be an iterable or async iterable of str or of bytes, not 5"),
        ("ws.send_fragments([1])", "TypeError: a message must be str or bytes, bytearray, memoryview, not int"),
        (
            "ws.detach()",
            "LocalProtocolError: detach refused: <WebSocket 127.0.0.1:N - 127.0.0.1:N open> carries frames, not a byte stream; use transfer(scope)",
        ),
        (
            "ws.detach_when_idle()",
            "LocalProtocolError: detach refused: <WebSocket 127.0.0.1:N - 127.0.0.1:N open> carries frames, not a byte stream; use transfer(scope)",
        ),
        (
            'ws.upgrade(trionet.to_tls_client("localhost"))',
            "LocalProtocolError: upgrade refused: <WebSocket 127.0.0.1:N - 127.0.0.1:N open> is a WebSocket, on which nothing else can be built",
        ),
        (
            'trionet.broadcast(ws, "x")',
            "TypeError: websockets must be an iterable of WebSockets, not <WebSocket 127.0.0.1:N - 127.0.0.1:N open>; write [websocket]",
        ),
        ("trionet.broadcast([ws], 5)", "TypeError: a message must be str or bytes, bytearray, memoryview, not int"),
        (
            'trionet.broadcast([conn], "x")',
            "TypeError: websockets must be WebSockets, not <Connection 127.0.0.1:N - 127.0.0.1:N open>",
        ),
        (
            'trionet.open_websocket("http://localhost/")',
            "ValueError: url 'http://localhost/' must begin with ws:// or wss://",
        ),
        (
            'trionet.open_websocket("localhost")',
            "ValueError: url 'localhost' has no scheme; it must begin with ws:// or wss://",
        ),
        ("trionet.open_websocket(None)", "TypeError: url must be a str like 'ws://host.example/path', not None"),
        (
            'trionet.open_websocket("ws://localhost/", subprotocols="chat")',
            "TypeError: subprotocols must be a sequence of names, not 'chat'; write subprotocols=['chat']",
        ),
        (
            'trionet.open_websocket("ws://localhost/", extra_headers="a: b")',
            "TypeError: headers must be (name, value) pairs or a mapping, not 'a: b'; write [('a', 'b')]",
        ),
        (
            'trionet.open_websocket("ws://localhost/", handshake_timeout=0)',
            "ValueError: handshake_timeout must be more than 0 seconds (math.inf: no limit), not 0",
        ),
        (
            'trionet.open_websocket("ws://localhost/", handshake_timeout="5")',
            "TypeError: handshake_timeout must be a number of seconds (math.inf: no limit), not '5'",
        ),
        (
            'trionet.open_websocket("ws://localhost/", max_message_size=math.inf)',
            "TypeError: max_message_size must be an int (None: no limit), not inf",
        ),
        (
            'trionet.open_websocket("ws://localhost/", max_redirects=-1)',
            "ValueError: max_redirects must be at least 0, not -1",
        ),
        (
            'trionet.open_websocket("ws://localhost/", ssl_context=True)',
            "TypeError: to_tls_client: ssl_context must be an ssl.SSLContext such as ssl.create_default_context(), not True",
        ),
        (
            'trionet.open_websocket("ws://localhost/", proxy=5)',
            "TypeError: a proxy must be a URL like 'http://proxy.example:3128', not 5",
        ),
        (
            'trionet.open_websocket("ws://localhost/", unix_path=5)',
            "TypeError: path must be a str, bytes or a path such as pathlib.Path, not 5",
        ),
        (
            'trionet.open_websocket("ws://localhost/", drain_timeout="5")',
            "TypeError: drain_timeout must be a number of seconds (math.inf: waits for ever), not '5'",
        ),
    ],
}
