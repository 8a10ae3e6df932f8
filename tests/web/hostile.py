"""Requests that no browser sends."""

import gzip
import json
import socket

HOST = b"Host: localhost\r\n"
CALLS = ["call/paint", "call/v2/paint", "call/about", "call/v2/audit", "queue/join", "queue/data", "cancel", "reset"]
DEEP = b'{"a":' * 5000
BODIES = [
    *(b"", b"null", b"[]", b"5", b'"a"', b"{", b"{}", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"[" * 60_000, DEEP),
    *(b'{"data":[],"data":[]}', b'{"data": NaN}', b'{"fn_index": 1e999}', b'{"fn_index": %s}' % (b"9" * 5000)),
    b'{"fn_index": true, "data": [], "session_hash": "a"}',
    b'{"fn_index": 0, "data": [], "session_hash": {"a": 1}}',
    b'{"fn_index": 0, "data": [], "session_hash": [1], "event_data": {"a": 123456789012345678901234567890}}',
    b'{"session_hash": "\\u001b[31m", "event_id": "\\u0000", "fn_index": 0}',
    b'{"session_hash": "\\ud800", "event_id": null, "fn_index": -1}',
    b'{"jsonrpc": "2.0", "method": "tools/call", "id": 1}',
    b'{"prompt": "\\u001b]0;title\\u0007"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "%s"}' % (b"a" * 60_000),
    b'{"prompt": "a", "seed": 123456789012345678901234567890}',
    b'{"prompt": "a", "height": 1000000000, "width": 1000000000}',
    b'{"prompt": "a", "num_inference_steps": 1000000000}',
    b'{"prompt": "a", "guidance_scale": -Infinity}',
    b'{"prompt": "a", "scheduler": "\\u001b[31m\\u202e"}',
    b'{"prompt": "a", "first_step": {"color": "\\u0000"}}',
]
TYPES = [b"text/plain", b"multipart/form-data", b"application/json; charset=utf-16", b"\xff"]
PATHS = [
    *(b"/%ff%fe/\xff", b"/assets/%ff%00%1b[31m", b"/static/%00", b"/static/" + b"a" * 5000, b"/static/%ed%a0%80"),
    *(b"/assets/", b"/config?page=%ff", b"/?deep_link=%00", b"/gradio_api/info?page=%00", b"http://evil/", b"*"),
    *(b"/gradio_api/queue/data", b"/gradio_api/queue/data?session_hash=%ff%1b", b"/gradio_api/call/paint/nothing"),
]
HEADERS = [
    *(b"X: " + b"a" * 200_000, b"X: a\r\n" * 4999 + b"X: a", b"Host: other", b"Content-Length: -5", b" folded: x"),
    *(b"Range: bytes=9999999999999999999-1,-0,a", b"X-Forwarded-Host: a b/../\x1b", b"X-Forwarded-Host: [::::"),
    *(b"X-Gradio-Server: http://[", b'Cookie: \xff=;;;="', b"Accept-Encoding: \xff, br;q=x", b"Expect: 100-continue"),
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
]
WHOLE = [
    b"GET /\r\n\r\n",  # HTTP/0.9
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,  # TLS
    b"GET /config HTTP/1.0\r\nOrigin: http://other\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /gradio_api/reset HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /gradio_api/reset HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /gradio_api/reset HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    (b"GET /robots.txt HTTP/1.1\r\n" + HOST + b"\r\n") * 50,
]
HALVES = [  # and then nothing, or a byte from time to time
    b"",
    b"GET / HTTP/1.1\r\n",
    b"GET /robots.txt HTTP/1.1\r\n" + HOST + b"Content-Length: 50\r\n\r\n{",
    b"POST /gradio_api/reset HTTP/1.1\r\n" + HOST + b"Content-Length: 50\r\n\r\n{",
]


def post(path, body, kind=b"application/json", more=b""):
    head = b"POST /gradio_api/%s HTTP/1.1\r\n" % path.encode() + HOST + b"Content-Type: %s\r\n" % kind
    return head + b"Content-Length: %d\r\n%s\r\n" % (len(body), more) + body


def requests(functions):
    """Some hundreds of requests.

    Args:
        functions: index -> count of values of the page's own functions.
    """
    yield from WHOLE
    yield from (b"GET %s HTTP/1.1\r\n" % path + HOST + b"\r\n" for path in PATHS)
    yield from (b"GET /config HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n" for header in HEADERS)
    yield from (post(path, body) for path in CALLS for body in BODIES)
    yield from (post(path, b"{}", kind) for path in CALLS for kind in TYPES)
    yield post("call/about", gzip.compress(b'{"data":[]}'), more=b"Content-Encoding: gzip\r\n")
    for index, count in functions.items():
        for value in ("\x1b[31m", 10**30, {}, -1.5):
            join = {
                "fn_index": index,
                "data": [value] * count,
                "session_hash": f"hostile-{index}",
                "trigger_id": 10**30,
            }
            yield post("queue/join", json.dumps(join).encode())


def send(port, request):
    """The status that a request gets; 0 where the connection ends without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        try:
            stream.sendall(request)
            words = stream.recv(4096).split(b" ", 2)
        except OSError:  # the server closed before everything was sent
            return 0
    return int(words[1]) if len(words) == 3 else 0
