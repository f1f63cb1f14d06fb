"""Speaks the simple repository API (PEP 503 and 691) for packages made up in tests."""

import hashlib
import io
import json
import zipfile
from pathlib import PurePosixPath

from tests.bundler.http_server import Handler, Server


class IndexServer(Server):
    def __init__(self) -> None:
        super().__init__(IndexHandler)
        self.wheels: dict[str, dict[str, bytes]] = {}  # project: file name: content
        self.wrong_hashes = False

    @property
    def index_url(self) -> str:
        return f"{self.url}/simple/"

    def publish(self, package: str, version: str, files: dict[str, bytes]) -> str:
        """Add a wheel of these files; return its name."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        wheel = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        self.wheels.setdefault(package, {})[wheel] = content.getvalue()
        return wheel


class IndexHandler(Handler):
    server: IndexServer

    def do_GET(self) -> None:
        path = PurePosixPath(self.path)
        if path.parts[1] == "simple" and path.name in self.server.wheels:
            self.list_project(path.name)
        elif path.parts[1] == "files":
            self.answer(200, {}, self.server.wheels[path.parts[2]][path.name])
        else:
            self.answer(404, {})

    def list_project(self, project: str) -> None:
        files = [
            {
                "filename": name,
                "url": f"{self.server.url}/files/{project}/{name}",
                "hashes": {"sha256": "0" * 64 if self.server.wrong_hashes else hashlib.sha256(data).hexdigest()},
            }
            for name, data in self.server.wheels[project].items()
        ]
        page = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
        self.answer(200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, json.dumps(page).encode())
