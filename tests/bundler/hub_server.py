"""Speaks the Hugging Face hub's protocol, as far as downloading a model goes.

The repository's page (`/api/models/OWNER/REPO[/revision/REV]?blobs=True`), `/OWNER/REPO/resolve/REV/PATH` which
redirects to a content server with the X-Linked-* headers, and that server's byte ranges. It can be told to be gated,
to cut connections, and to lie about the bytes.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.bundler.http_server import Handler, Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=dict)
    is_gated: bool = False
    is_in_xet: bool = False
    license: str = "mit"


class HubServer(Server):
    def __init__(self) -> None:
        super().__init__(HubHandler)
        self.repositories: dict[str, Repository] = {}
        self.cuts: list[int] = []  # each takes one download: so many bytes, then the connection ends
        self.lies: dict[str, bytes] = {}  # by sha256: what is sent instead
        self.broken_status = 0


class HubHandler(Handler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.server.broken_status:
            self.answer(self.server.broken_status, {})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.describe(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[3])
        elif match := re.fullmatch(r"/content/([0-9a-f]{64})", path):
            self.send_content(match[1])
        else:
            self.answer(404, {})

    def describe(self, name: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:  # the hub doesn't say whether it is missing or private
            self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return
        page = {
            "_id": "1", "id": name, "modelId": name, "sha": COMMIT, "private": False,
            "gated": "manual" if repository.is_gated else False, "disabled": False, "tags": [],
            "downloads": 0, "likes": 0,
            "cardData": {"license": repository.license},
            "siblings": [
                {
                    "rfilename": path,
                    "size": len(data),
                    "blobId": "f" * 40,
                    "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135},
                }
                for path, data in repository.files.items()
            ],
        }  # fmt: skip
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(page).encode())

    def resolve(self, name: str, path: str) -> None:
        repository = self.server.repositories.get(name)
        commit = {"X-Repo-Commit": COMMIT}
        if repository is None:
            self.answer(401, {"X-Error-Code": "RepoNotFound"})
        elif repository.is_gated and self.headers.get("Authorization") != "Bearer hf_accepted":
            self.answer(403, commit | {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif path not in repository.files:
            self.answer(404, commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        else:
            data = repository.files[path]
            sha256 = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "ETag": '"pointer"'}
            if repository.is_in_xet:
                linked |= {
                    "X-Xet-Hash": "a" * 64,
                    "Link": f'<{self.server.url}/api/models/{name}/xet-read-token/{COMMIT}>; rel="xet-auth"',
                }
            # Another host, like the hub's: the client must stop at a redirect there and read these headers.
            content_url = self.server.url.replace("127.0.0.1", "localhost")
            self.answer(302, commit | linked | {"Location": f"{content_url}/content/{sha256}"})

    def send_content(self, sha256: str) -> None:
        contents = {
            hashlib.sha256(d).hexdigest(): d for r in self.server.repositories.values() for d in r.files.values()
        }
        data = self.server.lies.get(sha256, contents[sha256])
        total = len(data)
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(requested[1]) if requested else 0
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes", "Content-Length": str(total - start)}
        if requested:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if self.server.cuts and self.command == "GET":
            data = data[: start + self.server.cuts.pop(0)]
            self.close_connection = True
        self.answer(206 if requested else 200, headers, data[start:])
