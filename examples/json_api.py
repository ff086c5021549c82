"""A JSON API with an upload, cookies and files: notes that belong to whoever has the cookie."""

import secrets
import shutil
import tempfile
from pathlib import Path

import trio

import trionet
from trionet import HTTPException

FOLDER = Path(tempfile.mkdtemp())  # a real server has one that lasts
notes: dict[str, list[str]] = {}


async def app(exchange: trionet.Exchange) -> None:
    match exchange.method, exchange.path:
        case "POST", "/login":
            user = secrets.token_urlsafe()
            notes[user] = []
            exchange.set_cookie("user", user, max_age=3600)
            await exchange.respond(201, json={"notes": 0})
        case "POST", "/notes":
            given = await exchange.json(max_bytes=10_000)  # what is no JSON is answered with 400
            notes[owner(exchange)].append(str(given))
            await exchange.respond(201, json={"notes": len(notes[owner(exchange)])})
        case "GET", "/notes":
            word = exchange.query_params.get("word", "")
            await exchange.respond(200, json=[note for note in notes[owner(exchange)] if word in note])
        case "POST", "/pictures":
            owner(exchange)
            async with exchange.form() as form:
                name = secrets.token_hex(8)  # not the client's: that may be any path
                await trio.Path(FOLDER / name).write_bytes(await form["picture"].read())
            await exchange.respond(201, json={"picture": f"/pictures/{name}"})
        case "GET", path if path.startswith("/pictures/"):
            await exchange.respond_file(path.removeprefix("/pictures"), root=FOLDER)  # with ranges, and 304
        case _:
            raise HTTPException(404, json={"error": "nothing here"})


def owner(exchange: trionet.Exchange) -> str:
    if (user := exchange.cookies.get("user")) not in notes:
        raise HTTPException(401, json={"error": "POST /login first"})
    return user


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, app, 0)
        async with scope.open_http_client(base_url=f"http://localhost:{server.port}") as client:
            async with client.request("GET", "/notes") as response:
                print(response.status, await response.json())
            async with client.request("POST", "/login") as response:
                cookie = {"Cookie": response.headers["set-cookie"].partition(";")[0]}
            async with client.request("POST", "/notes", json="buy milk", headers=cookie) as response:
                print(await response.json())
            async with client.request("GET", "/notes?word=milk", headers=cookie) as response:
                print(await response.json())
            head = b'Content-Disposition: form-data; name="picture"; filename="me.png"'
            upload = b"--x\r\n%b\r\n\r\npixels\r\n--x--\r\n" % head
            fields = {**cookie, "Content-Type": "multipart/form-data; boundary=x"}
            async with client.request("POST", "/pictures", content=upload, headers=fields) as response:
                picture = (await response.json())["picture"]
            async with client.request("GET", picture, headers={"Range": "bytes=0-2"}) as response:
                print(response.status, await response.read())
        scope.cancel()
    shutil.rmtree(FOLDER)


trio.run(main)
