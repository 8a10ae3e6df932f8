"""A small hub over HTTP: it serves folders as repositories, and takes commits of small files."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "fedcba9876" * 4


class Hub(ThreadingHTTPServer):
    """Serves ``root/owner/name`` as the repository ``owner/name``.

    Attributes:
        downloaded: names of the files that clients fetched, as "owner/name/file".
        gated: repositories that are refused.
    """

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.downloaded, self.gated = root, [], set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(root):
    """Serve a folder of repositories inside the block."""
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args):
        pass

    def _answer(self, body=b"", status=200, head=False, **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def _repository(self, parts):
        name = "/".join(parts[:2])
        folder = self.server.root / name
        if name in self.server.gated:
            self._answer({"error": "gated"}, 403, X_Error_Code="GatedRepo")
        elif not folder.is_dir():
            self._answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        else:
            return folder
        return None

    def do_HEAD(self):
        self._file(head=True)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        if path[:2] == ["api", "models"]:
            folder = self._repository(path[2:])
            if folder is not None:
                known = path[4:5] != ["revision"] or path[5] in ("main", COMMIT)
                if not known:
                    self._answer({}, 404, X_Error_Code="RevisionNotFound")
                elif path[4:5] == ["tree"]:
                    self._tree(folder)
                else:
                    self._answer(self._info(folder, "/".join(path[2:4])))
        else:
            self._file(head=False)

    def _info(self, folder, name):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        rows = [{"rfilename": file.relative_to(folder).as_posix(), "size": file.stat().st_size} for file in files]
        licence = json.loads((folder / "card.json").read_text()) if (folder / "card.json").is_file() else {}
        return {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": rows,
            "cardData": licence,
            "tags": [],
            "private": False,
        }

    def _tree(self, folder):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        rows = [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]
        entries = [{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha256(c).hexdigest()} for n, c in rows]
        self._answer(entries)

    def _file(self, head):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        folder = self._repository(path)
        if folder is None:
            return
        file = folder.joinpath(*path[4:])  # owner/name/resolve/revision/...
        if not file.is_file():
            self._answer({}, 404, head, X_Error_Code="EntryNotFound")
            return
        content = file.read_bytes()
        if not head:
            self.server.downloaded.append("/".join(path[:2] + path[4:]))
        self._answer(content, 200, head, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def do_POST(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path[-2:] == ["repos", "create"]:
            given = json.loads(body)
            name = f"{given.get('organization') or 'me'}/{given['name']}"
            (self.server.root / name).mkdir(parents=True, exist_ok=True)
            self._answer({"url": f"{self.server.url}/{name}"})
        elif path[-1] == "validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "preupload" in path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "commit" in path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    file = self.server.root.joinpath(*path[2:4], row["value"]["path"])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(row["value"]["content"]))
            name = "/".join(path[2:4])
            self._answer({"commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._answer({}, 404)
