"""Errors that a user can act on: what was wrong, the value, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class KennelError(Exception):
    """A problem with what was given to Kennel, not with Kennel itself.

    The message is one or more plain sentences; boundaries print it without a traceback.
    """


class ConfigError(KennelError):
    """One or more hyperparameters are wrong; all of them are named at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(KennelError):
    """A channel does not hold what training needs."""


class ModelError(KennelError):
    """An architecture or its pretrained weights cannot be used."""


class TrainingError(KennelError):
    """Training cannot go on and has left nothing that could be used."""


class ArtifactError(KennelError):
    """A model folder is not an artifact that this version can read."""


class ImageError(KennelError):
    """Bytes that should be an image are not one, or are one that is not safe to decode."""


class PhotoError(DataError):
    """A photo that cannot be used any more, though it could be when the channels were looked through."""

    def __init__(self, text: str) -> None:
        # torch raises what a loader's process raised anew, with the text of its whole traceback; ours ends it.
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


class OtherProcessError(KennelError):
    """The problem that another process of the job found and tells the user about; this one only ends."""
