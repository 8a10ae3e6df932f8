"""Proxies on both sides of the server, all real processes: one of the environment, and a reverse proxy that shows the page under a path."""

import os
import re

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.web.direct import without_proxies
from tests.commands import refused
from tests.web.proxying import reverse_proxy
from tests.web.serving import Served, serve

gradio_client = pytest.importorskip("gradio_client")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server")]

NOWHERE = "127.0.0.1:9"  # where nothing listens


@pytest.mark.parametrize(
    ("names", "proxy"),
    [
        (["http_proxy", "https_proxy"], f"http://{NOWHERE}"),
        (["HTTP_PROXY", "HTTPS_PROXY"], f"http://{NOWHERE}"),
        (["ALL_PROXY"], f"http://{NOWHERE}"),
        (["ALL_PROXY"], f"socks5://{NOWHERE}"),
        (["http_proxy"], "nonsense"),
    ],
)
def test_a_proxy_of_the_environment_is_not_in_the_way(names, proxy):
    env = dict.fromkeys(names, proxy) | {"NO_PROXY": "example.com"}
    with serve("--module", "none", env=env) as served:
        assert served.call("about", [])[1] == "complete"
    log = "".join(served.log)
    assert served.process.returncode == 130, log
    assert "Traceback" not in log


def test_the_environment_is_as_before(monkeypatch):
    for before in ("example.com", None):
        monkeypatch.delenv("no_proxy", raising=False)
        if before is not None:
            monkeypatch.setenv("no_proxy", before)
        with pytest.raises(KeyError), without_proxies():
            assert os.environ["no_proxy"] == "*"
            raise KeyError
        assert os.environ.get("no_proxy") == before


@pytest.fixture(scope="module")
def behind():
    with serve("--root-path", "/art/painting/") as served:
        yield served


@pytest.mark.parametrize("removed", [True, False], ids=["path removed", "path kept"])
def test_a_reverse_proxy_shows_the_page_under_a_path(behind, removed):
    with reverse_proxy(behind.url, "/art/painting", removed) as (url, asked):
        proxied = Served(behind.process, url, behind.log)
        status, page = proxied.ask("")
        assert status == 200
        assert "SingDiffusion, before and after" in page
        scripts = re.findall(r'(?:src|href)="([^"]*assets/[^"]+)"', page)
        assert scripts
        for script in scripts[:3]:
            assert proxied.ask(script.removeprefix(url).removeprefix("/art/painting/").removeprefix("./"))[0] == 200
        client = gradio_client.Client(url, verbose=False)
        made = client.predict("solid black background", num_inference_steps=2, api_name="/paint")
        assert made["pictures"][0]["on"]["mean_luma"] < 20
        assert proxied.call("about", [])[1] == "complete"
        assert all(path.startswith("/art/painting/") for path in asked), asked
        assert proxied.ask("upload")[0] == proxied.ask("gradio_api/upload")[0] == 404


def test_the_page_is_still_there_without_the_proxy(behind):
    assert behind.ask("")[0] == 200
    assert behind.call("about", [])[1] == "complete"


def test_without_the_option_the_page_does_not_find_its_parts_under_a_path():
    with serve("--module", "none") as served, reverse_proxy(served.url, "/art") as (url, _):
        assert f'"root":"{url[:-1]}"' not in Served(None, url, []).ask("config")[1]


@pytest.mark.parametrize("root", ["painting", "/a b", "/a?b", "ftp://example.com/a", "/../a", "https://"])
def test_what_is_no_path_is_one_line(root):
    from singdiffusion.web.server import public_root

    with pytest.raises(SingDiffusionError, match="root_path must be a path such as /painting") as raised:
        public_root(root)
    assert raised.value.setting == "root_path"


def test_a_path_loses_its_last_slash():
    from singdiffusion.web.server import public_root

    for given, found in (("", ""), ("//", ""), ("/a/b/", "/a/b"), ("https://example.com/a/", "https://example.com/a")):
        assert public_root(given) == found


def test_the_command_line_names_its_option():
    refused("serve", "--port", 0, "--root-path", "painting", match="not 'painting' (--root-path)")
