"""What multi-model-server runs in its Python processes: our handler inside the toolkit's handler service.

The toolkit's own transformer and decoders, which unpickle what a client calls npy, are never made.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sagemaker_inference.default_handler_service import DefaultHandlerService

from kennel.contract.errors import KennelError
from kennel.contract.files import write_json
from serving import logs
from serving.backend import Reply
from serving.backends.mms_wire import FAULT, REPORT_FILE, STATUS_HEADER, TASK_FILE, unpack
from serving.backends.native import RequestContext, answer_all
from serving.handler.handler import ImageHandler
from serving.settings import ModelSettings


class MmsContext(Protocol):
    """The part of MMS's context that is used here."""

    @property
    def system_properties(self) -> Mapping[str, Any]:
        """`model_dir` is the model's private folder, `gpu_id` the GPU that MMS chose, or None."""

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """A header of one answer."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """The type of one answer."""


class ImageTransformer:
    """Stands where the toolkit's transformer would; MMS's requests are unpacked here, and each is a batch of one."""

    def __init__(self) -> None:
        self._handler: ImageHandler | None = None

    def validate_and_initialize(self, model_dir: str, context: MmsContext) -> None:
        """Load the artifact that the front named, and report to it; the process ends when that fails.

        MMS would log the error, call the model loaded, and start over.
        """
        folder = Path(model_dir)
        try:
            report = self._load(json.loads((folder / TASK_FILE).read_text(encoding="utf-8")), context)
        except KennelError as error:
            report = {"error": str(error)}
        except Exception:
            report = {"fault": traceback.format_exc()}
        write_json(folder / REPORT_FILE, {**report, "listener": _listener()})
        if self._handler is None:
            sys.exit(1)

    def _load(self, task: Mapping[str, Any], context: MmsContext) -> dict[str, Any]:
        # Batching would compute in a thread, and no thread survives the fork that makes a worker.
        handler = ImageHandler(replace(ModelSettings(**task["settings"]), batch_size=1))
        properties = {"model_dir": Path(task["folder"]), "gpu_id": context.system_properties.get("gpu_id")}
        handler.initialize(RequestContext(system_properties=properties))
        self._handler = handler
        device = str(handler.predictor.device)
        return {"model": handler.model_info(), "engine": handler.engine.name, "device": device}

    def transform(self, data: Sequence[Mapping[str, Any]], context: MmsContext) -> list[bytes]:
        """Answer one request. MMS always says 200: it would close the connection after anything else."""
        try:
            reply = self._answer(data[0]["body"])
        except Exception:
            context.set_response_header(0, STATUS_HEADER, FAULT)
            return [traceback.format_exc().encode()]
        context.set_response_header(0, STATUS_HEADER, str(reply.status))
        context.set_response_content_type(0, reply.content_type)
        return [reply.body]

    def _answer(self, packed: bytes) -> Reply:
        assert self._handler is not None  # noqa: S101 the process would have ended
        if not packed:
            self._handler.warm_up()
            return Reply(b"", 200, "")
        [reply] = answer_all(self._handler, [unpack(packed)])
        return reply


def _listener() -> int:
    """The process that accepts for all workers of a model: this one, or the one that it was forked from."""
    return os.getppid() if multiprocessing.parent_process() else os.getpid()


def _configure_log() -> None:
    logs.configure()
    logging.getLogger().setLevel(logging.WARNING)  # MMS's library would print a line of metrics for each request
    logging.getLogger("serving").setLevel(logging.INFO)


_service = DefaultHandlerService(ImageTransformer())


def handle(data: Sequence[Mapping[str, Any]] | None, context: MmsContext) -> list[bytes] | None:
    """What MMS calls: once without data to load, then for each request."""
    if data is None:
        _configure_log()
        _service.initialize(context)
        return None
    answers: list[bytes] = _service.handle(data, context)
    return answers
