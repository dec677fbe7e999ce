"""The page of a run: one HTML file that opens from disk. `load_view` reads, `render_report` draws."""

from ouroscope_app.report.loading import load_view
from ouroscope_app.report.page import render_report
from ouroscope_app.report.view import RunView

__all__ = ["RunView", "load_view", "render_report"]
