"""Answers to bytes: JSON, JSON lines or CSV. Standard library only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import RequestError
from serving.handler import media

Ranking = Sequence[Mapping[str, Any]]  # label, class and probability of each class, most probable first


@dataclass(frozen=True)
class Answer:
    """What one request is told."""

    rankings: Sequence[Ranking | RequestError]  # one an image; an error only where the request asked for that
    listed: bool
    model: Mapping[str, Any]
    heat_maps: Sequence[str | None] | None = None  # base64 PNG, one an image, where asked for
    timings_ms: Mapping[str, float] | None = None

    def to_bytes(self, kind: str) -> bytes:
        """The body in one of `media.GIVEN`."""
        return {media.JSON: self._json, media.JSON_LINES: self._lines, media.CSV: self._csv}[kind]()

    def _json(self) -> bytes:
        lists = [_plain(one) for one in self.rankings]
        body: dict[str, Any] = {"predictions": lists if self.listed else lists[0], "model": self.model}
        if self.heat_maps is not None:
            body["heat_maps" if self.listed else "heat_map"] = self.heat_maps if self.listed else self.heat_maps[0]
        return to_json({**body, **self._timings()})

    def _lines(self) -> bytes:
        """One object an image, so that a line that was sent has a line that answers it."""
        lines = []
        for index, one in enumerate(self.rankings):
            plain = _plain(one)
            line = plain if isinstance(one, RequestError) else {"predictions": plain, "model": self.model}
            if self.heat_maps is not None and not isinstance(one, RequestError):
                line["heat_map"] = self.heat_maps[index]
            lines.append(to_json({**line, **self._timings()}) + b"\n")
        return b"".join(lines)

    def _csv(self) -> bytes:
        """One line an image: class and probability of the first, of the second, and so on (RFC 4180, no header)."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        for one in self.rankings:
            if isinstance(one, RequestError):
                writer.writerow(["", "", one.code])
            else:
                writer.writerow([field for line in one for field in (line["class"], line["probability"])])
        return file.getvalue().encode()

    def _timings(self) -> dict[str, Any]:
        return {} if self.timings_ms is None else {"timings_ms": self.timings_ms}


def _plain(one: Ranking | RequestError) -> Any:
    return one.to_json() if isinstance(one, RequestError) else one


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. A float32 probability is written with every digit of its exact value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
