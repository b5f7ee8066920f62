"""A small Hugging Face Hub on two loopback ports, for tests: the endpoint and, as a host of its own, the storage that large files
are redirected to. Prints "ENDPOINT_PORT STORAGE_PORT" and serves until it is killed. Python's standard library only.

GET /_log    the requests since the last look, as JSON: [{role, method, path, authorization, range}]
GET /_set?k=v  faults of the storage: cut=N (the next N answers stop half-way), ignore_range=1, hang=1, status=503
FOLDER (the optional argument): FOLDER/ORG/NAME/ is served as repository ORG/NAME beside the built-in ones.
"""

import hashlib
import json
import pathlib
import re
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = bytes((i * 7 + i // 251) % 256 for i in range(300_000))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def index_of(*shards):
    return json.dumps({"metadata": {}, "weight_map": {f"layer{i}": name for i, name in enumerate(shards)}}).encode()


MAIN, DEV = "a" * 40, "b" * 40
SMALL = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "README.md": b"not needed"}
# repository -> revision -> (commit, {name: contents})
REPOSITORIES = {
    "org/tiny": {"main": (MAIN, {**SMALL, "model.safetensors": LARGE, "pytorch_model.bin": LARGE[:50]}),
                 "dev/two": (DEV, {**SMALL, "model.safetensors": LARGE[::-1]})},
    "org/sharded": {"main": (MAIN, {**SMALL, "model.safetensors.index.json": index_of("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
                                    "model-00001-of-00002.safetensors": LARGE[:1000], "model-00002-of-00002.safetensors": LARGE[1000:3000]})},
    "org/missing-shard": {"main": (MAIN, {**SMALL, "model.safetensors.index.json": index_of("model-00001-of-00002.safetensors")})},
    "org/no-weights": {"main": (MAIN, dict(SMALL))},
    "org/damaged": {"main": (MAIN, {**SMALL, "model.safetensors": LARGE})},
    "org/damaged-config": {"main": (MAIN, {**SMALL, "model.safetensors": LARGE})},
    "org/gated": {"main": (MAIN, {**SMALL, "model.safetensors": LARGE})},
    "gpt2": {"main": (MAIN, {"config.json": b"{}", "vocab.json": b"{}", "merges.txt": b"", "pytorch_model.bin": LARGE[:99]})},
}
RENAMED = {"org/old": "org/tiny"}
FAULTS = {"cut": 0, "ignore_range": 0, "hang": 0, "status": 0}
LOG = []
STORAGE = {}  # sha256 -> contents
LOCK = threading.Lock()


def add_folder(folder):
    for path in sorted(pathlib.Path(folder).glob("*/*")):
        files = {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
        REPOSITORIES[f"{path.parent.name}/{path.name}"] = {"main": (MAIN, files)}


def revision_of(repository, revision):
    revisions = REPOSITORIES[repository]
    return revisions.get(revision) or next((r for r in revisions.values() if r[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def note(self, role):
        with LOCK:
            LOG.append({"role": role, "method": self.command, "path": self.path, "authorization": self.headers.get("Authorization", ""), "range": self.headers.get("Range", "")})

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()


class Endpoint(Handler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/_log":
            with LOCK:
                body = json.dumps(LOG).encode()
                LOG.clear()
            return self.answer(200, body)
        if url.path == "/_set":
            FAULTS.update({key: int(value) for key, value in urllib.parse.parse_qsl(url.query)})
            return self.answer(200)
        self.note("endpoint")
        match = re.fullmatch(r"/api/models/([^?]+)/revision/([^/]+)", url.path) or re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", url.path)
        if not match:
            return self.answer(404, X_Error_Code="EntryNotFound")
        repository, revision = match[1], urllib.parse.unquote(match[2])
        if repository in RENAMED:
            return self.answer(307, Location=self.path.replace(repository, RENAMED[repository], 1))
        if repository not in REPOSITORIES:
            return self.answer(401, X_Error_Code="RepoNotFound")
        if repository == "org/gated" and self.headers.get("Authorization") != "Bearer secret":
            return self.answer(403 if "Authorization" in self.headers else 401, X_Error_Code="GatedRepo")
        found = revision_of(repository, revision)
        if found is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found
        if url.path.startswith("/api/"):
            return self.answer(200, json.dumps({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}).encode())
        data = files.get(urllib.parse.unquote(match[3]))
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        if match[3].endswith((".safetensors", ".bin")):
            digest = sha256(data) if repository != "org/damaged" else sha256(b"other bytes")
            STORAGE[digest] = data
            return self.answer(302, Location=f"http://localhost:{self.server.storage_port}/blob/{digest}?signature=x", X_Repo_Commit=commit,
                               X_Linked_Etag=f'"{digest}"', X_Linked_Size=str(len(data)), ETag='"of the redirect"')
        etag = git_sha1(data) if repository != "org/damaged-config" else git_sha1(b"other bytes")
        self.answer(200, data, ETag=f'W/"{etag}"', X_Repo_Commit=commit)


class Storage(Handler):
    def do_GET(self):
        self.note("storage")
        if FAULTS["hang"]:
            time.sleep(20)
        if FAULTS["status"]:
            return self.answer(FAULTS["status"])
        data = STORAGE.get(self.path.split("?")[0].rsplit("/", 1)[-1])
        if data is None:
            return self.answer(404)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not FAULTS["ignore_range"] else 0
        if start >= len(data):
            return self.answer(416)
        body, headers = data[start:], {}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if FAULTS["cut"] > 0:
            FAULTS["cut"] -= 1
            self.answer(206 if start else 200, body[: len(body) // 2], Content_Length=str(len(body)), **headers)
            self.close_connection = True
            return
        self.answer(206 if start else 200, body, **headers)


def main():
    if len(sys.argv) > 1:
        add_folder(sys.argv[1])
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    storage = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    for server in (endpoint, storage):
        server.daemon_threads = True
    endpoint.storage_port = storage.server_port
    threading.Thread(target=storage.serve_forever, daemon=True).start()
    print(endpoint.server_port, storage.server_port, flush=True)
    endpoint.serve_forever()


if __name__ == "__main__":
    main()
