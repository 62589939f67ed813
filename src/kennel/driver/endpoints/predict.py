"""Asking an endpoint about photos, through sagemaker-runtime as any other client would."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.paths import PAYLOAD_LIMIT_BYTES
from kennel.driver.errors import DriverError
from kennel.driver.requests.training import unique_name
from kennel.driver.session.refusals import botocore_errors, code_of, explain
from kennel.driver.session.session import Session
from kennel.driver.transfers.uris import read, remove, write

CONTENT_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff",
}  # fmt: skip
ANY_IMAGE = "application/octet-stream"
_AT_ONCE = 4
_ASYNC_POLL_S = 0.5
_QUOTED = re.compile(r'error \((?P<status>\d+)\) from \S+ with message "(?P<body>.*)"\. See ', re.DOTALL)


@dataclass(frozen=True)
class Prediction:
    """A class and how sure the network is."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What the endpoint said about one photo."""

    path: Path
    predictions: tuple[Prediction, ...] = ()
    error: str = ""  # why it said nothing
    variant: str = ""
    seconds: float = 0.0  # from here and back
    heat_map: bytes = b""  # a PNG, when it was asked for

    def to_json(self) -> dict[str, Any]:
        """Plain values; without the heat map."""
        if self.error:
            return {"path": str(self.path), "error": self.error}
        best = [{"label": p.label, "probability": p.probability} for p in self.predictions]
        return {"path": str(self.path), "predictions": best, "variant": self.variant, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Question:
    """How to ask."""

    endpoint: str
    top_k: int = 5
    explain: bool = False
    asynchronous: bool = False
    variant: str = ""
    timeout_s: float = 900.0  # for an asynchronous answer

    @property
    def attributes(self) -> str:
        """CustomAttributes: InvokeEndpoint carries no query string."""
        return f"top_k={self.top_k}" + (";explain=true" if self.explain else "")


def photos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given; of a folder, every file with the name of an image.

    Raises:
        DriverError: a path that is not there, or nothing at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [file for file in sorted(path.rglob("*")) if file.suffix.lower() in CONTENT_TYPES]
        elif path.is_file():
            found.append(path)
        else:
            raise DriverError(f"{path} is not there.", "Give image files, or a folder of them.")
    if not found:
        raise DriverError("No image to ask about.", f"Give files that end in {', '.join(CONTENT_TYPES)}.")
    return found


def predict(session: Session, question: Question, paths: Sequence[Path]) -> Iterator[Answer]:
    """Ask about each photo, a few at a time; answers come in the order of the photos.

    A photo that is refused is an answer with an error; the others go on.

    Raises:
        DriverError: the endpoint itself cannot be asked.
    """
    ask = _ask_later if question.asynchronous else _ask
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda path: ask(session, question, path), paths)


def _ask(session: Session, question: Question, path: Path) -> Answer:
    from botocore.exceptions import ClientError

    data = path.read_bytes()
    if len(data) > PAYLOAD_LIMIT_BYTES:
        return Answer(path, error=f"{len(data)} bytes are more than an endpoint takes ({PAYLOAD_LIMIT_BYTES})")
    begun = time.perf_counter()
    try:
        answer = session.clients("sagemaker-runtime").invoke_endpoint(
            EndpointName=question.endpoint,
            Body=data,
            ContentType=content_type(path),
            Accept="application/json",
            CustomAttributes=question.attributes,
            **({"TargetVariant": question.variant} if question.variant else {}),
        )
        body = answer["Body"].read()
    except ClientError as error:
        return Answer(path, error=_refusal(error, question.endpoint))
    except botocore_errors() as error:
        raise explain(error, "InvokeEndpoint") from error
    seconds = time.perf_counter() - begun
    return _parse(path, body, answer.get("InvokedProductionVariant", ""), seconds)


def _refusal(error: Any, endpoint: str) -> str:
    """What the model said about this photo; anything else stops all of them."""
    code = code_of(error)
    if code == "ModelError":
        response = error.response
        text = response.get("OriginalMessage") or response["Error"].get("Message", "")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]
        return f"{text} (status {response.get('OriginalStatusCode', '?')})"
    problem = explain(error, "InvokeEndpoint")
    raise DriverError(
        str(problem), problem.hint or f"kennel endpoints shows whether {endpoint} is in service."
    ) from error


def _parse(path: Path, body: bytes, variant: str, seconds: float) -> Answer:
    try:
        value = json.loads(body)
        best = tuple(Prediction(entry["label"], float(entry["probability"])) for entry in value["predictions"])
    except (ValueError, KeyError, TypeError) as error:
        raise DriverError(
            f"The endpoint's answer is not a classifier's: {body[:200].decode(errors='replace')}",
            "kennel predict asks endpoints that serve Kennel's serve image.",
        ) from error
    return Answer(path, best, "", variant, seconds, base64.b64decode(value.get("heat_map", "")))


def _ask_later(session: Session, question: Question, path: Path) -> Answer:
    """Leave the photo in storage, and wait for the answer there; the photo is taken away again."""
    begun = time.monotonic()
    source = f"{session.base_uri}/async-input/{unique_name('photo')}{path.suffix}"
    write(source, path.read_bytes(), lambda: session.clients("s3"))
    try:
        answer = session.send(
            "InvokeEndpointAsync",
            {
                "EndpointName": question.endpoint,
                "InputLocation": source,
                "ContentType": content_type(path),
                "Accept": "application/json",
                "CustomAttributes": question.attributes,
            },
            service="sagemaker-runtime",
        )
        return _wait_for_answer(session, question, path, answer, begun)
    finally:
        remove(source, lambda: session.clients("s3"))


def _wait_for_answer(session: Session, question: Question, path: Path, places: Any, begun: float) -> Answer:
    if "OutputLocation" not in places:
        raise DriverError(f"Endpoint {question.endpoint} names no place for its answer.", "Is it asynchronous?")
    while time.monotonic() - begun < question.timeout_s:
        body = read(places["OutputLocation"], lambda: session.clients("s3"))
        if body is not None:
            return _parse(path, body, "", time.monotonic() - begun)
        failure = places.get("FailureLocation") and read(places["FailureLocation"], lambda: session.clients("s3"))
        if failure:
            return Answer(path, error=_told(failure.decode(errors="replace")))
        time.sleep(_ASYNC_POLL_S)
    return Answer(path, error=f"no answer after {question.timeout_s:g} s in {places['OutputLocation']}")


def _told(failure: str) -> str:
    """What the model itself said, where a failure quotes its JSON; the whole failure elsewhere."""
    quoted = _QUOTED.search(failure)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if quoted:
            return f"{json.loads(quoted['body'])['error']} (status {quoted['status']})"
    return failure


def content_type(path: Path) -> str:
    """By the file's name; the server looks at the bytes anyway."""
    return CONTENT_TYPES.get(path.suffix.lower(), ANY_IMAGE)
