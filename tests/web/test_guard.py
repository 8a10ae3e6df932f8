"""Any path, host and body, compared with the rules of ``web.guard``."""

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gradio")

from singdiffusion.web import api
from singdiffusion.web import guard as guard_module
from singdiffusion.web.guard import LARGEST, Guard, allowed
from singdiffusion.web.hosts import Names
from singdiffusion.web.page import build
from singdiffusion.web.refusals import LINES_A_MINUTE, Escaped, Log
from singdiffusion.web.studio import Studio
from singdiffusion.web.waiting import WaitingRoom


@pytest.fixture(scope="module")
def guard(studio):
    async def gradio(scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message.get("body", b"")})

    assert isinstance(studio, Studio)
    return Guard(gradio, build(WaitingRoom(lambda: studio)), Names("127.0.0.1"))


def ask(guard, path, body=b"", method="POST", length=None, chunk=1 << 16, host=b"127.0.0.1:7860", **headers):
    """(status, headers, body) of a request whose body comes in pieces."""
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    sent = []

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    sizes = [] if length is None else [(b"content-length", str(length).encode())]
    given = [(b"host", host), *sizes, *((name.replace("_", "-").encode(), value) for name, value in headers.items())]
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": given}, receive, send))
    start, content = sent
    return start["status"], dict(start["headers"]), content["body"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/stream/x",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/gradio_api/run/paint",
        "/gradio_api/api/paint",
        "/gradio_api/deep_link",
        "/monitoring",
        "/login",
        "/docs",
        "/static/../../../etc/passwd",
        "/assets/..%2f..%2fetc/passwd/..",
        "",
        "//etc/passwd",
    ],
)
def test_what_the_page_does_not_need_is_not_there(guard, path):
    assert ask(guard, path, method="GET")[0] == 404
    assert ask(guard, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/queue/data"])
def test_what_it_needs_is(guard, path):
    status, headers, _ = ask(guard, path, method="GET")
    assert status == 200
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@given(st.text(max_size=60))
def test_no_path_with_dots_gets_through(path):
    if ".." in path:
        assert not allowed(path)
        assert not allowed("/assets/" + path)


@pytest.mark.parametrize(
    ("path", "body", "status", "line"),
    [
        ("call/paint", b"no", 422, "cannot be read as JSON"),
        ("call/paint", b"[1]", 422, "must hold an object, not a list"),
        ("call/paint", b"{}", 422, "data must be a list"),
        ("call/paint", b'{"data": ["a"]}', 422, "data must have 12 values for paint, not 1"),
        (
            "call/paint",
            json.dumps({"data": [{"path": "/etc/passwd"}] + [None] * 11}).encode(),
            422,
            "every value in data must be",
        ),
        ("call/nothing", b'{"data": []}', 404, "there are paint, audit, about"),
        ("call/v2/paint", b'{"num_inference_steps": 5}', 422, "prompt is missing"),
        ("call/v2/paint", b'{"prompt": "a", "nope": 1}', 422, "nope is not a setting of paint"),
        ("call/v2/paint", b'{"prompt": {"url": "http://127.0.0.1"}}', 422, "every value must be"),
        (
            "call/v2/paint",
            b'{"prompt": "a", "first_step": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}',
            422,
            "every value must be",
        ),
        ("call/v2/paint", b'{"prompt": "a", "first_step": {"prompt": {"path": "/etc/passwd"}}}', 422, "every value"),
        ("queue/join", b'{"data": [], "fn_index": 999}', 422, "names no function"),
        ("queue/join", b'{"data": [], "fn_index": null}', 422, "names no function"),
        ("call/paint", b"[" * 60_000, 422, "nested too deeply"),
        ("call/paint", b'{"data": [], "data": []}', 422, "stands there twice"),
        ("call/paint", b"\xff\xfe", 422, "not UTF-8"),
        ("cancel", b'{"session_hash": "%s"}' % (b"a" * 101), 422, "of more than 100 letters"),
        ("cancel", b"Infinity", 422, "must hold an object"),
        ("cancel", b'{"fn_index": NaN}', 422, "holds NaN"),
        ("reset", b'{"event_id": "\\ud800"}', 422, "not Unicode"),
        ("queue/join", b'{"data": [], "fn_index": 3, "session_hash": -Infinity}', 422, "an infinite number"),
    ],
)
def test_what_no_function_can_take_is_refused_in_one_line(guard, path, body, status, line):
    found, _, text = ask(guard, "/gradio_api/" + path, body)
    assert found == status
    assert line in json.loads(text)["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_large_requests_are_refused_by_announced_and_by_received_length(guard, announced):
    body = b"x" * (LARGEST + 1)
    status, _, text = ask(guard, "/gradio_api/call/paint", body, length=len(body) if announced else None)
    assert status == 413
    assert "too large" in json.loads(text)["detail"]


def test_what_is_let_in_arrives_unchanged(guard):
    first_step = {"method": "mean", "prompt": "dark"}
    body = json.dumps({"data": ["rocket", *[None] * 8, first_step, None, None]}).encode()
    assert ask(guard, "/gradio_api/call/paint", body, chunk=7)[2] == body


@pytest.mark.parametrize(
    ("address", "root", "host", "status"),
    [
        ("127.0.0.1", "", b"localhost:8000", 200),
        ("127.0.0.1", "", b"[::1]:7860", 200),
        ("127.0.0.1", "", b"LOCALHOST.", 200),
        ("127.0.0.2", "", b"127.0.0.2", 200),
        ("127.0.0.1", "", b"evil.example:7860", 421),
        ("127.0.0.1", "", b"127.0.0.1.evil.example", 421),
        ("127.0.0.1", "", b"0.0.0.0:7860", 421),
        ("::1", "", b"evil.example", 421),
        ("127.0.0.1", "", b"", 400),
        ("127.0.0.1", "", b"local host", 400),
        ("127.0.0.1", "https://example.com/art", b"example.com", 200),
        ("127.0.0.1", "/art", b"example.com", 421),
        ("0.0.0.0", "", b"any.example:7860", 200),
    ],
)
def test_on_loopback_the_server_answers_to_its_own_names_alone(guard, address, root, host, status):
    named = Guard(guard.app, guard.page, Names(address, root))
    for method, path in (("GET", "/config"), ("OPTIONS", "/config"), ("POST", "/gradio_api/reset")):
        assert ask(named, path, b"{}", method, host=host)[0] == status


@pytest.mark.parametrize(
    ("root", "host", "headers", "status"),
    [
        ("", b"localhost:7860", {"origin": b"http://localhost:7860"}, 200),
        ("", b"localhost:7860", {"origin": b"http://localhost:3000"}, 403),
        ("", b"localhost:7860", {"origin": b"http://evil.example"}, 403),
        ("", b"localhost:7860", {"origin": b"null"}, 403),
        ("", b"localhost:7860", {"origin": b"http://evil.example", "x_forwarded_host": b"evil.example"}, 403),
        ("/art", b"127.0.0.1:7860", {"origin": b"https://example.com", "x_forwarded_host": b"example.com"}, 200),
        ("https://example.com/art", b"127.0.0.1:7860", {"origin": b"https://example.com"}, 200),
        ("https://example.com/art", b"127.0.0.1:7860", {"origin": b"https://evil.example"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(guard, root, host, headers, status):
    named = Guard(guard.app, guard.page, Names("0.0.0.0", root))
    assert ask(named, "/gradio_api/reset", b"{}", host=host, **headers)[0] == status
    assert ask(named, "/gradio_api/reset", method="OPTIONS", host=host, **headers)[0] == status
    assert ask(named, "/config", method="GET", host=host, **headers)[0] == 200


def test_a_body_that_does_not_end_is_refused_after_some_seconds(guard, monkeypatch):
    monkeypatch.setattr(guard_module, "BODY_SECONDS", 0.05)
    sent = []

    async def drip():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/reset", "headers": [(b"host", b"localhost")]}
    asyncio.run(guard(scope, drip, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("begun", [False, True])
def test_a_failure_of_gradio_is_one_line_for_both_sides(guard, begun, caplog):
    async def failing(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("first \x1b[31m\nsecond")

    status, _, text = ask(Guard(failing, guard.page, guard.names), "/config", method="GET")
    assert (status, b"server's log" in text) == ((200, False) if begun else (500, True))
    assert caplog.messages == ["GET /config failed: RuntimeError: first \\x1b[31m"]


def test_a_websocket_is_closed_and_an_unknown_event_is_not_waited_for(guard):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close"}]
    for path in ("call/paint/nothing", "call/v2/paint/nothing"):
        status, _, text = ask(guard, "/gradio_api/" + path, method="GET")
        assert status == 404
        assert b"there is no such request" in text


def test_gradio_sees_no_header_that_it_fails_at(guard):
    async def headers(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": repr([name for name, _ in scope["headers"]]).encode()})

    inner = Guard(headers, guard.page, guard.names)
    given = {"range": b"bytes=9-1", "x_gradio_server": b"http://[", "x_forwarded_host": b"[::::", "accept": b"*/*"}
    assert ask(inner, "/config", method="GET", **given)[2] == b"[b'host', b'accept']"


def test_the_log_has_few_lines_and_shows_what_a_terminal_would_obey(caplog):
    log = Log()
    for i in range(LINES_A_MINUTE + 5):
        log.line(f"{i}")
    log._minute -= 60
    log.line("next")
    assert caplog.messages[LINES_A_MINUTE:] == ["5 more requests failed or were refused", "next"]
    record = logging.LogRecord("x", logging.ERROR, "", 0, "a prompt \x1b]0;title\x07 \u202e", None, None)
    assert Escaped().format(record) == "a prompt \\x1b]0;title\\x07 \\u202e"


def test_a_failure_while_painting_is_a_short_message_with_its_cause_in_the_log(caplog):
    error = api._answer(RuntimeError("out of everything"))
    assert str(error.message) == "painting failed; the cause is in the server's log"
    assert "out of everything" in caplog.text
