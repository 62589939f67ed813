"""The handler: TorchServe's five methods over one artifact. What it knows of the model, the artifact told it."""

from __future__ import annotations

import base64
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from kennel.classifier.network.predictor import Predictor
from kennel.contract.errors import ArtifactError, ImageError
from serving.backend import RECEIVED_HEADER
from serving.engines.base import Engine
from serving.engines.choose import choose_engine
from serving.errors import RequestError
from serving.handler import bodies, media
from serving.handler.answers import Answer, to_json
from serving.handler.bodies import Photos
from serving.handler.explain import Explainer, ExplanationError
from serving.handler.options import Options, read_options
from serving.settings import ModelSettings

FORWARD_IMAGES = 8  # activations of eight images at a time bound the memory of one request
CPU_BATCH = 4  # docs/serving.md, Speed: faster than one by one; eight are no faster than four
MAX_EXPLAINED = 8  # a heat map costs as much as several answers
_WARM_UP_PX = 64  # any photo will do: the preprocessing brings it to the network's size


class Context(Protocol):
    """The part of TorchServe's and multi-model-server's context that the handler uses."""

    @property
    def system_properties(self) -> Mapping[str, Any]:
        """`model_dir`, and `gpu_id` where the front shares out GPUs."""

    def get_request_header(self, idx: int, key: str) -> str | None:
        """A header of one request of the batch."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """The type of one answer."""

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """The status of one answer."""


@dataclass(frozen=True)
class Asked:
    """What one request wants."""

    rows: tuple[int | RequestError, ...]  # for each image its place in the batch, or why it was refused
    listed: bool
    options: Options
    answer_type: str
    timings_ms: dict[str, float]


@dataclass
class Batch:
    """Requests made ready for the network."""

    images: torch.Tensor  # uint8, shape (N, 3, crop_px, crop_px), of all requests in order
    requests: tuple[Asked | RequestError, ...]  # one a request; the refused ones have no images
    forward_ms: float = field(default=0.0)


class ImageHandler:
    """Photos in, the most probable classes out.

    One instance serves many threads: after `initialize` nothing in it changes.
    """

    def __init__(self, settings: ModelSettings | None = None, streams: int = 1) -> None:
        """Nothing is loaded yet.

        Args:
            settings: engine, precision and limits; None reads the environment.
            streams: threads that will ask at the same time.
        """
        self.settings = settings or ModelSettings.from_environ(os.environ)
        self._streams = streams
        self._predictor: Predictor | None = None
        self._engine: Engine | None = None
        self._explainer: Explainer | None = None

    @property
    def predictor(self) -> Predictor:
        """The loaded model. Raises RuntimeError before `initialize`."""
        if self._predictor is None:
            raise RuntimeError("initialize(context) must be called first")
        return self._predictor

    @property
    def engine(self) -> Engine:
        """What computes the forward pass. Raises RuntimeError before `initialize`."""
        if self._engine is None:
            raise RuntimeError("initialize(context) must be called first")
        return self._engine

    def initialize(self, context: Context) -> None:
        """Load the artifact of `model_dir` onto GPU `gpu_id`, the first GPU, or the CPU, and try it once.

        Raises:
            ArtifactError: no artifact, a damaged one, or one whose network does not answer with probabilities.
            EngineError: the engine that was asked for is not there, or answers differently from torch in float32.
        """
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        use_gpu = gpu is not None and int(gpu) >= 0 and torch.cuda.is_available()
        device = torch.device(f"cuda:{int(gpu)}") if gpu is not None and use_gpu else None
        self._predictor = Predictor.load(Path(properties["model_dir"]), device)
        self._engine = choose_engine(self._predictor, Path(properties["model_dir"]), self.settings, self._streams)
        self._explainer = Explainer(self._predictor)
        self.warm_up()

    def warm_up(self) -> None:
        """Answer a plain grey photo. The first answer of a thread builds its kernels, so users need not wait for it.

        Raises:
            ArtifactError: the answer is no list of probabilities, as when the weights hold NaN.
        """
        photo = io.BytesIO()
        Image.new("RGB", (_WARM_UP_PX, _WARM_UP_PX), "grey").save(photo, "JPEG")
        probabilities = self.inference(self.predictor.tensor(photo.getvalue())[None])[0]
        total = float(probabilities.sum())
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            raise ArtifactError(
                f"The probabilities for a grey photo sum to {total}, not 1. The weights are damaged: train again."
            )

    @property
    def together(self) -> int:
        """How many single photos a thread should bring at once; before a GPU, threads decode side by side instead."""
        return 1 if self._engine is not None and self._engine.gathers else self.settings.batch_size or CPU_BATCH

    def close(self) -> None:
        """End what computes; nobody asks any more."""
        if self._engine is not None:
            self._engine.close()

    def model_info(self) -> dict[str, str | int]:
        """Which model answers, for every answer and for the log."""
        meta = self.predictor.meta
        return {"arch": meta.arch, "weights_sha256": meta.weights_sha256[:12], "classes": len(meta.classes)}

    def preprocess(self, data: Sequence[Mapping[str, Any]], context: Context | None = None) -> Batch:
        """Decode the images of a batch of requests.

        Args:
            data: one mapping a request: `body` (or `data`) and the query parameters, as TorchServe gives them.
            context: where the requests' headers are; without it bodies are taken as images.

        Returns:
            the batch. A request that is refused stays in it as its error and leaves the others alone.
        """
        tensors: list[torch.Tensor] = []
        requests: list[Asked | RequestError] = []
        for index, row in enumerate(data):
            try:
                requests.append(self._read(index, row, context, tensors))
            except RequestError as error:
                requests.append(error)
        side = self.predictor.meta.preprocessing.crop_px
        images = torch.stack(tensors) if tensors else torch.empty((0, 3, side, side), dtype=torch.uint8)
        return Batch(images, tuple(requests))

    def _read(self, index: int, row: Mapping[str, Any], context: Context | None, tensors: list[torch.Tensor]) -> Asked:
        """One request; its images are added to `tensors`, all or none."""
        start = time.monotonic_ns()
        received = int(_header(context, index, RECEIVED_HEADER) or start)
        query = {name: value for name, value in row.items() if name not in ("body", "data")}
        attributes = _header(context, index, "X-Amzn-SageMaker-Custom-Attributes")
        options = read_options(query, attributes, Options(report_errors=self.settings.report_errors))
        content_type = _header(context, index, "Content-Type")
        answer_type = media.answer_type(_header(context, index, "Accept"), media.media_type(content_type))
        body = row.get("body", row.get("data", b""))
        photos = bodies.read_photos(body, content_type, max_images=self.settings.max_images)
        if options.explain:
            _check_explainable(photos, answer_type)
        own: list[torch.Tensor] = []
        rows: list[int | RequestError] = []
        for number in range(len(photos.images)):
            try:
                own.append(self._tensor(photos, number))
                rows.append(len(tensors) + len(own) - 1)
            except RequestError as error:
                if not (options.report_errors and photos.listed):
                    raise
                rows.append(error)
        tensors += own
        timings = {"queue": _ms(start - received), "decode": _ms(time.monotonic_ns() - start)}
        return Asked(tuple(rows), photos.listed, options, answer_type, timings)

    def _tensor(self, photos: Photos, number: int) -> torch.Tensor:
        image = photos.images[number]
        if isinstance(image, RequestError):
            raise image
        try:
            return self.predictor.tensor(image)
        except ImageError as error:
            raise RequestError(400, "invalid_image", f"{photos.name(number)} was refused: {error}.") from None

    def inference(self, batch: torch.Tensor) -> torch.Tensor:
        """Class probabilities.

        Args:
            batch: uint8, shape (N, 3, crop_px, crop_px).

        Returns:
            float32 on the CPU, shape (N, classes); rows sum to 1.
        """
        if not len(batch):
            return torch.empty((0, len(self.predictor.meta.classes)))
        return torch.cat([self.engine.probabilities(part) for part in torch.split(batch, FORWARD_IMAGES)])

    def postprocess(self, probabilities: torch.Tensor, batch: Batch) -> list[Answer | RequestError]:
        """One answer a request, or its error.

        Args:
            probabilities: what `inference` returned for `batch.images`.
            batch: what `preprocess` returned.
        """
        answers: list[Answer | RequestError] = []
        for asked in batch.requests:
            try:
                answers.append(asked if isinstance(asked, RequestError) else self._answer(asked, probabilities, batch))
            except RequestError as error:
                answers.append(error)
        return answers

    def _answer(self, asked: Asked, probabilities: torch.Tensor, batch: Batch) -> Answer:
        rankings = [
            row if isinstance(row, RequestError) else self._top(probabilities[row], asked.options.top_k)
            for row in asked.rows
        ]
        timings = {**asked.timings_ms, "forward": batch.forward_ms}
        heat_maps = None
        if asked.options.explain:
            start = time.monotonic_ns()
            heat_maps = [
                None if isinstance(row, RequestError) else self._heat_map(batch.images[row], probabilities[row])
                for row in asked.rows
            ]
            timings["explain"] = _ms(time.monotonic_ns() - start)
        return Answer(rankings, asked.listed, self.model_info(), heat_maps, timings if asked.options.timings else None)

    def _heat_map(self, image: torch.Tensor, probabilities: torch.Tensor) -> str:
        assert self._explainer is not None  # noqa: S101 `engine` was asked before
        try:
            return base64.b64encode(self._explainer.heat_map(image, int(probabilities.argmax()))).decode()
        except ExplanationError as error:
            raise RequestError(400, "not_explainable", f"{error} Leave explain out.") from None

    def _top(self, row: torch.Tensor, k: int) -> list[dict[str, str | float]]:
        return [
            {"label": one.label, "class": one.class_name, "probability": one.probability}
            for one in self.predictor.top(row, k)
        ]

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """Answer a batch of requests; status and type of each answer go to the context.

        Returns:
            one body a request, in order.
        """
        batch = self.preprocess(data, context)
        start = time.monotonic_ns()
        probabilities = self.inference(batch.images)
        batch.forward_ms = _ms(time.monotonic_ns() - start)
        found = []
        for index, (asked, answer) in enumerate(
            zip(batch.requests, self.postprocess(probabilities, batch), strict=True)
        ):
            if isinstance(asked, RequestError) or isinstance(answer, RequestError):
                error = asked if isinstance(asked, RequestError) else answer
                assert isinstance(error, RequestError)  # noqa: S101 for mypy
                context.set_response_content_type(index, media.JSON)
                context.set_response_status(error.status, HTTPStatus(error.status).phrase, index)
                found.append(to_json(error.to_json()))
            else:
                context.set_response_content_type(index, asked.answer_type)
                context.set_response_status(200, "OK", index)
                found.append(answer.to_bytes(asked.answer_type))
        return found


def _check_explainable(photos: Photos, answer_type: str) -> None:
    if answer_type == media.CSV:
        raise RequestError(406, "not_acceptable", f"A heat map does not fit into {media.CSV}. Accept {media.JSON}.")
    if len(photos.images) > MAX_EXPLAINED:
        raise RequestError(
            413,
            "too_many_images",
            f"{len(photos.images)} images are more than the {MAX_EXPLAINED} that one request may have explained.",
        )


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)


def _header(context: Context | None, index: int, name: str) -> str | None:
    if context is None:
        return None
    return context.get_request_header(index, name) or context.get_request_header(index, name.lower())
