"""How charts look.

On screen they take the page's own colour (currentColor), so that light, dark and print need no redrawing; on paper they
are dark on white. The colours of data have a contrast of at least 3 to 1 on both backgrounds (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

from typing import Any

ORANGE, AMBER, SKY, BLUE, GREEN, VIOLET, ROSE, GREY = (
    "#d9622b", "#b98a13", "#4a90d9", "#3267b0", "#2f9482", "#8a6fd0", "#c75b96", "#7d858f",
)  # fmt: skip
USAGE_COLOURS = {
    "GPU": BLUE,
    "GPU memory": VIOLET,
    "CPU": ORANGE,
    "CPU of the container": AMBER,
    "memory": GREEN,
    "I/O wait": ROSE,
}
PAIR = (BLUE, ORANGE)
_SCREEN_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def config(*, paper: bool) -> dict[str, Any]:
    """Vega-Lite's `config`."""
    ink = "#1d2430" if paper else "currentColor"
    return {
        "background": "white" if paper else "transparent",
        "font": "Roboto, Arial, sans-serif" if paper else _SCREEN_FONT,
        "padding": 2,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink, "gridColor": ink,
            "gridOpacity": 0.12, "domainOpacity": 0.4, "tickOpacity": 0.4, "labelFontSize": 11, "titleFontSize": 11.5,
            "titleFontWeight": "normal", "labelOpacity": 0.85, "titleOpacity": 0.85, "titlePadding": 8,
            "labelPadding": 4,
        },
        "axisX": {"grid": False},
        "axisYQuantitative": {"minExtent": 40, "domain": False, "ticks": False},
        "legend": {
            "labelColor": ink, "titleColor": ink, "labelFontSize": 11.5, "orient": "top", "title": None,
            "symbolType": "square", "symbolSize": 90, "columnPadding": 14, "padding": 0, "offset": 10,
        },
        "header": {"labelColor": ink, "titleColor": ink},
        "text": {"color": ink, "fontSize": 11.5},
        "rule": {"color": ink},
        "line": {"strokeWidth": 1.8, "strokeJoin": "round"},
        "point": {"filled": True, "size": 36},
        "bar": {"cornerRadiusEnd": 2},
    }  # fmt: skip
