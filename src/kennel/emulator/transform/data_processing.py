"""What a transform job does with each record before and after its container: filter, join, filter.

Source: SageMaker API reference, DataProcessing; developer guide, "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.transform.json_path import JsonPath, PathError

INPUT, OUTPUT = "SageMakerInput", "SageMakerOutput"
_CSV, _LINES, _JSON = "text/csv", "application/jsonlines", "application/json"
_ROOT = JsonPath("$", ())


class RecordError(ValueError):
    """A record cannot be filtered or joined. The message says why."""


@dataclass(frozen=True)
class DataProcessing:
    """A request's filters and its join."""

    content_type: str
    by_line: bool  # a payload has a record on each line; otherwise it is one
    input_filter: JsonPath = _ROOT
    output_filter: JsonPath = _ROOT
    joined: bool = False

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> DataProcessing | None:
        """What a request asks for; None where payloads and answers stay as they are.

        Raises:
            PathError: a filter cannot be used.
        """
        given, data = request.get("DataProcessing") or {}, request["TransformInput"]
        content_type = _kind(data.get("ContentType"))
        made = cls(
            content_type,
            by_line=content_type in (_CSV, _LINES) or data.get("SplitType") == "Line",
            input_filter=JsonPath.parse(given.get("InputFilter") or "$"),
            output_filter=JsonPath.parse(given.get("OutputFilter") or "$"),
            joined=given.get("JoinSource") == "Input",
        )
        return made if made.joined or not (made.input_filter.is_root and made.output_filter.is_root) else None

    def before(self, payload: bytes) -> bytes:
        """What the container is sent.

        Raises:
            RecordError: a record cannot be read, or lacks what the filter names.
        """
        if self.input_filter.is_root:
            return payload
        records = self._records(payload, "the input")
        return b"\n".join(self._write(_filtered(self.input_filter, one, "InputFilter")) for one in records)

    def after(self, payload: bytes, answer: bytes) -> bytes:
        """What is put down for the answer to a payload.

        Raises:
            RecordError: answers and records cannot be matched, or lack what the filter names.
        """
        if not self.joined and self.output_filter.is_root:
            return answer
        answers = self._records(answer, "the container's answer")
        if self.joined:
            answers = self._join(self._records(payload, "the input"), answers)
        lines = b"\n".join(self._write(_filtered(self.output_filter, one, "OutputFilter")) for one in answers)
        return lines + b"\n" * (self.by_line and answer.endswith(b"\n"))

    def _join(self, records: list[Any], answers: list[Any]) -> list[Any]:
        if len(records) != len(answers):
            raise RecordError(
                f"the container answered {len(records)} records with {len(answers)}, so they cannot be joined; it has "
                "to answer each with one"
            )
        return [self._joined(*pair) for pair in zip(records, answers, strict=True)]

    def _joined(self, record: Any, answer: Any) -> Any:
        if self.content_type == _CSV:
            return [*record, *answer]
        return {**(record if isinstance(record, dict) else {INPUT: record}), OUTPUT: answer}

    def _records(self, data: bytes, what: str) -> list[Any]:
        try:
            text = data.decode("utf-8")
            lines = [line for line in text.split("\n") if line.strip()] if self.by_line else [text]
            return [_row(line) if self.content_type == _CSV else json.loads(line) for line in lines]
        except (ValueError, RecursionError, csv.Error) as error:
            raise RecordError(f"{what} cannot be read as {self.content_type}: {error}") from error

    def _write(self, value: Any) -> bytes:
        if self.content_type != _CSV:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value if isinstance(value, list) else [value])
        return line.getvalue().encode()


def _row(line: str) -> list[str]:
    return next(csv.reader([line.removesuffix("\r")], strict=True))


def _filtered(path: JsonPath, value: Any, member: str) -> Any:
    try:
        return path.of(value)
    except PathError as error:
        raise RecordError(f"{member} '{path.text}': {error}") from error


def _kind(content_type: str | None) -> str:
    """A media type without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def processing_refusals(request: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about filters and joins that cannot be done."""
    given = request.get("DataProcessing") or {}
    paths = []
    for member in ("InputFilter", "OutputFilter"):
        try:
            paths.append(JsonPath.parse(given.get(member) or "$"))
        except PathError as error:
            yield f"DataProcessing.{member}: {error}"
    if all(path.is_root for path in paths) and given.get("JoinSource") != "Input":
        return
    data, output = request["TransformInput"], request["TransformOutput"]
    kind = _kind(data.get("ContentType"))
    if kind not in (_CSV, _LINES, _JSON) or _kind(output.get("Accept")) != kind:
        yield (
            "DataProcessing needs the same TransformInput.ContentType and TransformOutput.Accept, one of "
            f"{_CSV}, {_JSON} and {_LINES}"
        )
    if kind == _CSV:
        yield from _csv_refusals(data, output, paths)


def _csv_refusals(data: Mapping[str, Any], output: Mapping[str, Any], paths: list[JsonPath]) -> Iterator[str]:
    if data.get("SplitType") != "Line" or output.get("AssembleWith") != "Line":
        yield f"DataProcessing of {_CSV} needs TransformInput.SplitType and TransformOutput.AssembleWith Line"
    for path in paths:
        if not path.is_of_columns:
            yield f"DataProcessing: '{path.text}' names members, but a row of {_CSV} has numbers only, as in $[0,2:]"
