"""What becomes of smdebug's hook when its files cannot be written: it is off from then on, and the training goes on.

Left to itself it stops the training without a word: its writing thread ends with the first error, and whoever hands it
the eleventh tensor after that, or closes it, waits for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from smdebug.core.error_handling_agent import ErrorHandlingAgent
from smdebug.core.tfevent import event_file_writer

_LOG = logging.getLogger(__name__)
_WRITING_THREAD = event_file_writer._EventLoggerThread


class TensorFiles:
    """The files of a hook."""

    def __init__(self, hook: Any) -> None:
        """Stand beside the hook, before it writes."""
        self._hook = hook
        self._agent = ErrorHandlingAgent.get_error_handling_agent()
        event_file_writer._EventLoggerThread = _thread_that_tells(self._give_up)
        hook._close_writers = self._or_off(hook._close_writers)
        hook._initialize_writers = self._or_off(hook._initialize_writers)

    @property
    def is_off(self) -> bool:
        """Whether the hook saves nothing any more, for this reason or another."""
        return bool(self._agent.disable_smdebug)

    def _or_off(self, write: Callable[..., None]) -> Callable[..., None]:
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                write(*args, **kwargs)
            except OSError as error:
                self._give_up(error)
                self._hook.writer = None
                self._hook.tb_writers.clear()

        return guarded

    def _give_up(self, error: OSError) -> None:
        if not self.is_off:
            self._agent.disable_smdebug = True
            _LOG.warning("The debugger is off from here on: tensors cannot be written (%s).", error)


def _thread_that_tells(give_up: Callable[[OSError], None]) -> type[Any]:
    class Thread(_WRITING_THREAD):  # type: ignore[valid-type, misc]
        """Goes on after an error to take what is handed to it, so that nobody waits."""

        def run(self) -> None:
            try:
                super().run()
            except OSError as error:
                give_up(error)
                event = None
                while event is not self._sentinel_event:
                    event = self._queue.get()
                    self._queue.task_done()

    return Thread
