r"""Sub-problem 2 for one image by stochastic gradient, as a network is trained, but without the network.

The parameters of q(A), q(B) and q(S) are free variables. A step solves the leaf level in closed form, draws A, B and S
by reparameterisation, and follows the gradient of Eq. 31 with the sampled fidelity of Eq. 32. What coordinate ascent
(:mod:`indeed.bayes.coordinate_ascent`) finds in closed form, this finds by small steps; it needs no formula for the
optimum, only samples.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from indeed.bayes.conjugate_updates import NoiseForm, solve_leaf_level
from indeed.bayes.coordinate_ascent import check_problem
from indeed.bayes.elbo import sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import sampled_squared_residual
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.checks import expect, one_of
from indeed.types import Images


def descend(
    y: Images,
    start: MiddleLevel,
    hyperpriors: Hyperpriors | None = None,
    *,
    steps: int | Sequence[int],
    generator: torch.Generator,
    noise: NoiseForm = "pixel",
    residual: Literal["sampled", "expected"] = "expected",
    learning_rate: float = 0.03,
    decay: float = 0.01,
    leaf_every: int = 1,
) -> dict[int, MiddleLevel]:
    r"""Middle level after the given numbers of stochastic gradient steps on sub-problem 2, diagonal family (Eq. 8).

    Adam on the means and log-variances; the learning rate falls geometrically from ``learning_rate`` to ``decay`` times
    that at the last step.

    Parameters
    ----------
    y
        Observed images.
    start
        Where to start: :func:`~indeed.bayes.coordinate_ascent.svd_start`, or what a network predicts.
    hyperpriors
        Shapes and rates of the priors; the paper's by default.
    steps
        How many steps, or at which steps to keep the posterior.
    generator
        Source of the draws.
    noise
        One noise precision per ``pixel``, as in the paper, or one ``scalar`` per channel.
    residual
        Whether the noise precisions (Eq. 30) are solved with the ``expected`` residual, which is exact, or that of the
        draw, as in the paper.
    learning_rate, decay
        First learning rate, and the last as a share of it.
    leaf_every
        Solve the leaf level again every so many steps.

    Returns
    -------
    dict
        The middle level after each of the requested steps.

    Raises
    ------
    TypeError, ValueError
        If ``y`` is not a finite floating-point image, ``start`` does not fit it, or an option is out of range.
    """
    wanted = sorted({steps} if isinstance(steps, int) else set(steps))
    check_problem(y, start, noise)
    one_of(("sampled", "expected"), residual=residual)
    expect(wanted and wanted[0] >= 1, "steps", steps, "at least 1")
    for name, value in (("learning_rate", learning_rate), ("decay", decay), ("leaf_every", leaf_every)):
        expect(value > 0, name, value, "a positive number")
    hyperpriors = hyperpriors or Hyperpriors()
    factors = [[x.detach().to(y, copy=True).requires_grad_() for x in (q.mean, q.log_variance)] for q in start]
    middle = MiddleLevel(*(GaussianFactor(*pair) for pair in factors))
    optimiser = torch.optim.Adam([x for pair in factors for x in pair], lr=learning_rate)
    kept = {}
    for step in range(1, wanted[-1] + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * decay ** ((step - 1) / max(wanted[-1] - 1, 1))
        draw = middle.rsample(generator)
        if (step - 1) % leaf_every == 0:
            with torch.no_grad():
                leaf = solve_leaf_level(
                    y, middle, hyperpriors, draw=draw if residual == "sampled" else None, noise=noise
                )
        optimiser.zero_grad()
        terms = sub_problem_2_terms(middle, leaf, sampled_squared_residual(y, draw))
        torch.autograd.backward(torch.stack(list(terms)).sum())
        optimiser.step()
        if step in wanted:
            kept[step] = MiddleLevel(*(GaussianFactor(*(x.detach().clone() for x in q)) for q in middle))
    return kept
