"""The server as a real process, on loopback: its API, its limits, and many requests at once."""

import base64
import io
import json
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from singdiffusion import tiny
from singdiffusion.painting.png import read_settings
from singdiffusion.web.settings import FirstStep, Settings
from tests.commands import refused, start
from tests.web import hostile
from tests.web.serving import serve

gradio_client = pytest.importorskip("gradio_client")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server")]

BLACK = "solid black background"
PARAMETERS = list(Settings.model_fields)


@pytest.fixture(scope="module")
def served():
    with serve() as served:
        yield served


def picture(data_uri):
    with Image.open(io.BytesIO(base64.b64decode(data_uri.removeprefix("data:image/png;base64,")))) as image:
        return image.convert("RGB"), read_settings(image)


def values(**change):
    """Values for /paint, in its order."""
    return list((Settings(prompt=BLACK, num_inference_steps=2).model_dump() | change).values())


def test_gradios_client_gets_pictures_with_their_settings(served, studio):
    client = gradio_client.Client(served.url, verbose=False)
    made = client.predict(BLACK, seed=5, num_inference_steps=4, count=2, api_name="/paint")
    direct = studio.paint(Settings(prompt=BLACK, seed=5, num_inference_steps=4, count=2))
    assert [each["seed"] for each in made["pictures"]] == [5, 6]
    for each, pair in zip(made["pictures"], direct.pairs, strict=True):
        for part, own in (("off", pair.off), ("on", pair.on)):
            image, settings = picture(each[part]["png"])
            np.testing.assert_allclose(np.asarray(image, int), np.asarray(own, int), atol=1)
            assert (settings["prompt"], settings["seed"]) == (BLACK, each["seed"])
            assert settings["singdiffusion"] == part
            assert settings["num_inference_steps"] == 4
    assert made["pictures"][0]["on"]["mean_luma"] < 20 < made["pictures"][0]["off"]["mean_luma"]
    common = {name: value for name, value in direct.record.as_json().items() if name != "singdiffusion"}
    assert made["settings"] == common | {"count": 2}


def test_the_api_describes_itself_and_its_model(served, studio):
    client = gradio_client.Client(served.url, verbose=False)
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert set(described) == {"/paint", "/audit", "/about"}
    assert [each["parameter_name"] for each in described["/paint"]["parameters"]] == PARAMETERS
    about = client.predict(api_name="/about")
    assert about["modules"] == studio.modules == {"none": [], "tiny-unet": ["mean"], "tiny": ["mean", "moments"]}
    assert client.predict(num_inference_steps=20, scheduler="euler", api_name="/audit") == studio.audit(
        Settings(prompt="a", num_inference_steps=20, scheduler="euler")
    ).as_json() | {"latents": [16, 16], "warnings": []}


def test_plain_http_by_names(served):
    status, event, data = served.call("paint", {"prompt": BLACK, "num_inference_steps": 2}, version="v2/")
    assert (status, event) == (200, "complete")
    assert data[0]["pictures"][0]["on"]["mean_luma"] < 20


def test_the_first_steps_options_are_an_object(served):
    body = {"prompt": "rocket", "num_inference_steps": 2, "first_step": {"color": "white"}}
    _, event, data = served.call("paint", body, version="v2/")
    assert event == "complete"
    assert data[0]["settings"]["first_step"] == {"color": "white"}
    client = gradio_client.Client(served.url, verbose=False)
    made = client.predict("rocket", num_inference_steps=2, first_step={"method": "mean"}, api_name="/paint")
    assert made["settings"]["first_step"] == {"method": "mean"}
    assert made["pictures"][0]["on"]["mean_luma"] < data[0]["pictures"][0]["on"]["mean_luma"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"num_inference_steps": 10_000}, "num_inference_steps must be at most 150"),
        ({"num_inference_steps": "many"}, "num_inference_steps must be a whole number"),
        ({"count": 99}, "count must be at most 4"),
        ({"width": 4096}, "width must be at most 1024"),
        ({"width": 65}, "width must be a positive multiple of 16"),
        ({"scheduler": "../../etc/passwd"}, "unknown scheduler"),
        ({"first_step": {"color": "/etc/passwd"}}, "'/etc/passwd' is"),
        ({"control": "/etc/passwd"}, "unknown control"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**32}, "seed must be less than 4294967296"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number"),
    ],
)
def test_a_mistake_is_named(served, change, line):
    status, event, data = served.call("paint", values(**change))
    assert (status, event) == (200, "error")
    assert line in data["error"]


