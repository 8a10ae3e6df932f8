"""A small reverse proxy: it passes what is under a path to a server, streams included, as nginx does."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BY_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")


@contextmanager
def reverse_proxy(target, path, removed=True):
    """The public address of a proxy that shows ``target`` under ``path``, and the paths that visitors asked it for.

    Args:
        removed: whether the path is removed from a request, as by nginx's ``proxy_pass`` with a slash at its end.
    """
    asked, host = [], urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if not f"{self.path}/".startswith(path + "/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in BY_HOP}
            headers["X-Forwarded-Host"] = self.headers["Host"]
            connection = http.client.HTTPConnection(host, timeout=120)
            inner = (self.path.removeprefix(path) or "/") if removed else self.path
            connection.request(self.command, inner, body, headers)
            self.forward(connection.getresponse())
            connection.close()

        do_POST = do_GET

        def forward(self, answer):
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(1 << 16):
                self.wfile.write(part)
                self.wfile.flush()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
