"""The same report as a PDF: A4, charts as pictures, made without a browser."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import vl_convert
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace, TTFFont

from kennel.insight.report import theme
from kennel.insight.report.document import Block, Change, Document, Figure, KeyFigures, Section, Spec, Table, Text

_WIDTH_MM = 178.0  # A4 less the margins
_MARGIN_MM = 16.0
_CHART_PX = 780  # wide enough for the longest legend
_SCALE = 1.8  # pixels of the picture for one of the chart: 200 dots an inch
_INK, _QUIET, _LINE, _WARM, _GOOD = (29, 36, 48), (90, 101, 117), (223, 227, 233), (182, 74, 23), (31, 116, 102)
_WIDE = "dejavu"
_REPLACED = str.maketrans({"’": "'", "→": "->", "×": "x", "·": "-", "…": "...", "“": '"', "”": '"', "–": "-", "‘": "'"})


def pdf(document: Document) -> bytes:
    """The whole file."""
    paper = _Paper(document)
    paper.heading()
    for section in document.sections:
        paper.section(section)
    return bytes(paper.output())


def picture(spec: Spec) -> bytes:
    """A chart as a PNG, dark on white."""
    sized = {**spec, "width": _CHART_PX, "autosize": {"type": "fit-x", "contains": "padding"}}
    return vl_convert.vegalite_to_png(json.dumps(sized), scale=_SCALE, config=theme.config(paper=True))


def _wide_fonts() -> dict[str, Path]:
    """DejaVu Sans by style, from matplotlib, which the trainer draws with; empty where that is not installed."""
    found = find_spec("matplotlib")  # a top-level name is looked up without being imported
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "mpl-data/fonts/ttf"
    files = {"": folder / "DejaVuSans.ttf", "B": folder / "DejaVuSans-Bold.ttf"}
    return files if all(file.is_file() for file in files.values()) else {}


class _Paper(FPDF):
    def __init__(self, document: Document) -> None:
        super().__init__(format="A4")
        self._document = document
        self._glyphs: frozenset[int] | None = None  # of the wide font, once it is needed
        self.set_margin(_MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=_MARGIN_MM + 4)
        self.set_title(f"{document.title}: profiler report")
        self.set_creator("Kennel")
        self.set_lang("en")
        self.add_page()

    def footer(self) -> None:
        """fpdf2 calls it at the end of each page."""
        self.set_y(-_MARGIN_MM)
        text, family = self._written(self._document.title[:80])
        self._font(8, _QUIET, family=family)
        self.cell(_WIDTH_MM / 2, 5, text)
        self._font(8, _QUIET)
        self.cell(_WIDTH_MM / 2, 5, f"{self.page_no()}/{{nb}}", align="R")

    def heading(self) -> None:
        """Title, subtitle, and what is missing."""
        self._line("Profiler report", 8.5, _QUIET)
        self._line(self._document.title, 18, _INK, bold=True)
        self._line(self._document.subtitle, 9.5, _QUIET)
        self.ln(2)
        if self._document.problems:
            self._line("What is missing or odd", 10, _WARM, bold=True)
            for problem in self._document.problems:
                self._line(f"- {problem}", 9, _INK)

    def section(self, section: Section) -> None:
        """A heading and what is below it."""
        self.ln(4)
        first = section.blocks[0]
        self._room(85 if isinstance(first, Figure) else 35)  # a heading does not stand alone
        self.start_section(section.title)
        self._line(section.title, 13, _INK, bold=True)
        self.ln(1)
        for block in section.blocks:
            self._block(block)

    def _block(self, block: Block) -> None:
        match block:
            case Text():
                self._line(block.text, 10, _INK)
                self.ln(1)
            case Table():
                self._table(block)
            case Figure():
                self._figure(block)
            case KeyFigures():
                self._key_figures(block)
            case Change():
                self._change(block)

    def _figure(self, figure: Figure) -> None:
        image = io.BytesIO(picture(figure.spec))
        height_mm = _height_of(image.getvalue()) / (_CHART_PX * _SCALE) * _WIDTH_MM
        self._room(height_mm + 8)
        self.image(image, w=_WIDTH_MM, alt_text=figure.caption)
        self._line(figure.caption, 8.5, _QUIET)
        self.ln(2)

    def _key_figures(self, figures: KeyFigures) -> None:
        self._room(18)
        width_mm = _WIDTH_MM / max(4, len(figures.items))
        top = self.get_y()
        for place, (label, value, note) in enumerate(figures.items):
            for offset, text, size, colour in ((0, label, 8, _QUIET), (4, value, 12.5, _INK), (10, note, 7, _QUIET)):
                self.set_xy(_MARGIN_MM + place * width_mm, top + offset)
                written, family = self._written(text)
                self._font(size, colour, bold=text is value, family=family)
                self.cell(width_mm, 4.5, _shortened(self, written, width_mm - 1))
        self.set_xy(_MARGIN_MM, top + 17)

    def _change(self, change: Change) -> None:
        self._room(26)
        self._line(change.topic, 8.5, _QUIET)
        text, family = self._written(change.change, "courier")
        self._font(12, _INK, bold=True, family=family)
        self.multi_cell(_WIDTH_MM, 6, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._line(change.gain, 10, _GOOD, bold=True)
        self._line(change.reason, 9, _QUIET)
        self.ln(2.5)

    def _table(self, table: Table) -> None:
        self._font(8, _INK)
        self.set_draw_color(*_LINE)
        heads = FontFace(color=_QUIET, emphasis="")
        align: Any = tuple("RIGHT" if place in table.numbers else "LEFT" for place in range(len(table.header)))
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES, headings_style=heads, line_height=4.4, padding=0.9,
            text_align=align, col_widths=_widths(table), width=_WIDTH_MM,
        ) as drawn:  # fmt: skip
            for number, cells in enumerate((table.header, *table.rows)):
                row = drawn.row()
                for place, text in enumerate(cells):
                    marked = place == 0 and number - 1 in table.marked
                    written, family = self._written(text)
                    row.cell(written, style=FontFace(family=family, color=_WARM if marked else None))
        self.ln(3)

    def _room(self, height_mm: float) -> None:
        if self.will_page_break(height_mm):
            self.add_page()

    def _font(
        self, size: float, colour: tuple[int, int, int], *, bold: bool = False, family: str = "helvetica"
    ) -> None:
        self.set_font(family, "B" if bold else "", size)
        self.set_text_color(*colour)

    def _line(self, text: str, size: float, colour: tuple[int, int, int], *, bold: bool = False) -> None:
        written, family = self._written(text)
        self._font(size, colour, bold=bold, family=family)
        self.multi_cell(_WIDTH_MM, size * 0.5, written, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _written(self, text: str, family: str = "helvetica") -> tuple[str, str]:
        """A text as it can be printed, and the font for it: the built-in ones of PDF have Latin-1 only.

        What no font has keeps its place as a question mark.
        """
        plain = text.translate(_REPLACED)
        replaced = plain.encode("latin-1", "replace").decode("latin-1")
        if replaced == plain or not self._wide():
            return replaced, family
        return "".join(letter if ord(letter) in self._wide() else "?" for letter in plain), _WIDE

    def _wide(self) -> frozenset[int]:
        """The characters of the wide font; it is read for the first text that needs it."""
        if self._glyphs is None:
            files = _wide_fonts()
            for style, file in files.items():
                self.add_font(_WIDE, style, file)
            font = self.fonts.get(_WIDE)
            self._glyphs = frozenset(font.cmap) if isinstance(font, TTFFont) else frozenset()
        return self._glyphs


def _height_of(png: bytes) -> int:
    """Pixels; bytes 20 to 23 of a PNG (PNG specification, section 11.2.2, IHDR)."""
    return int.from_bytes(png[20:24], "big")


def _shortened(paper: FPDF, text: str, width_mm: float) -> str:
    while text and paper.get_string_width(text) > width_mm:
        text = text[:-1] if not text.endswith("..") else text[:-3] + ".."
        text = text if text.endswith("..") else text[:-2] + ".."
    return text


def _widths(table: Table) -> tuple[int, ...]:
    """Shares of the width by what the columns hold; none is squeezed out."""
    lengths = [max(len(row[place]) for row in (table.header, *table.rows)) for place in range(len(table.header))]
    lengths[0] += lengths[0] // 3  # names have no place where a line may break
    return tuple(max(12, min(length, 32)) for length in lengths)
