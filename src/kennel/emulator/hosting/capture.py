"""Data capture: what an endpoint was asked and what it answered, as files of JSON lines.

Source: SageMaker developer guide, "Capture data from real-time endpoint", for the folders and the lines.
"""

from __future__ import annotations

import base64
import json
import logging
import queue
import random
import tempfile
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kennel.emulator.state.store import Document
from kennel.storage import StorageError, Uri, storage_of

_FLUSH_S = 0.5  # a kill of the emulator loses no more
_MAX_WAITING = 1000  # captures that wait to be written; further ones are dropped, as an endpoint must not wait
_LOG = logging.getLogger(__name__)
_Line = tuple[Uri, str]  # a folder and the line for it


class Capture:
    """Writes in a thread of its own."""

    def __init__(self) -> None:
        self._lines: queue.Queue[_Line | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True, name="capture")
        self._thread.start()

    def offer(self, config: Document | None, endpoint: str, variant: str, request: Document, answer: Document) -> None:
        """Capture an invocation, if the configuration wants it; `request` and `answer` are those of the runtime API."""
        if not config or not config.get("EnableCapture"):
            return
        if random.random() * 100 >= config["InitialSamplingPercentage"]:  # noqa: S311 - a share, no secret
            return
        now = datetime.now(UTC)
        folder = Uri.parse(config["DestinationS3Uri"]).join(endpoint, variant, now.strftime("%Y/%m/%d/%H"))
        try:
            self._lines.put_nowait((folder, json.dumps(line(config, request, answer, now))))
        except queue.Full:
            _LOG.warning("A capture of endpoint %s was dropped: its place is slower than its requests", endpoint)

    def close(self) -> None:
        """Write what waits."""
        self._lines.put(None)
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            first = self._lines.get()
            if first is None:
                return
            last = self._write_with(first)
            if last:
                return

    def _write_with(self, first: _Line) -> bool:
        """Write it and all that come within the next half second; whether that was the end."""
        found: dict[Uri, list[str]] = {first[0]: [first[1]]}
        over = False
        timer = threading.Event()
        timer.wait(_FLUSH_S)
        while not self._lines.empty():
            one = self._lines.get()
            if one is None:
                over = True
                break
            found.setdefault(one[0], []).append(one[1])
        for folder, lines in found.items():
            _put(folder, lines)
        return over


def _put(folder: Uri, lines: list[str]) -> None:
    name = f"{datetime.now(UTC).strftime('%M-%S-%f')[:-3]}-{uuid.uuid4()}.jsonl"
    uri = folder.join(name)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write("".join(f"{text}\n" for text in lines))
            file.flush()
            storage_of(uri).put(Path(file.name), uri)
    except (StorageError, OSError):
        _LOG.exception("%d captures could not be written to %s", len(lines), uri)


def line(config: Document, request: Document, answer: Document, now: datetime) -> Document:
    """One captured invocation."""
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    data: dict[str, Any] = {}
    if modes & {"Input", "InputAndOutput"}:
        data["endpointInput"] = _side(config, "INPUT", request)
    if modes & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = _side(config, "OUTPUT", answer)
    metadata: dict[str, Any] = {"eventId": str(uuid.uuid4()), "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if "CustomAttributes" in request:
        metadata["customAttributes"] = [request["CustomAttributes"]]
    if "InferenceId" in request:
        metadata["inferenceId"] = request["InferenceId"]
    return {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}


def _side(config: Document, mode: str, message: Document) -> Document:
    content_type = message.get("ContentType", "")
    encoding = _encoding(config, content_type)
    body: bytes = message["Body"]
    try:
        data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
    except UnicodeDecodeError:  # it is not what it says
        encoding, data = "BASE64", base64.b64encode(body).decode()
    return {"observedContentType": content_type, "mode": mode, "data": data, "encoding": encoding}


def _encoding(config: Document, content_type: str) -> str:
    """CSV or JSON where CaptureContentTypeHeader says so, BASE64 elsewhere."""
    headers = config.get("CaptureContentTypeHeader") or {}
    plain = content_type.partition(";")[0].strip().lower()
    if plain in [one.lower() for one in headers.get("CsvContentTypes", [])]:
        return "CSV"
    return "JSON" if plain in [one.lower() for one in headers.get("JsonContentTypes", [])] else "BASE64"