def test_no_file_of_the_server_is_reached(served):
    for path in (
        "gradio_api/file=/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/upload",
        "gradio_api/file=pyproject.toml",
    ):
        status, text = served.ask(path)
        assert status == 404
        assert "root:" not in text
    for name in ("config", "gradio_api/info", "gradio_api/openapi.json", ""):
        status, text = served.ask(name)
        assert status == 200
        assert "/site-packages/" not in text
        assert "/home/" not in text


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("/etc/passwd"))
FILES = st.dictionaries(st.sampled_from(["path", "url", "meta"]), st.text(max_size=9), max_size=3)
FIRST_STEPS = st.dictionaries(st.sampled_from([*FirstStep.model_fields, "path"]), PLAIN, max_size=3)
ANY = st.one_of(PLAIN, st.lists(st.integers(), max_size=2), FILES, FIRST_STEPS)
SMALL = {
    "num_inference_steps": st.integers(-5, 3),
    "count": st.integers(-1, 2),
    "width": st.sampled_from([0, 16, 64, 7, 9999]),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(PARAMETERS), ANY, min_size=1, max_size=4), st.fixed_dictionaries({}, optional=SMALL)
)
def test_any_value_of_any_parameter_gives_a_picture_a_400_or_one_line(served, change, small):
    status, event, data = served.call("paint", values(**(change | small)))
    _is_clear(status, event, data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(ANY, lambda inner: st.lists(inner, max_size=3)).map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_body_of_any_call_is_answered(served, body):
    for path in ("call/paint", "call/v2/paint", "call/audit", "queue/join", "cancel", "reset"):
        status, text = served.ask("gradio_api/" + path, body)
        assert status < 500, (path, body, text)
        assert "Traceback" not in text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PLAIN, min_size=14, max_size=14), st.booleans())
def test_the_pages_own_functions_check_their_values_too(served, found, judge):
    """What the browser calls, called with anything: the page's own message, or a status of the 400s."""
    config = json.loads(served.ask("config")[1])
    own = [each["id"] for each in config["dependencies"] if len(each["inputs"]) == 14]
    assert len(own) >= 3
    body = {"data": found, "fn_index": own[-1] if judge else own[0], "session_hash": f"s{random.getrandbits(60)}"}
    status, _ = served.ask("gradio_api/queue/join", body)
    assert status < 500
    if status == 200:
        _, stream = served.ask(f"gradio_api/queue/data?session_hash={body['session_hash']}", timeout=120)
        last = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data:")]
        done = next(each for each in last if each["msg"] == "process_completed")
        assert done["success"], done
        assert "Traceback" not in stream


def _is_clear(status, event, data):
    assert status < 500
    if status != 200:
        assert data["detail"]
    elif event == "error":
        assert data["error"]
        assert "Traceback" not in data["error"]
        assert "the server's log" not in data["error"]
        assert "\n" not in data["error"]
    else:
        assert event == "complete"
        assert data[0]["pictures"]


def test_a_client_that_goes_away_stops_the_painting(served):
    client = gradio_client.Client(served.url, verbose=False)
    job = client.submit(BLACK, num_inference_steps=150, count=4, api_name="/paint")
    while not job.outputs():
        time.sleep(0.05)
    assert job.cancel()
    started = time.monotonic()
    client.predict(BLACK, num_inference_steps=1, api_name="/paint")
    assert time.monotonic() - started < 3  # 1,200 steps would take longer by far


