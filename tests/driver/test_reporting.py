"""The live bar, as a terminal of some width shows it."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from kennel.driver.session.reporting import Live

pytestmark = pytest.mark.pure

EPOCH = "epoch 3/10, loss 0.523, accuracy 0.812, validation loss 0.611, validation accuracy 0.790, 48.1 images/s"


@pytest.mark.parametrize(("width", "bar"), [(60, 10), (80, 10), (140, 24)])
def test_the_bar_and_the_time_stay_whole_and_the_text_gives_way(width: int, bar: int) -> None:
    shown = io.StringIO()
    live = Live(Console(file=shown, width=width, height=20, force_terminal=True, color_system=None))
    live.progress(3, 10, EPOCH)
    live._bar.refresh()
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").split("\n")
    live.finish()
    [last] = [frame for frame in frames if "epoch" in frame][-1:]
    assert re.fullmatch(rf".\s[━╸╺ ]{{{bar}}} 0:00:0\d epoch 3/10, loss.*", last.rstrip()), last
    assert len(last) <= width
    assert last.rstrip().endswith("images/s" if width > len(EPOCH) + bar + 11 else "…")
