"""What the tests of the mathematics share: random problems in float64, and expectations by quadrature."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor

from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.variational_family import Draw, GammaFactor, GaussianFactor, LeafLevel, MiddleLevel

# Shapes above 2 and rates near 1 keep every moment finite and every term of the same order.
MODERATE = Hyperpriors(2.5, 0.7, 3.0, 0.4, 3.5, 0.2)


class Problem:
    """A random image with a random posterior, of small sizes that all differ."""

    def __init__(
        self, seed: int = 0, batch: int = 2, channels: int = 3, height: int = 4, width: int = 5, rank: int = 2
    ):
        self.generator = torch.Generator().manual_seed(seed)
        self.sizes = (batch, channels, height, width, rank)
        self.hyperpriors = MODERATE
        image = (batch, channels, height, width)
        self.y = self.normal(*image)
        self.target = self.normal(*image)
        self.middle = MiddleLevel(
            self.gaussian(batch, channels, height, rank),
            self.gaussian(batch, channels, width, rank),
            self.gaussian(*image),
        )
        self.leaf = LeafLevel(self.gamma(batch, channels, rank), self.gamma(*image), self.gamma(*image))
        self.draw: Draw = self.middle.rsample(self.generator)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, dtype=torch.float64, generator=self.generator)

    def uniform(self, *size: int) -> Tensor:
        return torch.rand(size, dtype=torch.float64, generator=self.generator)

    def gaussian(self, *size: int) -> GaussianFactor:
        return GaussianFactor(self.normal(*size), self.normal(*size) - 1)

    def gamma(self, *size: int) -> GammaFactor:
        return GammaFactor(2 + 3 * self.uniform(*size), 0.5 + self.uniform(*size))


@pytest.fixture(scope="session")
def make_problem() -> type[Problem]:
    return Problem


@pytest.fixture(scope="session")
def gamma_expectation() -> Callable[..., Tensor]:
    """E[f(x)] for x ~ Gamma(shape, rate) by the trapezoidal rule in ln x: exact to rounding, differentiable."""

    def expectation(f: Callable[[Tensor], Tensor], shape: Tensor, rate: Tensor) -> Tensor:
        step = 0.01
        log_x = torch.log(shape / rate).detach()[..., None] + torch.arange(-30, 6, step, dtype=torch.float64)
        density = torch.distributions.Gamma(shape[..., None], rate[..., None]).log_prob(log_x.exp())
        return ((density + log_x).exp() * f(log_x.exp())).sum(-1) * step

    return expectation


@pytest.fixture
def unchecked_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the annotation checks that only run under pytest, so that the library's own errors show."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