def test_a_dropped_connection_stops_the_painting(served):
    status, text = served.ask("gradio_api/call/paint", {"data": values(num_inference_steps=150, count=4)})
    assert status == 200
    host, port = served.url.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port))) as stream:
        event = json.loads(text)["event_id"]
        stream.sendall(f"GET /gradio_api/call/paint/{event} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b"200 OK" in stream.recv(4096)
        time.sleep(1)
    started = time.monotonic()
    assert served.call("paint", values(num_inference_steps=1))[1] == "complete"
    assert time.monotonic() - started < 15  # Gradio looks every so often whether anybody listens


def test_hundreds_of_hostile_requests_leave_lines_and_no_traceback(served):
    """Half-sent requests wait meanwhile, and end after ten seconds, also where a byte comes from time to time."""
    port = int(served.url.strip("/").split(":")[-1])
    began, halves = time.monotonic(), []
    for half in [*hostile.HALVES, *hostile.HALVES]:
        halves.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        halves[-1].sendall(half)
    config = json.loads(served.ask("config")[1])
    functions = {each["id"]: len(each["inputs"]) for each in config["dependencies"]}
    statuses = [hostile.send(port, request) for request in hostile.requests(functions)]
    assert len(statuses) > 350
    assert 500 not in statuses
    assert {0, 200, 400, 404, 405, 421, 422} >= set(statuses) - {100, 403, 413}
    for stream in halves[: len(hostile.HALVES)]:
        with suppress(OSError):
            stream.sendall(b"X")
    for stream in halves:
        with suppress(ConnectionError), stream:
            while stream.recv(4096):
                pass
    assert time.monotonic() - began < 60
    assert served.call("about", [])[1] == "complete"
    log = "".join(served.log)
    assert "Traceback" not in log
    assert "\x1b" not in log
    assert "POST /gradio_api/call/paint was refused: " in log


def test_too_many_connections_are_refused_and_make_room_again(served):
    port = int(served.url.strip("/").split(":")[-1])
    many = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(200)]
    assert b"503 Service Unavailable" in many[-1].recv(4096)
    for stream in many:
        stream.close()
    time.sleep(0.5)
    assert served.ask("config")[0] == 200


def test_100_requests_of_16_clients_lose_none_and_memory_does_not_grow(served):
    def client(number):
        found = []
        for i in range(7 if number < 4 else 6):
            seed = number * 100 + i
            status, event, data = served.call("paint", values(seed=seed, prompt=BLACK if i % 2 else "rocket"))
            assert (status, event) == (200, "complete"), data
            found.append((seed, data[0]["pictures"][0]["seed"], data[0]["pictures"][0]["on"]["mean_luma"], i % 2))
        return found

    def soak():
        with ThreadPoolExecutor(16) as pool:
            return [each for found in pool.map(client, range(16)) for each in found]

    first = soak()
    before = served.memory
    second = soak()
    assert len(first) == len(second) == 100
    assert all(asked == got for asked, got, _, _ in first)
    assert first == second  # every visitor got their own pictures, whoever else was asking
    assert all(luma < 20 for _, _, luma, black in first if black)
    assert served.memory - before < 16
    assert "Traceback" not in "".join(served.log)


def test_too_many_at_once_are_refused_and_may_try_again():
    with serve("--max-waiting", 2, "--module", "none") as served:

        def ask(_):
            return served.call("paint", values(num_inference_steps=40, prompt="rocket"))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(8)))
        busy = [data["error"] for _, event, data in found if event == "error"]
        assert len(found) - len(busy) >= 3
        assert busy
        assert all("busy" in line and "try again" in line for line in busy)


