"""The report as Chromium shows it: light, dark, narrow, printed, and of a run of 5,000 steps."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from kennel.insight.profile import comparing, contents
from kennel.insight.profile.charts import PART_COLOURS, RUN_COLOURS
from kennel.insight.report.html import page as page_of
from kennel.insight.report.theme import USAGE_COLOURS
from tests.insight.profile import samples
from tests.insight.profile.test_report import analysed, make_run

REQUIRE = "KENNEL_REQUIRE_CHROMIUM"  # set to 1 where a missing browser must fail: in CI
STEPS = 5000
WIDTHS = {"wide": 1100, "narrow": 360}
# The largest mark of data of each chart, in square pixels; axes and legends are none.
DRAWN = """[...document.querySelectorAll('.chart')].map(chart => Math.max(0,
    ...[...chart.querySelectorAll('svg .role-mark path')].map(
        path => path.getBBox()).map(box => box.width * box.height)))"""
# Each text's element, colour, and the background that lies behind it.
TEXTS = """[...document.querySelectorAll('h1, h2, p, td, th, a, dd, small, figcaption, code, li')].map(e => {
    const clear = box => getComputedStyle(box).backgroundColor === 'rgba(0, 0, 0, 0)';
    let box = e;
    while (clear(box) && box.parentElement) box = box.parentElement;
    return [e.tagName, e.className, getComputedStyle(e).color, getComputedStyle(box).backgroundColor];
})"""
INK_OF_A_LABEL = "getComputedStyle(document.querySelector('#chart-step_parts .role-axis-label text')).fill"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    program = shutil.which("chromium")
    if program is None:
        message = "chromium is not on PATH"
        assert os.environ.get(REQUIRE) != "1", message
        pytest.skip(message)
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=program, args=["--no-sandbox"])  # CI runs as root
        yield made
        made.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a short run, a long one, one that says nothing, and a comparison."""
    folder = tmp_path_factory.mktemp("reports")
    short, long = analysed(make_run(folder / "short")), analysed(make_run(folder / "long", steps=STEPS))
    (folder / "empty").mkdir()
    documents = {
        "short": contents.report(short),
        "long": contents.report(long),
        "empty": contents.report(analysed(folder / "empty")),
        "comparison": comparing.comparison(short, long),
    }
    files = {name: folder / f"{name}.html" for name in documents}
    for name, document in documents.items():
        files[name].write_text(page_of(document))
    return files


class Look:
    """A report, opened; what the browser complained about."""

    def __init__(self, browser: Browser, file: Path, scheme: str = "light", width: int = WIDTHS["wide"]) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True  # type: ignore[arg-type]
        )  # fmt: skip
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.requests: list[str] = []
        self.page.goto(file.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.drawn")

    def _note(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.requests.append(url)

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def pixels(self, selector: str) -> npt.NDArray[np.uint8]:
        png = self.page.locator(selector).first.screenshot()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def colours(text: str) -> tuple[int, int, int]:
    found = re.findall(r"\d+", text)
    return int(found[0]), int(found[1]), int(found[2])


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(hexadecimal: str) -> tuple[int, int, int]:
    return int(hexadecimal[1:3], 16), int(hexadecimal[3:5], 16), int(hexadecimal[5:7], 16)


def share(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int], within: int = 6) -> float:
    """Of a picture's pixels, those of about this colour."""
    near = np.abs(pixels.astype(int) - np.array(colour)).max(axis=2) <= within
    return float(near.mean())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["short", "long", "empty", "comparison"])
