"""The report's files, as AWS's ProfilerReport rule names them, and a PDF."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from kennel.insight.profile import analysis as analysing
from kennel.insight.report.document import Document
from kennel.insight.report.html import page

NAME = "profiler-report"  # NAME.html, NAME.pdf, and a folder NAME of JSON files


def write(document: Document, folder: Path, *, name: str = NAME, with_pdf: bool = True) -> list[Path]:
    """Write a document as HTML and PDF; each file is whole or not there.

    Args:
        document: the report.
        folder: is made where it is missing.
        name: of the files, without their suffixes.
        with_pdf: drawing it takes as long as all the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [put(folder / f"{name}.html", page(document).encode())]
    if with_pdf:
        from kennel.insight.report.pdf import pdf

        made.append(put(folder / f"{name}.pdf", pdf(document)))
    return made


def write_rules(analysis: analysing.Analysis, folder: Path) -> list[Path]:
    """One JSON file a rule in `profiler-report/`, and `Report.json` with everything."""
    target = folder / NAME
    target.mkdir(parents=True, exist_ok=True)
    values = {verdict.rule: analysing.rule_json(verdict) for verdict in analysis.verdicts}
    values["Report"] = analysing.to_json(analysis)
    return [put(target / f"{name}.json", as_json(value).encode()) for name, value in values.items()]


def as_json(value: object) -> str:
    """Readable JSON; a number that is not finite, which a damaged run can give, becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def put(path: Path, data: bytes) -> Path:
    """Write a file that is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    return temporary.replace(path)
