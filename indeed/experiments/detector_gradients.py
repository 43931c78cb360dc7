"""Which terms pull the detector of textures towards the true defects: cosines of gradients, a cell for each probe.

``python -m indeed.experiments.detector_gradients --help``. A probe has synthetic defects, which are known, on good
textures held out of the training, with the noise of the images of :mod:`indeed.experiments.adapted_detection`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import sub_problem_2_terms
from indeed.bayes.posterior_summaries import sampled_squared_residual
from indeed.experiments.adapted_detection import (
    ADAPTATIONS,
    noise_of_set,
    noisy_images,
    set_of_profile,
    training_of,
)
from indeed.experiments.program import Cell, Job, Table, Values, ships
from indeed.learning.adaptation.loss import adaptation_loss
from indeed.learning.diagnostics.gradients import flat_gradient
from indeed.learning.loading import Batch, draw_batch
from indeed.learning.training.sources import anomaly_samples
from indeed.networks.checkpoint import load_checkpoint
from indeed.recipes.detector import TEXTURE_SURFACE
from indeed.recipes.good_images import SEED, good_images
from indeed.record import Profile

OTHER_DRAWS = 1000
"""Added to the seed of a probe for the samples that are replayed, which are others than those of the probe."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (probe,): seeds of the defects and of the draws."""
    return [(probe,) for probe in range(2 if profile == "smoke" else 5)]


def cell(job: Job, probe: int) -> Cell:
    r"""Make ready a cell: cosines with the gradient of :math:`\|S - U_A\|^2` in the weights of :math:`f_S`.

    Returns
    -------
    A row with those of the ``fidelity``, the ``sparsity``, their ``sum`` (Eq. 39) and the ``replay`` of the training,
    with other defects, on the good images that the detector learned from.
    """

    def compute() -> list[dict[str, float]]:
        detector, record = load_checkpoint(job.networks[0], job.device)
        training, tile = training_of(record), detector.config.patch_size
        good, surface = good_images("textures", 1, tile), TEXTURE_SURFACE
        law = noise_of_set(noisy_images(set_of_profile("textures", job.profile), None))
        weights = list(detector.f_S.parameters())

        def synthetic_defects(surfaces: list[Tensor], seed: int) -> Batch:
            source = anomaly_samples(surface.patches(surfaces, tile), training, surface.synthesis, law)
            return draw_batch(source, range(4 if job.profile == "smoke" else 16), seed)

        def seeded() -> torch.Generator:
            return torch.Generator().manual_seed(probe)

        batch = synthetic_defects(good.held_out, probe)
        error = detector(batch.observed)[1].S - (batch.observed - batch.target)
        wanted = flat_gradient(error.square().sum(), weights)
        middle, draw = detector(batch.observed, seeded())
        with torch.no_grad():
            leaf = solve_leaf_level(batch.observed, middle, training.hyperpriors, draw=draw)
        terms = sub_problem_2_terms(middle, leaf, sampled_squared_residual(batch.observed, draw))
        found = {name: flat_gradient(getattr(terms, name).sum(), weights) for name in ("fidelity", "sparsity")}
        found["sum"] = found["fidelity"] + found["sparsity"]
        others = synthetic_defects(good.train, probe + OTHER_DRAWS)
        replay = replace(ADAPTATIONS["replay"], training=training)
        found["replay"] = flat_gradient(
            adaptation_loss(detector, others.observed, others, replay, seeded())[0], weights
        )
        return [{name: torch.cosine_similarity(of, wanted, dim=0).item() for name, of in found.items()}]

    return Cell(compute, "skimage.data: brick, grass, gravel", job.networks, SEED, job.device)


TABLE = Table(
    name="detector_gradients",
    key={"probe": int},
    example="0",
    cells=cells,
    measure=cell,
    networks=ships("detect_textures"),
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