def test_every_chart_is_drawn_without_a_word_on_the_console(
    browser: Browser, reports: dict[str, Path], name: str, scheme: str
) -> None:
    look = Look(browser, reports[name], scheme)
    assert look.complaints == []
    assert look.requests == []
    charts = look.ask("document.querySelectorAll('.chart').length")
    assert look.ask("document.documentElement.dataset.drawn") == str(charts)
    assert charts == {"short": 9, "long": 9, "empty": 0, "comparison": 3}[name]
    assert all(area > 20 for area in look.ask(DRAWN))
    sizes = look.ask("[...document.querySelectorAll('.chart svg')].map(s => [s.clientWidth, s.clientHeight])")
    assert all(width > 200 and height > 30 for width, height in sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_data_stand_out_from_the_page(browser: Browser, reports: dict[str, Path], scheme: str) -> None:
    look = Look(browser, reports["short"], scheme)
    paper = colours(look.ask("getComputedStyle(document.body).backgroundColor"))
    assert luminance(paper) > 0.9 if scheme == "light" else luminance(paper) < 0.05
    texts = look.ask(TEXTS)
    assert len(texts) > 100
    for tag, kind, ink, back in texts:
        assert contrast(colours(ink), colours(back)) >= 4.5, (tag, kind, ink, back)  # WCAG 2.2, 1.4.3
    for colour in {*PART_COLOURS.values(), *RUN_COLOURS.values(), *USAGE_COLOURS.values()}:
        assert contrast(rgb(colour), paper) >= 3, colour  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pixels_of_the_stacked_chart_are_those_of_its_parts(
    browser: Browser, reports: dict[str, Path], scheme: str
) -> None:
    """60 of 150 ms wait for data: two fifths of the stack are of that colour, on the page's own background."""
    look = Look(browser, reports["long"], scheme)
    pixels = look.pixels("#chart-step_parts svg")
    waits, backward = share(pixels, rgb(PART_COLOURS["waiting for data"])), share(pixels, rgb(PART_COLOURS["backward"]))
    assert waits > 0.15
    assert waits / backward == pytest.approx(60 / 50, rel=0.15)
    paper = colours(look.ask("getComputedStyle(document.body).backgroundColor"))
    assert share(pixels, paper, within=2) > 0.1
    ink = colours(look.ask("getComputedStyle(document.body).color"))
    assert share(pixels, ink, within=90) > 0.001  # labels of the axes


def test_a_change_of_the_colour_scheme_needs_no_redrawing(browser: Browser, reports: dict[str, Path]) -> None:
    look = Look(browser, reports["short"], "light")
    before = look.pixels("#chart-step_parts svg")
    look.page.emulate_media(color_scheme="dark")
    after = look.pixels("#chart-step_parts svg")
    assert luminance(tuple(before[2, 2])) > 0.9
    assert luminance(tuple(after[2, 2])) < 0.05
    paper = colours(look.ask("getComputedStyle(document.body).backgroundColor"))
    label = colours(look.ask(INK_OF_A_LABEL))
    assert contrast(label, paper) >= 4.5


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", ["short", "long", "comparison"])
def test_nothing_is_wider_than_the_window(browser: Browser, reports: dict[str, Path], name: str, width: int) -> None:
    look = Look(browser, reports[name], width=width)
    assert look.ask("document.documentElement.scrollWidth") <= width
    cut = look.ask("""[...document.querySelectorAll('.chart svg')].filter(
        s => s.getBoundingClientRect().right > innerWidth + 1).length""")
    assert cut == 0


def test_a_printed_report_is_light_and_shows_every_chart(browser: Browser, reports: dict[str, Path]) -> None:
    look = Look(browser, reports["short"], "dark")
    look.page.emulate_media(media="print", color_scheme="dark")
    assert luminance(colours(look.ask("getComputedStyle(document.body).color"))) < 0.05
    assert not look.page.locator("nav").is_visible()
    pdf = look.page.pdf(prefer_css_page_size=True)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


def test_a_step_of_five_thousand_keeps_its_place(browser: Browser, reports: dict[str, Path]) -> None:
    look = Look(browser, reports["long"])
    labels = look.ask(
        "[...document.querySelectorAll('#chart-step_parts .role-axis-label text')].map(t => t.textContent)"
    )
    numbers = [int(text.replace(",", "")) for text in labels if text.replace(",", "").isdigit()]
    assert max(numbers) >= STEPS * 0.8
    took = look.ask("document.querySelector('.figures dd small').textContent")
    assert took.startswith(f"{STEPS:,} steps")


def test_a_run_whose_steps_are_all_alike_is_drawn(browser: Browser, tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=2)
    (tmp_path / "report.html").write_text(page_of(contents.report(analysed(tmp_path))))
    assert Look(browser, tmp_path / "report.html").complaints == []
