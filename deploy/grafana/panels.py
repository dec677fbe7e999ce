"""Parts of dashboards as plain dicts. Knows how Grafana writes them down, not what Ouroscope exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Panel = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH = 24
"""Columns of the grid of a dashboard."""
STABLE, WARNING, COLLAPSE, UNKNOWN = "#1b7a57", "#e0aa3e", "#b3261e", "#8a8f98"
LEVELS = {
    0: ("STABLE", STABLE),
    1: ("WARNING", WARNING),
    2: ("COLLAPSE", COLLAPSE),
    -1: ("INSUFFICIENT_DATA", UNKNOWN),
}
"""What the recorded level of a verdict means, and its colour in the report page."""
SPREADS = "In units of the spread between human sources; positive is towards collapse. Above 1 is beyond the margin."


def query(expression: str, legend: str = "", *, instant: bool = False, exemplars: bool = False) -> dict[str, Any]:
    """Return one query of a panel."""
    return {
        "datasource": SOURCE,
        "expr": expression,
        "legendFormat": legend or "__auto",
        "instant": instant,
        "range": not instant,
        "exemplar": exemplars,
        "format": "table" if instant else "time_series",
    }


def panel(kind: str, title: str, queries: Iterable[Mapping[str, Any]], width: int, height: int, told: str) -> Panel:
    """Return a panel; where it stands is decided by `dashboard`."""
    return {
        "type": kind,
        "title": title,
        "description": told,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "targets": [{**one, "refId": chr(ord("A") + place)} for place, one in enumerate(queries)],
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {},
    }


def lines(
    title: str,
    *queries: Mapping[str, Any],
    told: str = "",
    unit: str = "short",
    width: int = 12,
    least: float | None = None,
    steps: bool = False,
) -> Panel:
    """Return lines over time; `least` is where the axis begins at the latest, `steps` draws them as stairs."""
    made = panel("timeseries", title, queries, width, 8, told)
    custom = {
        "lineWidth": 2,
        "fillOpacity": 0,
        "showPoints": "auto",
        "lineInterpolation": "stepAfter" if steps else "linear",
    }
    made["fieldConfig"]["defaults"] = {"unit": unit, "custom": custom}
    if least is not None:
        made["fieldConfig"]["defaults"]["min"] = least
    made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return made


def thin(made: Panel, pattern: str) -> Panel:
    """Return the panel with the series whose name fits drawn thin and dashed, as bounds are."""
    override = {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": "custom.lineWidth", "value": 1},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [4, 4]}},
        ],
    }
    return {**made, "fieldConfig": {**made["fieldConfig"], "overrides": [override]}}


def number(
    title: str, expression: str, *, told: str = "", unit: str = "short", colour: str = "text", width: int = 4
) -> Panel:
    """Return the newest value of a query as a large number; in `colour` from 1 on."""
    made = panel("stat", title, [query(expression, instant=True)], width, 4, told)
    steps = [{"color": "text", "value": None}, *([] if colour == "text" else [{"color": colour, "value": 1}])]
    made["fieldConfig"]["defaults"] = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}
    made["options"] = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def word(title: str, expression: str, label: str, *, told: str = "", width: int = 4) -> Panel:
    """Return the label of the only series of a query as a large word."""
    made = number(title, expression, told=told, width=width)
    made["fieldConfig"]["defaults"]["displayName"] = f"${{__field.labels.{label}}}"
    made["options"]["textMode"] = "name"
    return made


def verdicts(title: str, expression: str, legend: str, *, told: str = "", height: int = 8, width: int = WIDTH) -> Panel:
    """Return a band of colours over time for every series of levels."""
    made = panel("state-timeline", title, [query(expression, legend)], width, height, told)
    made["fieldConfig"]["defaults"] = {"mappings": [LEVEL_MAPPING], "custom": {"fillOpacity": 80, "lineWidth": 0}}
    made["options"] = {"showValue": "never", "legend": {"displayMode": "list", "placement": "bottom"}}
    return made


LEVEL_MAPPING = {
    "type": "value",
    "options": {str(level): {"text": text, "color": colour} for level, (text, colour) in LEVELS.items()},
}


def bars(title: str, expression: str, legend: str, *, told: str = "", unit: str = "short", width: int = 12) -> Panel:
    """Return the newest values of a query as horizontal bars."""
    made = panel(
        "bargauge", title, [{**query(expression, legend, instant=True), "format": "time_series"}], width, 8, told
    )
    made["fieldConfig"]["defaults"] = {"unit": unit, "color": {"mode": "fixed", "fixedColor": "text"}}
    reduce = {"calcs": ["lastNotNull"], "values": False}
    made["options"] = {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": reduce}
    return made


def table(
    title: str,
    columns: Mapping[str, str],
    by: Sequence[str],
    *,
    told: str = "",
    levels: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> Panel:
    """Return a table with one row for each set of the labels `by` and a column for each query.

    Args:
        title: of the panel.
        columns: query by heading; each must have the labels `by` and no other.
        by: the labels.
        told: description.
        levels: headings of columns that hold levels of verdicts.
        units: unit by heading.
        links: address by label; `${__value.text}` in it is the label of the row.
    """
    queries = [query(expression, instant=True) for expression in columns.values()]
    made = panel("table", title, queries, WIDTH, 10, told)
    renamed = {f"Value #{chr(ord('A') + place)}": heading for place, heading in enumerate(columns)}
    # Grafana calls the column of a lone query just that.
    renamed = renamed if len(columns) > 1 else {"Value": next(iter(columns))}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate([*by, *renamed])},
                "renameByName": renamed,
            },
        },
    ]
    made["fieldConfig"]["overrides"] = [
        *(
            _override(heading, {"mappings": [LEVEL_MAPPING], "custom.cellOptions": {"type": "color-text"}})
            for heading in levels
        ),
        *(_override(heading, {"unit": unit}) for heading, unit in (units or {}).items()),
        *(_override(label, {"links": [{"title": "open", "url": url}]}) for label, url in (links or {}).items()),
    ]
    return made


def _override(field: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def row(title: str) -> Panel:
    """Return a heading over the panels that follow."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


def repeated(made: Panel, variable: str) -> Panel:
    """Return the panel once for every value of a variable, side by side."""
    return {**made, "repeat": variable, "repeatDirection": "h", "maxPerRow": 3}


def choice(name: str, label: str, expression: str, *, several: bool = False, hidden: bool = False) -> dict[str, Any]:
    """Return a variable whose values come from Prometheus: `label_values(metric, label)`."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": expression,
        "query": {"query": expression, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "hide": 2 if hidden else 0,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


def dashboard(
    uid: str, title: str, told: str, panels: Sequence[Panel], choices: Sequence[dict[str, Any]] = ()
) -> Panel:
    """Return a whole dashboard; panels flow from left to right and break where a line is full."""
    source = {
        "type": "datasource",
        "name": "source",
        "label": "Prometheus",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return {
        "uid": uid,
        "title": title,
        "description": told,
        "tags": ["ouroscope"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *choices]},
        "links": [{"type": "dashboards", "tags": ["ouroscope"], "title": "Ouroscope", "asDropdown": True}],
        "annotations": {"list": []},
        "panels": [*_placed(panels)],
    }


def _placed(panels: Sequence[Panel]) -> Iterable[Panel]:
    x = y = height = 0
    for number, made in enumerate(panels, start=1):
        size = made["gridPos"]
        if x + size["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        yield {**made, "id": number, "gridPos": {**size, "x": x, "y": y}}
        x, height = x + size["w"], max(height, size["h"])
