"""A report as one HTML file that needs nothing else: styles, charts and the library that draws them are inside."""

from __future__ import annotations

import functools
import itertools
import json
from html import escape
from importlib import resources

import vl_convert

from kennel.insight.report import theme
from kennel.insight.report.document import Block, Change, Document, Figure, KeyFigures, Section, Table, Text

_GLOBAL = "window.vegaEmbed = vegaEmbed;"  # what report.js calls
# Nothing may be fetched; Vega compiles its expressions, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:; "
    "base-uri 'none'"
)


def page(document: Document) -> str:
    """The whole file."""
    body = "".join(_section(section) for section in document.sections)
    links = "".join(f'<li><a href="#{one.anchor}">{escape(one.title)}</a></li>' for one in document.sections)
    specs = {figure.name: figure.spec for figure in document.figures}
    data = _script(
        json.dumps({"specs": specs, "config": theme.config(paper=False)}, ensure_ascii=False, allow_nan=False)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<title>{escape(document.title)} · Kennel {document.kind.lower()}</title>
<link rel="icon" href="data:,">
<style>
{_resource("report.css")}</style>
</head>
<body>
<header>
<p class="kind">{escape(document.kind)}</p>
<h1>{escape(document.title)}</h1>
<p class="subtitle">{escape(document.subtitle)}</p>
</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
{_problems(document.problems)}<main>{body}</main>
<footer><p>{escape(document.footer)}</p></footer>
<noscript><p>The charts need JavaScript; the PDF beside this file has them as pictures.</p></noscript>
<script type="application/json" id="charts">{data}</script>
<script>{_library()}</script>
<script>
{_resource("report.js")}</script>
</body>
</html>
"""


def _script(text: str) -> str:
    """Text that cannot end the script element which it stands in."""
    return text.replace("<", "\\u003c")


@functools.cache
def _library() -> str:
    return vl_convert.javascript_bundle(_GLOBAL).replace("</script", "<\\/script")


def _resource(name: str) -> str:
    return resources.files("kennel.insight.report").joinpath("page", name).read_text(encoding="utf-8")


def _problems(problems: tuple[str, ...]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<div class="problems"><div><strong>What is missing or odd</strong><ul>{items}</ul></div></div>'


def _section(section: Section) -> str:
    parts = []
    for half, blocks in itertools.groupby(section.blocks, key=lambda block: getattr(block, "half", False)):
        made = "".join(_block(block) for block in blocks)
        parts.append(f'<div class="pair">{made}</div>' if half else made)
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{"".join(parts)}</section>'


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"<p>{escape(block.text)}</p>"
        case Table():
            return _table(block)
        case Figure():
            return (
                f'<figure><div class="chart" id="chart-{block.name}"></div>'
                f"<figcaption>{escape(block.caption)}</figcaption></figure>"
            )
        case KeyFigures():
            items = "".join(
                f"<div><dt>{escape(label)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
                for label, value, note in block.items
            )
            return f'<dl class="figures">{items}</dl>'
        case Change():
            return (
                f'<div class="change"><p class="topic">{escape(block.topic)}</p><code>{escape(block.change)}</code>'
                f'<p class="gain">{escape(block.gain)}</p><p class="reason">{escape(block.reason)}</p></div>'
            )


def _table(table: Table) -> str:
    def cell(tag: str, place: int, text: str) -> str:
        kind = ' class="n"' if place in table.numbers else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", place, text) for place, text in enumerate(table.header))
    rows = "".join(
        _row_start(number in table.marked)
        + "".join(cell("td", place, text) for place, text in enumerate(row))
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row_start(marked: bool) -> str:
    return '<tr class="marked">' if marked else "<tr>"
