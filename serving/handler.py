"""The handler: TorchServe's five methods over one artifact. What it knows of the model, the artifact told it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from kennel.classifier.errors import ArtifactError, ImageError
from kennel.classifier.predictor import Predictor
from serving import codec
from serving.errors import RequestError

FORWARD_IMAGES = 8  # activations of eight images at a time bound the memory of one request
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
    """What one request wants: how many rows of the batch are its own, and how to list them."""

    images: int
    listed: bool
    top_k: int


@dataclass(frozen=True)
class Batch:
    """Requests made ready for the network."""

    images: torch.Tensor  # uint8, shape (N, 3, crop_px, crop_px), of all requests in order
    requests: tuple[Asked | RequestError, ...]  # one a request; the refused ones have no images


class ImageHandler:
    """Photos in, the most probable classes out.

    One instance serves many threads: after `initialize` nothing in it changes.
    """

    def __init__(self) -> None:
        self._predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """The loaded model. Raises RuntimeError before `initialize`."""
        if self._predictor is None:
            raise RuntimeError("initialize(context) must be called first")
        return self._predictor

    def initialize(self, context: Context) -> None:
        """Load the artifact of `model_dir` onto GPU `gpu_id`, the first GPU, or the CPU, and try it once.

        Raises:
            ArtifactError: no artifact, a damaged one, or one whose network does not answer with probabilities.
        """
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        use_gpu = gpu is not None and int(gpu) >= 0 and torch.cuda.is_available()
        device = torch.device(f"cuda:{int(gpu)}") if gpu is not None and use_gpu else None
        self._predictor = Predictor.load(Path(properties["model_dir"]), device)
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
                asked, own = self._read(index, row, context)
            except RequestError as error:
                requests.append(error)
            else:
                requests.append(asked)
                tensors += own
        side = self.predictor.meta.preprocessing.crop_px
        images = torch.stack(tensors) if tensors else torch.empty((0, 3, side, side), dtype=torch.uint8)
        return Batch(images, tuple(requests))

    def _read(self, index: int, row: Mapping[str, Any], context: Context | None) -> tuple[Asked, list[torch.Tensor]]:
        query = {name: value for name, value in row.items() if name not in ("body", "data")}
        top_k = codec.read_options(query, _header(context, index, "X-Amzn-SageMaker-Custom-Attributes"))
        media = codec.media_type(_header(context, index, "Content-Type"))
        codec.check_accept(_header(context, index, "Accept"))
        photos = codec.read_photos(row.get("body", row.get("data", b"")), media)
        tensors = [self._tensor(image, photos.name(number)) for number, image in enumerate(photos.images)]
        return Asked(len(tensors), photos.listed, top_k), tensors

    def _tensor(self, image: bytes, name: str) -> torch.Tensor:
        try:
            return self.predictor.tensor(image)
        except ImageError as error:
            raise RequestError(400, "invalid_image", f"{name} was refused: {error}.") from None

    def inference(self, batch: torch.Tensor) -> torch.Tensor:
        """Class probabilities.

        Args:
            batch: uint8, shape (N, 3, crop_px, crop_px).

        Returns:
            float32 on the CPU, shape (N, classes); rows sum to 1.
        """
        if not len(batch):
            return torch.empty((0, len(self.predictor.meta.classes)))
        return torch.cat([self.predictor.probabilities(part) for part in torch.split(batch, FORWARD_IMAGES)])

    def postprocess(self, probabilities: torch.Tensor, batch: Batch) -> list[dict[str, Any] | RequestError]:
        """One answer a request: its top-k lists, or its error.

        Args:
            probabilities: what `inference` returned for `batch.images`.
            batch: what `preprocess` returned.
        """
        rows = iter(probabilities)
        answers: list[dict[str, Any] | RequestError] = []
        for asked in batch.requests:
            if isinstance(asked, RequestError):
                answers.append(asked)
                continue
            lists = [self._top(next(rows), asked.top_k) for _ in range(asked.images)]
            answers.append({"predictions": lists if asked.listed else lists[0], "model": self.model_info()})
        return answers

    def _top(self, row: torch.Tensor, k: int) -> list[dict[str, str | float]]:
        return [
            {"label": one.label, "class": one.class_name, "probability": one.probability}
            for one in self.predictor.top(row, k)
        ]

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """Answer a batch of requests; status and type of each answer go to the context.

        Returns:
            one JSON body a request, in order.
        """
        batch = self.preprocess(data, context)
        bodies = []
        for index, answer in enumerate(self.postprocess(self.inference(batch.images), batch)):
            context.set_response_content_type(index, codec.JSON_TYPE)
            if isinstance(answer, RequestError):
                context.set_response_status(answer.status, HTTPStatus(answer.status).phrase, index)
                bodies.append(codec.to_json(answer.to_json()))
            else:
                context.set_response_status(200, "OK", index)
                bodies.append(codec.to_json(answer))
        return bodies


def _header(context: Context | None, index: int, name: str) -> str | None:
    if context is None:
        return None
    return context.get_request_header(index, name) or context.get_request_header(index, name.lower())
