"""Any path and any body, compared with the rules of ``web.guard``."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gradio")

from singdiffusion.web.guard import LARGEST, Guard, allowed
from singdiffusion.web.page import build
from singdiffusion.web.studio import Studio
from singdiffusion.web.waiting import WaitingRoom


@pytest.fixture(scope="module")
def guard(studio):
    async def gradio(scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message.get("body", b"")})

    assert isinstance(studio, Studio)
    return Guard(gradio, build(WaitingRoom(lambda: studio)))


def ask(guard, path, body=b"", method="POST", length=None, chunk=1 << 16):
    """(status, headers, body) of a request whose body comes in pieces."""
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    sent = []

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": headers}, receive, send))
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
        ("call/paint", b"no", 422, "is not JSON"),
        ("call/paint", b"[1]", 422, "JSON object"),
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
        ("call/paint", b"[" * 200_000, 422, "is not JSON"),
        ("cancel", b"Infinity", 422, "JSON object"),
        ("cancel", b'{"fn_index": NaN}', 422, "has NaN"),
        ("reset", b'{"event_id": "\\ud800"}', 422, "not Unicode"),
        ("queue/join", b'{"data": [], "fn_index": 3, "session_hash": -Infinity}', 422, "has NaN"),
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
