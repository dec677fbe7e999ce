"""A stand-in for the data sets of the Hugging Face Hub: the routes that `datasets` asks for when it streams.

The forms are those of `huggingface_hub`: information on a commit, the files below a folder, a file or a range of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Files = Mapping[str, bytes]


@dataclass(eq=False)
class DataSets:
    """Data sets by `owner/name`, and of each its commits."""

    commits: Mapping[str, Mapping[str, Files]]
    gated: frozenset[str] = frozenset()
    elsewhere: list[str] = field(default_factory=list)
    """Paths that were asked for and are none of the Hub's."""

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/datasets/{repository:path}/revision/{commit}", self._commit),
                Route("/api/datasets/{repository:path}/tree/{commit}/{folder:path}", self._tree),
                Route("/api/datasets/{repository:path}/tree/{commit}", self._tree),
                Route("/datasets/{owner}/{name}/resolve/{commit}/{path:path}", self._file, methods=["GET", "HEAD"]),
                Route("/{path:path}", self._other, methods=["GET", "HEAD", "POST"]),
            ]
        )

    async def _commit(self, request: Request) -> Response:
        name, commit = request.path_params["repository"], request.path_params["commit"]
        if name not in self.commits:
            return _missing("RepoNotFound")
        if name in self.gated:
            return JSONResponse({"error": "gated"}, 403, {"X-Error-Code": "GatedRepo"})
        if commit not in self.commits[name]:
            return _missing("RevisionNotFound")
        found = [{"rfilename": path} for path in self.commits[name][commit]]
        return JSONResponse({"id": name, "sha": commit, "siblings": found, "tags": [], "downloads": 0, "likes": 0})

    async def _tree(self, request: Request) -> Response:
        files = self.commits[request.path_params["repository"]][request.path_params["commit"]]
        folder = request.path_params.get("folder", "")
        below = folder + "/" if folder else ""
        found: dict[str, dict[str, object]] = {}
        for path, content in files.items():
            if path.startswith(below):
                head, _, rest = path.removeprefix(below).partition("/")
                kind = "directory" if rest else "file"
                size = 0 if rest else len(content)
                found[head] = {"type": kind, "path": below + head, "size": size, "oid": _tag(content)}
        return JSONResponse(list(found.values())) if found or not folder else _missing("EntryNotFound")

    async def _file(self, request: Request) -> Response:
        given = request.path_params
        name = f"{given['owner']}/{given['name']}"
        content = self.commits[name][given["commit"]].get(given["path"])
        if content is None:
            return _missing("EntryNotFound", given["commit"])
        head = {"ETag": f'"{_tag(content)}"', "X-Repo-Commit": given["commit"], "Accept-Ranges": "bytes"}
        asked = request.headers.get("range")
        if asked is None:
            return Response(content, headers=head)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        head["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return Response(part, 206, head)

    async def _other(self, request: Request) -> Response:
        self.elsewhere.append(request.url.path)
        return _missing("RepoNotFound")


def _missing(code: str, commit: str = "") -> Response:
    return JSONResponse({"error": code}, 404, {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})})


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
