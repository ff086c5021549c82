"""Bodies of multipart/form-data: as browsers and curl send them, odd ones, and hostile ones. The boundary is `B`."""

from __future__ import annotations

B = "----WebKitFormBoundary7MA4YWxkTrZu0gW"


def part(head: str, data: bytes | str = b"x", *, newline: str = "\r\n") -> bytes:
    data = data.encode() if isinstance(data, str) else data
    lines = head.replace("\n", newline)
    return f"--{B}{newline}{lines}{newline}{newline}".encode() + data + newline.encode()


def field(name: str, value: bytes | str = b"x") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', value)


def file(name: str, filename: str, data: bytes = b"data", kind: str = "text/plain") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\nContent-Type: {kind}', data)


END = f"--{B}--\r\n".encode()
DISPOSITION = "Content-Disposition: form-data"

GOOD = {
    "one field": field("a") + END,
    "two fields": field("a", "1") + field("b", "2") + END,
    "the same name twice": field("a", "1") + field("a", "2") + END,
    "an empty value": field("a", "") + END,
    "an empty name": field("", "x") + END,
    "UTF-8 in value and name": field("ä", "ö€😀") + END,
    "lines in a value": field("a", "1\r\n2\r\n\r\n3") + END,
    "a value that ends with line breaks": field("a", "x\r\n\r\n") + END,
    "a bare CR and LF": field("a", "x\ry\nz") + END,
    "a value that is nearly a boundary": field("a", f"\r\n--{B[:-1]}\r\n--{B[:-2]}x\r\n-") + END,
    "the boundary in the middle of a line": field("a", f"x--{B}--y") + END,
    "dashes": field("a", "--\r\n--\r\n") + END,
    "NUL and all bytes": field("a") + file("b", "f", bytes(range(256))) + END,
    "Chromium: a file": file("f", "notes.txt", b"hello\n") + END,
    "Chromium: no file chosen": file("f", "", b"", "application/octet-stream") + END,
    "Chromium: two files of one name": file("f", "1", b"1") + file("f", "2", b"2") + END,
    "Firefox: a name with a quote": file("f", "a%22b.txt") + END,
    "Safari: UTF-8 in a file name": file("f", "ü.txt") + END,
    "spaces and semicolons in a file name": file("f", "a; b=c.txt") + END,
    "curl: a file": part(f'{DISPOSITION}; name="f"; filename="x.bin"\nContent-Type: application/octet-stream') + END,
    "curl: a field with a type": part(f'{DISPOSITION}; name="a"\nContent-Type: application/json', "{}") + END,
    "a file without a type": part(f'{DISPOSITION}; name="f"; filename="x"', b"data") + END,
    "a file name that is a path": file("f", "../../etc/passwd") + END,
    "an absolute file name": file("f", "/etc/passwd") + END,
    "header names in other cases": part('content-DISPOSITION: form-data; name="f"; filename=x\nCONTENT-type: a') + END,
    "fields that nobody knows": part(f'X-Own: 1\n{DISPOSITION}; name="a"\nX-Other: 2') + END,
    "Content-Type first": part(f'Content-Type: a/b\n{DISPOSITION}; name="f"; filename="x"') + END,
    "a name without quotes": part(f"{DISPOSITION}; name=a") + END,
    "no space behind the semicolon": part(f'{DISPOSITION};name="a"') + END,
    "spaces around values": part('Content-Disposition:   form-data; name="a"') + END,
    "nothing behind the last boundary": field("a") + END.rstrip(b"\r\n"),
    "an epilogue": field("a") + END + b"ignored",
    "many fields": b"".join(field(f"n{number}", str(number)) for number in range(200)) + END,
    "a large field": field("a", "x" * 300_000) + END,
    "a large file": file("f", "large", b"\r\n" * 100_000) + END,
    "an extended file name beside a plain one": part(
        f'{DISPOSITION}; name="f"; filename="plain"; filename*=UTF-8\'\'%E2%82%AC'
    ) + END,
}  # fmt: skip

ODD = {
    "no parts": END,
    "a preamble": b"ignored\r\n" + field("a") + END,
    "an empty line first": b"\r\n" + field("a") + END,
    "a part without fields": part("") + END,
    "no disposition": part("Content-Type: text/plain") + END,
    "no name": part(DISPOSITION) + END,
    "a disposition of another kind": part('Content-Disposition: attachment; name="a"') + END,
    "a file without a name": part(f'{DISPOSITION}; filename="x"') + END,
    "line feeds alone": part(f'{DISPOSITION}; name="a"', newline="\n") + f"--{B}--\n".encode(),
    "a folded field": part(f'{DISPOSITION};\n name="a"') + END,
    "white space behind a boundary": field("a").replace(f"{B}\r\n".encode(), f"{B} \t\r\n".encode()) + END,
    "another boundary": field("a").replace(B.encode(), b"other") + b"--other--\r\n",
    "a backslash in a name": part(f'{DISPOSITION}; name="a\\"b"') + END,
    "Latin-1 in a name": part(f'{DISPOSITION}; name="NAME"').replace(b"NAME", b"\xe4") + END,
    "a name twice": part(f'{DISPOSITION}; name="a"; name="b"') + END,
    "a disposition twice": part(f'{DISPOSITION}; name="a"\n{DISPOSITION}; name="b"') + END,
    "base64 that nobody decodes": part(f'{DISPOSITION}; name="a"\nContent-Transfer-Encoding: base64', "eHg=") + END,
}

BROKEN = {
    "nothing at all": b"",
    "only a boundary": f"--{B}".encode(),
    "no end": field("a"),
    "an end in the middle of a part": field("a")[:-9],
    "an end in the middle of a head": field("a")[:60],
    "an end in the middle of the last boundary": field("a") + END[:10],
    "a field without a colon": part(f'{DISPOSITION}; name="a"\nnonsense') + END,
    "a control character in a field's name": part(f'{DISPOSITION}; name="a"\nX\0: y') + END,
    "a hundred fields in a part": part("\n".join(f"X{n}: y" for n in range(100))) + END,
    "a very long field": part(f'{DISPOSITION}; name="{"x" * 20_000}"') + END,
    "a head without an end": f"--{B}\r\n".encode() + b"X: " + b"y" * 100_000,
    "no boundary at all": b"x" * 100_000,
}
"""Nobody may take these for whole forms."""

CORPUS = {**GOOD, **ODD, **BROKEN}
