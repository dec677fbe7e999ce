"""The pages over HTTP: addresses, headers, what is said when something cannot be shown. Changes nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ouroscope.addresses import is_loopback, split_address
from ouroscope.errors import InvalidRequest, NotFound, OuroscopeError
from services.coordinator.page.pages import TEMPLATES, Answer, Pages

log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
Make = Callable[[Request], Awaitable[Answer]]
GONE = (NotFound, InvalidRequest)
"""What a name in an address can be wrong about."""


class Site:
    """The addresses and their answers."""

    def __init__(self, pages: Pages, *, only_here: bool) -> None:
        """Serve `pages`; `only_here` refuses calls that name another host than this machine."""
        self._pages = pages
        self._only_here = only_here
        self._headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy(pages.style, pages.script),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def app(self) -> Starlette:
        """Return what a server serves."""
        pages = self._pages
        routes = {
            "/": lambda _: pages.overview(),
            "/runs/{run}": lambda asked: pages.run(asked.path_params["run"]),
            "/monitors/{monitor}": lambda asked: pages.monitor(asked.path_params["monitor"]),
            "/parts/overview": lambda _: pages.overview_part(),
            "/parts/runs/{run}/{part}": lambda asked: pages.run_part(**_named(asked)),
            "/parts/monitors/{monitor}": lambda asked: pages.monitor_part(asked.path_params["monitor"]),
        }
        found = [Route(path, self._endpoint(make), methods=["GET"]) for path, make in routes.items()]
        icon = Response((TEMPLATES / "icon.svg").read_bytes(), media_type="image/svg+xml", headers=self._headers)
        return Starlette(
            routes=[*found, Route("/icon.svg", _always(icon))], exception_handlers={HTTPException: self._refuse}
        )

    def _endpoint(self, make: Make) -> Endpoint:
        async def answer(request: Request) -> Response:
            if self._only_here and not _names_this_machine(request):
                # A page of another site, whose name was made to point here, must not read this one.
                return self._failed(403, "Not here", "This page is shown under the address of this machine only.")
            try:
                return self._shown(request, await make(request))
            except GONE:
                return self._failed(404, "Not found", "There is no such run or monitor; it may have been deleted.")
            except OuroscopeError as error:
                log.warning("page.failed", path=request.url.path, reason=error.reason)
                return self._failed(503, "Not now", "This cannot be read now; try again in a moment.")
            except Exception as error:
                log.error("page.failed", path=request.url.path, exc_info=error)
                return self._failed(500, "A fault", "This page could not be made; see the log of the coordinator.")

        return answer

    def _shown(self, request: Request, answer: Answer) -> Response:
        headers = {**self._headers, "ETag": f'"{answer.tag}"'}
        if f'"{answer.tag}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(answer.html, media_type="text/html", headers=headers)

    def _failed(self, status: int, title: str, told: str) -> Response:
        html = self._pages.failed(title, told).html
        return Response(html, status_code=status, media_type="text/html", headers=self._headers)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """Answer what no route takes: another address, or another method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        answer = self._failed(status, "Not found" if status == 404 else "Not possible", "There is nothing here.")
        answer.headers.update(getattr(error, "headers", None) or {})
        return answer


def policy(style: str, script: str) -> str:
    """Return what the page may do: its own style and script, pictures and answers of its own address, nothing else."""
    return (
        f"default-src 'none'; style-src '{_hashed(style)}'; script-src '{_hashed(script)}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashed(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _named(request: Request) -> dict[str, str]:
    return {"run_id": request.path_params["run"], "part": request.path_params["part"]}


def _names_this_machine(request: Request) -> bool:
    host = request.headers.get("host", "")
    try:
        return is_loopback(split_address(host)[0])
    except InvalidRequest:
        return is_loopback(host.removeprefix("[").removesuffix("]"))


def _always(response: Response) -> Endpoint:
    async def answer(request: Request) -> Response:
        return response

    return answer
