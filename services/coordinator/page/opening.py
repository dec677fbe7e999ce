"""Opens the page of a coordinator: what it reads from, who tells it of monitors, where it is served."""

from __future__ import annotations

from contextlib import AsyncExitStack

from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.page.app import Site
from services.coordinator.page.pages import Pages
from services.coordinator.page.reading import Reading
from services.coordinator.page.server import start_page_server
from services.coordinator.page.watched import Watched


class OpenPage:
    """The page of a coordinator, open or not: without an address nobody is served."""

    def __init__(self, history: History, store: ArtifactStore, board: Board) -> None:
        self.watched = Watched()
        """A listener of monitors."""
        self.reading = Reading(history, store)
        """Wants to know the catalogue of metrics."""
        self._pages = Pages(self.reading, board, self.watched)

    def serve(self, resources: AsyncExitStack, address: str, *, allow_public: bool, security: Security) -> str:
        """Serve the page until `resources` are closed, and return its URL; empty where `address` is.

        Raises:
            InvalidRequest: `address` is not an address.
            PreconditionFailed: it cannot be listened on, or is public without protection and `allow_public`.
        """
        if not address:
            return ""
        public = allow_public or security.protects
        site = Site(self._pages, only_here=not public).app()
        server = start_page_server(site, address, allow_public=public, security=security)
        resources.push_async_callback(server.close)
        return server.url
