"""A stand-in for the Hugging Face hub on the loopback interface.

It speaks what the real client asks for: files of a revision (HEAD and GET, entity tags, commit
headers, redirects to a store of large files on another host, ranges), access, refs, trees, and
uploads by preupload, LFS and commit. It can be told to fail.
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
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pt", ".pth")  # what the hub keeps outside of git
TOKEN = "hf_test"


@dataclass
class Repository:
    """Commits by id, each a mapping of files, and what names them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    moved_to: str | None = None

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits.get(self.branches.get("main", ""), {})
        content = {**before, **files}
        text = repr((len(self.commits), sorted((k, sha256(v)) for k, v in content.items())))
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = content
        self.branches["main"] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        named = {**self.branches, **self.tags, **{oid: oid for oid in self.commits}}
        return named.get(revision)


@dataclass
class Faults:
    """What goes wrong with the content of large files, while it is set."""

    status: int | None = None  # of every answer
    cut: int | None = None  # the connection closes after that many bytes
    stall_after: int | None = None  # nothing more comes after that many bytes
    change: Callable[[bytes], bytes] | None = None  # other bytes, of the same length


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Use as a context manager; ``endpoint`` is what ``HF_ENDPOINT`` takes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.store: dict[str, bytes] = {}  # large files by their hash
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, authorization
        self.faults = Faults()
        self.stalled = threading.Event()
        self.closing = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage(self) -> str:
        """The same server under another name, as the real hub's files are on another host."""
        return f"http://localhost:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], tag: str | None = None) -> Repository:
        """Commit files to a repository, which is made if need be."""
        repository = self.repositories.setdefault(name, Repository())
        oid = repository.commit(files)
        self.store.update((sha256(data), data) for data in files.values())
        if tag:
            repository.tags[tag] = oid
        return repository

    def asked(self, method: str, part: str = "") -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method and part in path]

    def __enter__(self) -> HubServer:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
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

    def do_HEAD(self) -> None:
        self._handle("HEAD")

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    # Routes ------------------------------------------------------------------------------------

    def _handle(self, method: str) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.query = parse_qs(parts.query)
        self.body = self._read_body()
        self.server.requests.append((method, path, self.headers.get("Authorization")))
        if self.server.faults.status is not None:
            return self._send(self.server.faults.status)
        for verbs, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in verbs:
                return function(self, *match.groups())
        return self._send(404, {"error": f"no such page: {method} {path}"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is not None and repository.moved_to:
            location = f"/{repository.moved_to}/resolve/{revision}/{file}"
            return self._send(307, headers={"Location": location})
        found = self._version(name, revision)
        if found is None:
            return None
        oid, files = found
        headers = {"X-Repo-Commit": oid}
        if file not in files:
            return self._send(404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        data = files[file]
        if not file.endswith(LARGE):
            return self._send(200, data, {**headers, "ETag": f'"{git_oid(data)}"'})
        digest = sha256(data)
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        headers["Location"] = f"{self.server.storage}/store/{digest}"
        return self._send(302, headers=headers)

    def _stored(self, digest: str) -> None:
        faults = self.server.faults
        data = self.server.store[digest]
        if faults.change:
            data = faults.change(data)
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if asked:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        self.send_response(206 if asked else 200)
        for key, value in {**headers, "Content-Length": str(len(rest))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if faults.cut is not None:
            rest = rest[: max(faults.cut - start, 0)]
            self.close_connection = True
        if faults.stall_after is not None:
            self.wfile.write(rest[: faults.stall_after])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.closing.wait()
            return
        self.wfile.write(rest)

    def _tree(self, name: str, revision: str) -> None:
        found = self._version(name, revision)
        if found is not None:
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
                for path, data in sorted(found[1].items())
            ]
            self._send(200, entries)

    def _revision(self, name: str, revision: str) -> None:
        found = self._version(name, revision)
        if found is not None:
            self._send(200, {"id": name, "sha": found[0], "siblings": [], "xetEnabled": False})

    def _refs(self, name: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        listed = {
            kind: [
                {"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": oid}
                for ref, oid in refs.items()
            ]
            for kind, folder, refs in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
            )
        }
        self._send(200, {**listed, "converts": []})

    # Uploads -----------------------------------------------------------------------------------

    def _create(self) -> None:
        if not self._may_write():
            return
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = {"url": f"{self.server.endpoint}/{name}"}
        if name in self.server.repositories:
            return self._send(409, url)
        hidden = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.repositories[name] = Repository(private=hidden)
        self.server.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._send(200, url)

    def _validate(self) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def _preupload(self, name: str, revision: str) -> None:
        if self._may_write():
            self._send(
                200,
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(self.body)["files"]
                    ]
                },
            )

    def _batch(self, name: str) -> None:
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.server.storage}/store/{wanted['oid']}"
            known = wanted["oid"] in self.server.store
            objects.append({**wanted, **({} if known else {"actions": {"upload": {"href": href}}})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _put(self, digest: str) -> None:
        if sha256(self.body) != digest:
            return self._send(400)
        self.server.store[digest] = self.body
        return self._send(200)

    def _commit(self, name: str, revision: str) -> None:
        if not self._may_write():
            return
        files = {}
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.store[value["oid"]]
        oid = self.server.repositories[name].commit(files)
        url = f"{self.server.endpoint}/{name}/commit/{oid}"
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _tag(self, name: str, revision: str) -> None:
        repository = self.server.repositories[name]
        tag = json.loads(self.body)["tag"]
        if tag in repository.tags:
            return self._send(409, {"error": "Tag already exists"})
        repository.tags[tag] = repository.resolve(revision)
        return self._send(200, {})

    # Parts -------------------------------------------------------------------------------------

    def _repository(self, name: str) -> Repository | None:
        repository = self.server.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            self._send(401 if not known else 404, headers={"X-Error-Code": "RepoNotFound"})
        elif repository.gated and not known:
            self._send(403, headers={"X-Error-Code": "GatedRepo"})
        else:
            return repository
        return None

    def _version(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self._repository(name)
        if repository is None:
            return None
        oid = repository.resolve(revision)
        if oid is None:
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
            return None
        return oid, repository.commits[oid]

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._send(401, {"error": "Invalid username or password."})
        return False

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

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
    (("GET", "HEAD"), r"/store/(\w+)", _Handler._stored),
    (("GET",), f"/api/models/{_NAME}/tree/([^/]+)", _Handler._tree),
    (("GET",), f"/api/models/{_NAME}/revision/([^/]+)", _Handler._revision),
    (("GET",), f"/api/models/{_NAME}/refs", _Handler._refs),
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate),
    (("POST",), f"/api/models/{_NAME}/preupload/([^/]+)", _Handler._preupload),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    (("PUT",), r"/store/(\w+)", _Handler._put),
    (("POST",), f"/api/models/{_NAME}/commit/([^/]+)", _Handler._commit),
    (("POST",), f"/api/models/{_NAME}/tag/([^/]+)", _Handler._tag),
)
