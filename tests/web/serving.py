"""Start ``singdiffusion serve`` as a real process and send it requests."""

import json
import os
import queue
import signal
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

from tests.commands import start


class Served:
    """A server that listens. ``log`` is all its output."""

    def __init__(self, process, url, log):
        self.process, self.url, self.log = process, url, log

    @property
    def memory(self):
        """Resident memory, MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def ask(self, path, body=None, headers=None, method=None, timeout=60):
        """(status, text) of one HTTP request."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def call(self, name, values, version=""):
        """(status, last event, its data) of a function of the HTTP API."""
        body = {"data": values} if not version else values
        status, text = self.ask(f"gradio_api/call/{version}{name}", body)
        if status != 200:
            return status, None, json.loads(text)
        status, text = self.ask(f"gradio_api/call/{version}{name}/{json.loads(text)['event_id']}", timeout=300)
        event, data = text.strip().split("\n\n")[-1].split("\n")[:2]
        return status, event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@contextmanager
def serve(*options, env=None, stop=signal.SIGINT):
    """A server on a free port, stopped by Ctrl-C as a user stops it, or by another signal."""
    process = start("serve", "--port", 0, *options, PYTHONUNBUFFERED="1", **(env or {}))
    lines, log = queue.Queue(), []

    def read(stream):
        for line in stream:
            log.append(line)
            lines.put(line)
        lines.put(None)

    readers = [
        threading.Thread(target=read, args=(stream,), daemon=True) for stream in (process.stdout, process.stderr)
    ]
    for reader in readers:
        reader.start()
    try:
        line = lines.get(timeout=180)
        while line is not None and "The page is at" not in line:
            line = lines.get(timeout=180)
        assert line is not None, "".join(log)
        yield Served(process, line.split(" at ")[1].split()[0], log)
    finally:
        if process.poll() is None:
            os.kill(process.pid, stop)
        process.wait(timeout=60)
        for reader in readers:
            reader.join(10)
        for stream in (process.stdout, process.stderr):
            stream.close()