def test_ctrl_c_in_the_middle_stops_it_cleanly():
    with serve() as served:
        asking = threading.Thread(
            target=lambda: _ignore(lambda: served.call("paint", values(num_inference_steps=150, count=4)))
        )
        asking.start()
        time.sleep(1)
    asking.join(20)
    log = "".join(served.log)
    assert served.process.returncode == 130, log
    assert "interrupted" in log
    assert "Traceback" not in log


def _ignore(call):
    with suppress(Exception):
        call()


def test_other_machines_see_no_path_of_this_one(tmp_path):
    model = tmp_path / "my-model"
    model.symlink_to(tiny.folder())
    options = ["--model", model]
    for kind in ("unet", "decoder"):  # two of one name, as train names them
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "module").symlink_to(tiny.module_folder("tiny-unet" if kind == "unet" else "tiny"))
        options += ["--module", tmp_path / kind / "module"]
    for host, shown in (("127.0.0.1", str(model)), ("0.0.0.0", "my-model")):
        with serve(*options, "--host", host) as served:
            about = served.call("about", [])[2][0]
            assert about["model"] == shown
            unet, decoder = ("module-unet", "module-decoder") if shown == "my-model" else options[3::2]
            assert about["modules"] == {"none": [], str(unet): ["mean"], str(decoder): ["mean", "moments"]}
            painted = served.call("paint", values(num_inference_steps=1))[2][0]["pictures"][0]["on"]["png"]
            assert picture(painted)[1]["model"] == shown
            assert shown in served.ask("")[1]
            assert shown == str(model) or str(tmp_path) not in served.ask("")[1] + served.ask("config")[1]


def test_a_limit_of_the_command_line_is_kept():
    with serve("--max-steps", 5, "--max-size", 64, "--max-count", 1, stop=signal.SIGTERM) as served:
        for change, line in (
            ({"num_inference_steps": 6}, "at most 5"),
            ({"width": 128}, "at most 64"),
            ({"count": 2}, "at most 1"),
        ):
            assert line in served.call("paint", values(**change))[2]["error"]
        client = gradio_client.Client(served.url, verbose=False)
        assert len(client.predict("rocket", api_name="/paint")["pictures"]) == 1
    assert served.process.returncode == 143
    assert "stopped by SIGTERM" in "".join(served.log)


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused("serve", "--port", taken.getsockname()[1], match="choose another port or host (--port)")


@pytest.mark.parametrize(
    ("options", "match", "status"),
    [
        (["--host", "8.8.8.8"], "cannot listen on 8.8.8.8", 1),
        (["--host", "no such host"], "cannot listen on no such host", 1),
        (["--model", "nowhere"], "there is no model 'nowhere'", 1),
        (["--module", "nowhere"], "nowhere", 1),
        (["--module", "none", "--module", "tiny"], "none goes with no other module (--module)", 1),
        (["--module", "tiny", "--module", "tiny-decoder"], "is the second MeanDecoder", 1),
        (["--control", "picture.png"], "picture.png is for a ControlNet to follow", 1),
        (["--max-steps", "0"], "--max-steps", 2),
        (["--port", "99999"], "--port", 2),
        (["--device", "warp"], "'warp' is not available", 1),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(options, match, status):
    refused("serve", "--port", 0, *options, match=match, status=status) if "--port" not in options else refused(
        "serve", *options, match=match, status=status
    )


def test_the_controlnet_model_brings_what_it_follows():
    with serve("--model", "tiny-controlnet") as served:
        client = gradio_client.Client(served.url, verbose=False)
        names = client.predict(api_name="/about")["controls"]
        assert len(names) > 1
        one, other = (
            client.predict("logo", num_inference_steps=2, control=name, api_name="/paint")["pictures"][0]
            for name in names[:2]
        )
        assert one["off"]["png"] != other["off"]["png"]


def test_it_listens_on_loopback_alone():
    process = start("serve", "--help")
    assert "127.0.0.1" in process.communicate(timeout=60)[0]
