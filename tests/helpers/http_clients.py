"""What the tests of HTTP clients ask, and what their servers answer."""


async def get(client, url, method="GET", **options):
    async with client.request(method, url, **options) as response:
        return response.status, await response.read()


def redirect(location, status=302, body=b"gone"):
    head = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def routes(answers):
    """What a server answers: bytes, or a function, by path."""

    async def answer(connection, asked):
        reply = answers[asked.target.partition("?")[0]]
        await (connection.send_all(reply) if isinstance(reply, bytes) else reply(connection, asked))

    return answer
