"""A stand-in for the Hugging Face hub on the loopback interface.

It speaks what the real client asks for to list, fetch and upload the files of a revision.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


@dataclass
class Repository:
    """Commits by id, each a mapping of files, and what names them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: dict[str, bytes]) -> str:
        content = {**self.commits.get(self.refs.get("main", ""), {}), **files}
        oid = hashlib.sha1(repr((len(self.commits), sorted(content.items()))).encode()).hexdigest()
        self.commits[oid] = content
        self.refs["main"] = oid
        return oid


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Use as a context manager; ``endpoint`` is what ``HF_ENDPOINT`` takes.

    While ``status`` is set, every answer has it; ``change`` is made to the files that are sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []  # "METHOD /path"
        self.status: int | None = None
        self.change: Callable[[bytes], bytes] = lambda data: data

    def add(self, name: str, files: dict[str, bytes], tag: str | None = None) -> Repository:
        """Commit files to a repository, which is made if need be."""
        repository = self.repositories.setdefault(name, Repository())
        oid = repository.commit(files)
        if tag:
            repository.refs[tag] = oid
        return repository

    def __enter__(self) -> HubServer:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {path}")
        if self.server.status is not None:
            return self._send(self.server.status)
        for commands, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in commands:
                return function(self, *match.groups())
        return self._send(404, {"error": f"no such page: {self.command} {path}"})

    do_HEAD = do_GET = do_POST = _answer

    # Downloads ---------------------------------------------------------------------------------

    def _resolve(self, name: str, revision: str, file: str) -> None:
        oid, files = self._version(name, revision)
        if files is None:
            return
        headers = {"X-Repo-Commit": oid}
        if file not in files:
            return self._send(404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        headers["ETag"] = f'"{git_oid(files[file])}"'
        self._send(200, self.server.change(files[file]), headers)

    def _tree(self, name: str, revision: str) -> None:
        _, files = self._version(name, revision)
        if files is not None:
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
                for path, data in sorted(files.items())
            ]
            self._send(200, entries)

    def _revision(self, name: str, revision: str) -> None:
        oid, files = self._version(name, revision)
        if files is not None:
            self._send(200, {"id": name, "sha": oid, "siblings": []})

    def _refs(self, name: str) -> None:
        refs = self.server.repositories[name].refs
        tags = [
            {"name": ref, "ref": f"refs/tags/{ref}", "targetCommit": oid}
            for ref, oid in refs.items()
            if ref != "main"
        ]
        self._send(200, {"branches": [], "tags": tags, "converts": []})

    # Uploads -----------------------------------------------------------------------------------

    def _create(self) -> None:
        if self._may_write():
            wanted = json.loads(self.body)
            name = f"{wanted['organization']}/{wanted['name']}"
            hidden = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            known = name in self.server.repositories
            self.server.repositories.setdefault(name, Repository(private=hidden))
            self._send(409 if known else 200, {"url": f"{self.server.endpoint}/{name}"})

    def _validate(self) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def _preupload(self, name: str, revision: str) -> None:
        files = json.loads(self.body)["files"]
        how = {"uploadMode": "regular", "shouldIgnore": False}
        self._send(200, {"files": [{"path": file["path"], **how} for file in files]})

    def _commit(self, name: str, revision: str) -> None:
        values = [json.loads(line) for line in self.body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in values
            if line["key"] == "file"
        }
        oid = self.server.repositories[name].commit(files)
        url = f"{self.server.endpoint}/{name}/commit/{oid}"
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _tag(self, name: str, revision: str) -> None:
        self.server.repositories[name].refs[json.loads(self.body)["tag"]] = revision
        self._send(200, {})

    # Parts -------------------------------------------------------------------------------------

    def _knows_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _version(self, name: str, revision: str) -> tuple[str, dict[str, bytes] | None]:
        """A commit and its files; None where the answer has been sent."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._knows_token()):
            self._send(401, headers={"X-Error-Code": "RepoNotFound"})
            return "", None
        oid = repository.refs.get(revision, revision)
        if oid not in repository.commits:
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
        return oid, repository.commits.get(oid)

    def _may_write(self) -> bool:
        if not self._knows_token():
            self._send(401, {"error": "Invalid username or password."})
        return self._knows_token()

    def _send(
        self, status: int, body: bytes | dict | list = b"", headers: dict[str, str] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if not isinstance(body, bytes):
            self.send_header("Content-Type", "application/json")
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (("GET", "HEAD"), f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler._resolve),
    (("GET",), f"/api/models/{_NAME}/tree/([^/]+)", _Handler._tree),
    (("GET",), f"/api/models/{_NAME}/revision/([^/]+)", _Handler._revision),
    (("GET",), f"/api/models/{_NAME}/refs", _Handler._refs),
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate),
    (("POST",), f"/api/models/{_NAME}/preupload/([^/]+)", _Handler._preupload),
    (("POST",), f"/api/models/{_NAME}/commit/([^/]+)", _Handler._commit),
    (("POST",), f"/api/models/{_NAME}/tag/([^/]+)", _Handler._tag),
)
