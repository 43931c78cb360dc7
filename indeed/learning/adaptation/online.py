"""A network adapts to images as they come: InDeed OAG."""

import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NamedTuple

import torch

from indeed.checks import one_of
from indeed.images.noise_estimation import NoiseLaw
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import Adapted, Observe, adapt
from indeed.learning.adaptation.noise_replay import NoLawToReplayError, law_to_replay
from indeed.learning.loading import SampleSource
from indeed.networks.inference_network import InDeed
from indeed.types import AnySizeImage


class Outcome(NamedTuple):
    """What became of the adaptation to an image."""

    model: InDeed
    """The network for the image: the adapted one, or the unchanged one if nothing was adapted."""
    adapted: Adapted | None
    """The adaptation; None: there was none."""
    law: NoiseLaw | None
    """Law of the noise in the image; None: it was not asked for, or could not be estimated."""
    refusal: NoLawToReplayError | None
    """Why there was no adaptation; None: there was one."""
    law_seconds: float
    """Time that the laws of all images of the call took."""


@dataclass(eq=False)
class Online:
    """A network that adapts to one image after the other (InDeed OAG), or to those of one call together.

    Raises
    ------
    ValueError
        For another `reset`.
    """

    model: InDeed
    """The network to start from, which is only read; drift and penalty are measured from its weights."""
    config: AdaptationConfig
    """What is adapted, to what, and for how long."""
    _: KW_ONLY
    reset: Literal["image", "never"] = "image"
    """Whether each image starts from the original weights, or from those of the image before it (``never``); the state
    of the optimiser is new for each."""
    replay: SampleSource | None = None
    """Draws the training samples that are replayed."""
    matched: Callable[[Sequence[NoiseLaw]], SampleSource] | None = None
    """Makes that source, in the place of `replay`, from the laws of the noise in the images. For an image without a law
    to replay nothing is adapted, and the network stays as it is."""
    source: SampleSource | None = None
    """Draws the samples of the Fisher information; None: those that are replayed."""
    current: InDeed = field(init=False)
    """The network that the next image finds."""

    def __post_init__(self) -> None:  # noqa: D105
        one_of(("image", "never"), reset=self.reset)
        self.current = self.model

    def __call__(
        self, images: Sequence[AnySizeImage], generator: torch.Generator, *, observe: Observe | None = None
    ) -> list[Outcome]:
        """Adapt once to all the images, and return an outcome for each.

        Parameters
        ----------
        images, generator, observe
            As :func:`indeed.learning.adaptation.engine.adapt`.

        Raises
        ------
        ValueError
            As :func:`indeed.learning.adaptation.engine.adapt`. The network of the moment then stays as it is.
        """
        started = time.perf_counter()
        laws, refusals = dict[int, NoiseLaw](), dict[int, NoLawToReplayError]()
        if self.matched is not None:
            for k, image in enumerate(images):
                try:
                    laws[k] = law_to_replay(self.model, image)
                except NoLawToReplayError as error:
                    refusals[k] = error
        law_seconds = time.perf_counter() - started
        before, adapted = self.current, None
        if chosen := [image for k, image in enumerate(images) if k not in refusals]:
            replay = self.matched(list(laws.values())) if self.matched is not None else self.replay
            adapted = adapt(
                before,
                chosen,
                self.config,
                generator,
                replay=replay,
                source=self.source,
                original=self.model,
                observe=observe,
            )
            if self.reset == "never":
                self.current = adapted.model
        return [
            Outcome(before, None, refusals[k].law, refusals[k], law_seconds)
            if adapted is None or k in refusals
            else Outcome(adapted.model, adapted, laws.get(k), None, law_seconds)
            for k in range(len(images))
        ]
