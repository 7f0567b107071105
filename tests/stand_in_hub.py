"""A Hub on this machine: what `huggingface_hub` needs to push a repository and to fetch it again.

It speaks the part of the Hub's HTTP interface that uploads without Xet use: repositories, branches,
`preupload`, Git LFS batches, commits; and for downloads trees and `resolve`. What it knows of the
real Hub is what the library sends and expects.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"
LARGE = (".onnx", ".data", ".engine", ".bin")


@dataclass
class Repository:
    private: bool = False
    branches: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)


class StandIn(ThreadingHTTPServer):
    """The server; `repositories`, `blobs` (large files by hash) and `requests` say what came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.blobs, self.requests = {}, {}, []
        self.messages = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name, revision="main"):
        """Content of each file of a revision by path."""
        repository = self.repositories[name]
        commit = repository.branches.get(revision, revision)
        return repository.commits[commit]

    def sent(self, method="PUT"):
        return [path for each, path in self.requests if each == method]


@contextmanager
def running():
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Refused(Exception):
    def __init__(self, status, code="", **told):
        super().__init__(status)
        self.status, self.code, self.told = status, code, told


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *given):
        """Nothing is printed."""

    def do_GET(self):
        self.answer(self.get)

    def do_HEAD(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def do_PUT(self):
        self.answer(self.put)

    def answer(self, method):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, self.path))
        try:
            self.reply(200, *method([each for each in self.path.split("/") if each]))
        except Refused as refused:
            content = {"error": "refused", **refused.told}
            self.reply(refused.status, content, {"X-Error-Code": refused.code})

    def reply(self, status, content, headers=None):
        plain = isinstance(content, bytes)
        data = content if plain else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header(
            "Content-Type", "application/octet-stream" if plain else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def require_writer(self):
        if self.token not in (WRITER, READER):
            raise Refused(401)
        if self.token != WRITER:
            raise Refused(403)

    def repository(self, name):
        found = self.server.repositories.get(name)
        if found is None or (found.private and self.token not in (WRITER, READER)):
            raise Refused(404, "RepoNotFound")
        return found

    def commit(self, name, revision):
        repository = self.repository(name)
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise Refused(404, "RevisionNotFound")
        return commit, repository.commits[commit]

    def get(self, parts):
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
            revision = rest[1] if len(rest) > 1 else "main"
            commit, files = self.commit(name, revision)
            if rest[:1] == ["tree"]:
                return (tree(files),)
            siblings = [{"rfilename": path} for path in files]
            private = self.repository(name).private
            return ({"id": name, "sha": commit, "private": private, "siblings": siblings},)
        name, (kind, revision), path = "/".join(parts[:2]), parts[2:4], "/".join(parts[4:])
        assert kind == "resolve"
        commit, files = self.commit(name, revision)
        if path not in files:
            raise Refused(404, "EntryNotFound")
        etag = f'"{oid(path, files[path])}"'
        return files[path], {"ETag": etag, "X-Repo-Commit": commit}

    def put(self, parts):
        assert parts[0] == "lfs"
        assert hashlib.sha256(self.body).hexdigest() == parts[1]
        self.server.blobs[parts[1]] = self.body
        return ({},)

    def post(self, parts):
        if parts == ["api", "validate-yaml"]:
            return ({"errors": [], "warnings": []},)
        self.require_writer()
        if parts == ["api", "repos", "create"]:
            return self.create(json.loads(self.body))
        if parts[-3:] == ["lfs", "objects", "batch"]:
            return (self.batch(json.loads(self.body)["objects"]),)
        name, (kind, revision) = "/".join(parts[2:4]), parts[4:6]
        repository = self.repository(name)
        if kind == "branch":
            if revision in repository.branches:
                raise Refused(409)
            repository.branches[revision] = repository.branches["main"]
            return ({},)
        _, files = self.commit(name, revision)
        if kind == "preupload":
            asked = json.loads(self.body)["files"]
            return ({"files": [mode(each["path"], files) for each in asked]},)
        assert kind == "commit"
        return (self.take(name, revision, files),)

    def create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            raise Refused(403)
        url = f"{self.server.url}/{name}"
        if name in self.server.repositories:
            raise Refused(409, url=url)
        private = asked.get("private") or asked.get("visibility") == "private"
        first = hashlib.sha1(name.encode()).hexdigest()
        made = Repository(bool(private), {"main": first}, {first: {".gitattributes": b""}})
        self.server.repositories[name] = made
        return ({"url": url, "id": name},)

    def batch(self, objects):
        for each in objects:
            if each["oid"] not in self.server.blobs:
                href = f"{self.server.url}/lfs/{each['oid']}"
                each["actions"] = {"upload": {"href": href}}
        return {"transfer": "basic", "objects": objects}

    def take(self, name, revision, files):
        files = dict(files)
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.server.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert entry["key"] == "lfsFile"
                files[value["path"]] = self.server.blobs[value["oid"]]
        made = hashlib.sha1(self.body).hexdigest()
        repository = self.repository(name)
        repository.commits[made] = files
        repository.branches[revision] = made
        return {"commitUrl": f"{self.server.url}/{name}/commit/{made}", "commitOid": made}


def oid(path, content):
    """What Git or Git LFS calls a file's content."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def mode(path, files):
    known = oid(path, files[path]) if path in files else None
    kind = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": kind, "shouldIgnore": False, "oid": known}


def tree(files):
    entries = []
    for path, content in files.items():
        entry = {"type": "file", "path": path, "size": len(content), "oid": oid(path, content)}
        if path.endswith(LARGE):
            large = {"oid": entry["oid"], "size": len(content), "pointerSize": 130}
            entry["lfs"] = large
        entries.append(entry)
    return entries
