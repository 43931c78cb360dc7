"""Soft thresholds of the entries and of the singular values of a stack of matrices.

Only singular values above the threshold are needed, and in an iteration their vectors change little from step to step:
subspace iteration, started from the last ones, replaces most decompositions.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Stack = Float[Tensor, "stack height width"]
PerMatrix = Float[Tensor, " stack"]
Rank = Int[Tensor, " stack"]
Basis = Float[Tensor, "stack width vectors"]

SPARE = 15
"""Vectors followed in addition to those last needed, for a growing rank and fast convergence; one is always random."""
SWEEPS = 15
"""Subspace iterations before a whole decomposition is taken instead; they cost about the same."""
SHARE = 5
"""A whole decomposition is taken where more than one in so many singular vectors would be followed."""


def threshold_entries(x: Stack, level: Float[Tensor, "#stack #height #width"]) -> Stack:
    """Soft threshold: every entry moved towards zero by ``level``, and no further.

    Examples
    --------
    >>> threshold_entries(torch.tensor([[[-3.0, 0.5, 2.0]]]), torch.tensor([[[1.0]]]))
    tensor([[[-2.,  0.,  1.]]])
    """
    return x - torch.clamp(x, -level, level)


def threshold_singular_values(
    x: Stack, level: PerMatrix, accuracy: PerMatrix, rank: Rank, basis: Basis
) -> tuple[Stack, Rank, Basis]:
    """Every singular value moved towards zero by ``level``; rank and right singular vectors to start from next time.

    ``rank`` and ``basis`` are the last ones of similar matrices; ``accuracy`` bounds the error of the result in the
    Frobenius norm, as `_settled` judges it.
    """
    threshold = _Threshold(x, level, accuracy, rank, basis)
    few = rank + SPARE <= basis.shape[-1]
    threshold.decompose((~few).nonzero()[:, 0])
    if few.any():
        threshold.iterate(few.nonzero()[:, 0], int(rank[few].max()) + SPARE)
    return threshold.result, threshold.rank, threshold.basis


class _Threshold:
    """Thresholding of the singular values of a stack; ``which`` names the matrices that a method deals with."""

    def __init__(self, x: Stack, level: PerMatrix, accuracy: PerMatrix, rank: Rank, basis: Basis) -> None:
        self.x, self.level, self.accuracy = x, level, accuracy
        self.result, self.rank, self.basis = torch.empty_like(x), rank.clone(), basis.clone()

    def decompose(self, which: Rank) -> None:
        """Take whole singular value decompositions."""
        if len(which):
            U, s, Vh = torch.linalg.svd(self.x[which], full_matrices=False)
            self.put(which, U, s, Vh.mT)

    def iterate(self, which: Rank, vectors: int) -> None:
        """Follow the leading singular vectors by subspace iteration, and decompose matrices that it does not settle."""
        limit = self.basis.shape[-1]
        x = self.x[which] if len(which) < len(self.x) else self.x
        # The last column stays random. The others may have lost a direction that was weak before and is strong now (a
        # faint block beside a bright one), and would never find it again.
        start = self.basis[which]
        product = x @ torch.cat([start[..., : vectors - 1], start[..., -1:]], dim=-1)
        for _ in range(SWEEPS):
            if not len(which):
                return
            U, s, V = _project(x, product)
            product = x @ V
            # X' U = V s holds exactly, X V = U s up to this
            error = (product - U * s.unsqueeze(-2)).norm(dim=-2)
            settled, too_few = _settled(s, error, self.level[which], self.accuracy[which])
            if settled.any():
                self.put(which[settled], U[settled], s[settled], V[settled])
            if too_few.any():
                if vectors < limit:
                    self.iterate(which[too_few], limit)
                else:
                    self.decompose(which[too_few])
            go = ~(settled | too_few)
            if not go.all():
                which, x, product = which[go], x[go], product[go]
        self.decompose(which)

    def put(
        self,
        which: Rank,
        U: Float[Tensor, "some height vectors"],
        s: Float[Tensor, "some vectors"],
        V: Float[Tensor, "some width vectors"],
    ) -> None:
        """Keep the result of some matrices, and their vectors for the next time."""
        excess = s - self.level[which, None]
        self.rank[which] = (excess > 0).sum(-1)
        count = min(V.shape[-1], self.basis.shape[-1] - 1)
        self.basis[which, :, :count] = V[..., :count]
        kept = slice(int(self.rank[which].max()))
        self.result[which] = (U[..., kept] * excess[:, None, kept].clamp(min=0)) @ V[..., kept].mT


def _project(
    x: Stack, product: Float[Tensor, "stack height vectors"]
) -> tuple[Float[Tensor, "stack height vectors"], Float[Tensor, "stack vectors"], Basis]:
    """Singular triplets of the projection of x onto the column space of ``product``."""
    Q = torch.linalg.qr(product).Q
    P, triangle = torch.linalg.qr(x.mT @ Q)
    left, s, right = torch.linalg.svd(triangle.mT)
    return Q @ left, s, P @ right.mT


def _settled(
    s: Float[Tensor, "stack vectors"], error: Float[Tensor, "stack vectors"], level: PerMatrix, accuracy: PerMatrix
) -> tuple[Bool[Tensor, " stack"], Bool[Tensor, " stack"]]:
    """Which matrices are thresholded well enough, and which have more values above the threshold than vectors.

    X differs by the matrix of the vectors ``error`` from one that falls into two orthogonal blocks: the triplets above
    the threshold, and the rest. Thresholding is non-expansive, so the triplets alone are off by no more than its norm,
    if the rest has no singular value above the threshold. That is judged by the first triplet below, not proved: a
    direction that the vectors do not contain goes unseen, until the random one among them has brought it in.
    """
    above = s > level[:, None]
    too_few = above[:, -1]
    first_below = above.sum(-1, keepdim=True).clamp(max=s.shape[-1] - 1)
    largest_of_rest = (s + error).gather(-1, first_below)[:, 0]
    settled = ((error * above).norm(dim=-1) <= accuracy) & (largest_of_rest <= level) & ~too_few
    return settled, too_few


def random_basis(stack: Stack) -> tuple[Rank, Basis]:
    """No vectors needed yet, and random ones to start from, the last of which is never replaced."""
    vectors = min(stack.shape[1:]) // SHARE + 1
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(stack.shape[2], vectors, generator=generator, dtype=stack.dtype).to(stack.device)
    return torch.zeros(len(stack), dtype=torch.long, device=stack.device), basis.repeat(len(stack), 1, 1)
