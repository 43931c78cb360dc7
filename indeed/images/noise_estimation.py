r"""The law of the noise in one image, and noise of that law.

The noise of a pixel x and colour c is modelled as :math:`\sqrt{a + b\,I_c(x)}\,Z_c(x)`: an intensity-dependent gain
times a stationary Gaussian field Z of mean zero, correlated over pixels and colours. The law is estimated from the
blocks that show the least besides noise. Choosing those of lowest variance would bias the variance downwards. Hence
each block is split into its parts that are symmetric and antisymmetric under reflection in its centre. The stationary
covariance of a colour is invariant under that reflection, so that these parts of Gaussian noise are independent: each
is measured in the blocks that the other chose.

What an image repeats everywhere, such as grass, is noise by this definition: the estimate is then too high, and
`NoiseLaw.reliable` says so. Where the quietest blocks hold noise alone, all are equally loud, however many are taken;
those of a texture have no such floor.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from indeed.checks import expect, finite
from indeed.images.noise import GREY_LEVEL
from indeed.types import Image, Images

BLOCK = 16
"""Side of the blocks in pixels."""
BINS = 8
"""Largest number of ranges of intensity, with equally many blocks each; small images have fewer."""
QUIET = 0.03
"""Fraction of the blocks of a range that is measured."""
SATURATED = 1 / 32
"""Largest fraction of saturated values in a colour of a block; clipping noise there lowers its variance by a few %."""
RELIABLE_RISE = 0.13
"""Largest `NoiseLaw.floor_rise` of an estimate to rely on: between those of the twelve photographs that ship with the
packages (at most 0.09) and of two textures, grass and gravel (at least 0.19), with noise of 3 to 15 grey levels, at 512
pixels a side. Images of less than 256 have too few blocks to tell well."""
WEAK = 8 * GREY_LEVEL
"""Standard deviation at middle grey up to which noise is weak."""
FEWEST = 16
"""Number of blocks below which nothing is estimated."""


@dataclass(frozen=True, eq=False)
class NoiseLaw:
    """Zero-mean Gaussian noise, stationary up to a gain that depends on the intensity.

    Raises
    ------
    ValueError
        If the covariance is not square in its colours or its lags, has an even number of lags, is not that of real
        noise (``covariance[c, d]`` at a lag equals ``covariance[d, c]`` at minus that lag) or has no variance, or
        if the gain is negative at an intensity in [0, 1].

    Examples
    --------
    White noise of 15 grey levels:

    >>> white = NoiseLaw(torch.ones(1, 1, 1, 1), ((15 / 255) ** 2, 0.0))
    >>> noisy = white.sample(torch.full((1, 1, 64, 64), 0.5), torch.Generator().manual_seed(0))
    >>> print(f"{255 * noisy.std().item():.1f}")
    14.9
    """

    covariance: Float[Tensor, "channel channel lag lag"]
    """``covariance[c, d, r + dy, r + dx]`` of colour c here and colour d at dy rows below and dx columns to the right,
    at unit gain; zero beyond the radius r."""
    gain: tuple[float, float]
    """(a, b) of the factor ``a + b * intensity`` of the covariance, for intensities in [0, 1]."""
    floor_rise: float = 0.0
    """Of an estimate: logarithm of the energy of the quietest 15 % of the blocks, over that of the quietest 3 %. Each
    half of a block is measured where the other is quiet, so that noise alone has none."""

    def __post_init__(self) -> None:
        """Refuse what is no covariance."""
        channels, others, rows, columns = shape = tuple(self.covariance.shape)
        square = channels == others and rows == columns and rows % 2 == 1
        expect(square, "covariance", f"shape {shape}", "(c, c, n, n) with an odd n")
        mirrored = self.covariance.flip(2, 3).transpose(0, 1)
        if not torch.allclose(self.covariance, mirrored, rtol=1e-4, atol=1e-6):  # also refuses NaN
            raise ValueError("covariance: differs from that of colours and lags exchanged, expected the same")
        if not (self._variances.min() >= 0 and self._variances.max() > 0):
            raise ValueError(f"covariance: got variances {self._variances.tolist()}, expected positive ones")
        a, b = self.gain
        expect(0 <= a < math.inf and 0 <= a + b < math.inf, "gain", self.gain, "a + b * intensity >= 0 on [0, 1]")

    @property
    def channels(self) -> int:
        """Number of colours."""
        return self.covariance.shape[0]

    @property
    def radius(self) -> int:
        """Largest lag in pixels."""
        return self.covariance.shape[2] // 2

    @property
    def weak(self) -> bool:
        """Whether the noise is no stronger than `WEAK`."""
        grey = self.covariance.new_full((1, self.channels, 1, 1), 0.5)
        return self.sigma(grey).square().mean().sqrt().item() <= WEAK

    @property
    def reliable(self) -> bool:
        """Whether the blocks that were measured seem to hold noise alone (`RELIABLE_RISE`), or little of anything."""
        return self.weak or self.floor_rise <= RELIABLE_RISE

    @property
    def neighbour_correlation(self) -> float:
        """Correlation of neighbours of the same colour, mean of vertical and horizontal; zero for white noise."""
        r = self.radius
        same = self.covariance.diagonal(dim1=0, dim2=1).sum(2)
        return ((same[r, r + 1] + same[r + 1, r]) / (2 * same[r, r])).item() if r else 0.0

    def sigma(self, clean: Images) -> Images:
        """Marginal standard deviation of the noise at each value of an image; intensities are clipped to [0, 1]."""
        return _variance(self.gain, clean).sqrt() * self._variances.sqrt().to(clean)[:, None, None]

    def sample(self, clean: Images, generator: torch.Generator) -> Images:
        """Images of any size plus noise of this law, unclipped.

        White noise is filtered by the square root of the spectrum. Numbers are drawn on the generator's device.

        Raises
        ------
        ValueError
            If the images have another number of channels than the law.
        """
        batch, channel, height, width = clean.shape
        expect(channel == self.channels, "clean", f"{channel} channels", f"the {self.channels} of the law")
        # The noise is made on a torus larger by the filter's width, so that the part cut out does not wrap around.
        side = self._filter.shape[-1]
        size = (height + side, width + side)
        white = torch.randn(
            (batch, channel, *size), generator=generator, dtype=clean.dtype, device=generator.device
        ).to(clean.device)
        response = torch.fft.rfft2(_on_torus(self._filter.to(clean), size))
        field = torch.einsum("cdyx,ndyx->ncyx", response, torch.fft.rfft2(white))
        noise = torch.fft.irfft2(field, s=size)[..., :height, :width]
        noisy: Tensor = clean + _variance(self.gain, clean).sqrt() * noise
        return noisy

    @property
    def _variances(self) -> Float[Tensor, " channel"]:
        return self.covariance[:, :, self.radius, self.radius].diagonal()

    @cached_property
    def _filter(self) -> Float[Tensor, "channel channel side side"]:
        """Filter that turns white noise into noise of the covariance, its origin in the middle."""
        side = 8 * self.radius + 1
        values, vectors = _eigen(_spectrum(self.covariance, side).conj())
        root = (vectors * values.sqrt()[..., None, :]) @ vectors.mH
        kernel: Tensor = torch.fft.ifft2(root, dim=(0, 1)).real.permute(2, 3, 0, 1)
        return kernel.roll((side // 2, side // 2), (2, 3))


def estimate_noise(image: Image, radius: int = 4) -> NoiseLaw:
    r"""Law of the noise in one image, without knowing the clean one.

    1. From each block a quadratic is taken off, and what is left is split into its symmetric and antisymmetric part.
    2. The gain is the affine function of intensity that runs along the lower envelope of the energies over intensity,
       where it is sharp; where the image tells nothing, the gain is constant.
    3. In each range of intensities the quietest blocks in relation to the gain are taken, except in ranges where even
       they are loud. Of each part, the empirical autocovariance is averaged over the blocks that the other chose. Their
       sum is that of a block, up to the influence of step 1, a linear map that is inverted. Where a covariance between
       colours differs at opposite lags, the sum is the mean of both.
    4. Of the matrices of the spectrum, negative eigenvalues become zero; the variance is kept.

    Parameters
    ----------
    image
        In [0, 1], or with unclipped noise. Blocks where more than 3 % of the values of a colour are saturated, exactly
        0 or 1, are left out.
    radius
        Largest lag in pixels; noise that is correlated farther is cut off there.

    Raises
    ------
    ValueError
        If a value is not finite, the radius is not in 1..7, or there are fewer than 16 blocks that are not saturated.

    Examples
    --------
    >>> noisy = 0.5 + 0.1 * torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    >>> law = estimate_noise(noisy)
    >>> print(f"{law.sigma(torch.full((1, 3, 1, 1), 0.5)).mean().item():.2f}", law.reliable)
    0.10 True
    """
    finite(image=image)
    expect(1 <= radius < BLOCK // 2, "radius", radius, f"1 to {BLOCK // 2 - 1}")
    parts, intensity = _parts(image.double())
    energy = parts.square().sum((3, 4))
    gain = _gain(energy, intensity)
    level = _variance(gain, intensity)
    loudness = (energy / level).sum(2)
    chosen = _chosen(loudness, intensity.mean(1))
    measured = sum(
        _autocovariance(part[blocks] / level[blocks].sqrt()[..., None, None], radius)
        for part, blocks in zip(parts, chosen, strict=True)
    )
    lags = torch.linalg.solve(_detrending(radius), torch.as_tensor(measured).flatten(2).flatten(0, 1).T)
    covariance = lags.T.reshape(len(image), len(image), 2 * radius + 1, 2 * radius + 1)
    power = covariance[:, :, radius, radius].diagonal().mean().item()
    if power <= torch.finfo(image.dtype).eps ** 2:  # what rounding leaves of an image without noise
        power, covariance = 0.0, _white(len(image), radius)
    covariance = _positive(covariance)
    covariance = covariance / covariance[:, :, radius, radius].diagonal().mean()
    floor, above = (loudness.gather(1, _cross(loudness, share)).mean().log().item() for share in (QUIET, 5 * QUIET))
    return NoiseLaw(covariance.to(image.dtype), (gain[0] * power, gain[1] * power), above - floor)


def _variance(gain: tuple[float, float], intensity: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return (gain[0] + gain[1] * intensity.clamp(0, 1)).clamp(min=0)


def _parts(image: Image) -> tuple[Float[Tensor, "2 block channel side side"], Float[Tensor, "block channel"]]:
    """Symmetric and antisymmetric parts of the detrended blocks, and the means of the blocks."""
    height, width = image.shape[1:]
    stride = max(BLOCK // 2, math.ceil(math.sqrt(height * width / 2**13)))  # so that a large image needs no more memory
    blocks = torch.empty(0)
    if min(height, width) >= BLOCK:
        blocks = image.unfold(1, BLOCK, stride).unfold(2, BLOCK, stride).permute(1, 2, 0, 3, 4).flatten(0, 1)
        saturated = ((blocks == 0) | (blocks == 1)).double().mean((2, 3)).amax(1)
        blocks = blocks[saturated <= SATURATED]
    got = f"{height}x{width} pixels with {len(blocks)} blocks of {BLOCK} pixels that are not saturated"
    expect(len(blocks) >= FEWEST, "image", got, f"at least {FEWEST}")
    trend, flat = _trend(), blocks.flatten(2)
    detrended = (flat - (flat @ trend) @ trend.T).view_as(blocks)
    turned = detrended.flip(2, 3)
    return torch.stack([detrended + turned, detrended - turned]) / 2, blocks.mean((2, 3)).clamp(0, 1)


def _trend() -> Float[Tensor, "pixel 6"]:
    """Orthonormal basis of the quadratic polynomials on a block."""
    axis = torch.linspace(-1, 1, BLOCK, dtype=torch.float64)
    y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    basis: Tensor = torch.linalg.qr(torch.stack([y**i * x**j for i in range(3) for j in range(3 - i)], 1)).Q
    return basis


def _gain(energy: Float[Tensor, "2 block channel"], intensity: Float[Tensor, "block channel"]) -> tuple[float, float]:
    """Affine function of intensity, up to a factor, along the lower envelope of the energies.

    In each range of intensities the quietest blocks give a point, each part measured where the other chose. A second
    point from five times as many blocks says how sharp the envelope is there. The function may lie far below a blunt
    point, at a bounded cost, but not above one. Intensities differ between the colours, and so may their variances;
    the ratio of the variances at white and black is common.
    """
    ratio = torch.linspace(-math.log(200), math.log(200), 61, dtype=torch.float64)  # of white to black, logarithm
    # This cost is small beside the misfit of a wrong ratio where intensities differ, and decides where they do not.
    cost = 0.3 * energy.shape[2] * ratio**2
    for halves, values in zip(energy.unbind(2), intensity.T, strict=True):
        points = []
        for members in _ranges(values):
            where, low, count = _quietest(halves[:, members], values[members], QUIET)
            blunt = _quietest(halves[:, members], values[members], 5 * QUIET)[1] - low
            points.append((where, low, blunt**2 + 0.03 / count + 4e-4))
        place, height, spread = torch.tensor(points, dtype=torch.float64).T
        excess = height - torch.log((-ratio / 2).exp()[:, None] * (1 - place) + (ratio / 2).exp()[:, None] * place)
        levels = torch.linspace(excess.min().item(), excess.max().item(), 400, dtype=torch.float64)
        misfit = (excess[:, None] - levels[:, None]) / spread.sqrt()
        cost = cost + torch.where(misfit > 0, misfit.square().clamp(max=4), misfit.square()).sum(2).amin(1)
    best = ratio[cost.argmin()].item()
    return math.exp(-best / 2), math.exp(best / 2) - math.exp(-best / 2)


def _quietest(
    halves: Float[Tensor, "2 block"], intensity: Float[Tensor, " block"], fraction: float
) -> tuple[float, float, int]:
    """Mean intensity and logarithm of the energy of the quietest blocks, and how many they are."""
    chosen = _cross(halves, fraction)
    energy = halves.gather(1, chosen).mean(1).sum().clamp(min=1e-30)
    return intensity[chosen].mean().item(), energy.log().item(), chosen.shape[1]


def _cross(halves: Float[Tensor, "2 block"], fraction: float) -> Int[Tensor, "2 chosen"]:
    """Blocks of least energy; those for one half are chosen by the energy of the other."""
    count = max(2, round(fraction * halves.shape[1]))
    return halves.topk(count, largest=False).indices.flip(0)


def _chosen(loudness: Float[Tensor, "2 block"], intensity: Float[Tensor, " block"]) -> Int[Tensor, "2 chosen"]:
    """Quietest blocks of each range of intensities, except ranges where they are louder than in the quiet ranges.

    Each range gives its own, so that they do not all come from one whose gain is too high by error.
    """
    found = []
    for members in _ranges(intensity):
        chosen = members[_cross(loudness[:, members], QUIET)]
        found.append((chosen, loudness.gather(1, chosen).mean(1).sum()))
    limit = 1.15 * torch.stack([energy for _, energy in found]).quantile(0.4)
    return torch.cat([chosen for chosen, energy in found if energy <= limit], 1)


def _ranges(intensity: Float[Tensor, " block"]) -> tuple[Int[Tensor, " _"], ...]:
    return intensity.argsort().tensor_split(max(1, min(BINS, len(intensity) // 64)))


def _autocovariance(
    blocks: Float[Tensor, "block channel side side"], radius: int
) -> Float[Tensor, "channel channel lag lag"]:
    """Mean over the pairs of pixels at each lag, and over the blocks."""
    transform = torch.fft.fft2(blocks, s=(2 * BLOCK, 2 * BLOCK))
    cross = torch.einsum("ncyx,ndyx->cdyx", transform.conj(), transform) / len(blocks)
    sums = torch.fft.ifft2(cross).real.roll((radius, radius), (2, 3))[..., : 2 * radius + 1, : 2 * radius + 1]
    pairs = BLOCK - torch.arange(-radius, radius + 1, dtype=blocks.dtype).abs()
    means: Tensor = sums / torch.outer(pairs, pairs)
    return means


@lru_cache
def _detrending(radius: int) -> Float[Tensor, "lags lags"]:
    """Matrix that takes the autocovariance of noise to the expected empirical one of a detrended block."""
    pixel = torch.arange(BLOCK**2)
    row, column = pixel // BLOCK, pixel % BLOCK
    down, right = row - row[:, None], column - column[:, None]
    lags = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    pairs = torch.stack([(down == dy) & (right == dx) for dy, dx in lags]).double()
    trend = _trend()
    kept = torch.eye(BLOCK**2, dtype=torch.float64) - trend @ trend.T
    return pairs.flatten(1) @ (kept @ pairs @ kept).flatten(1).T / pairs.sum((1, 2))[:, None]


def _white(channels: int, radius: int) -> Float[Tensor, "channel channel lag lag"]:
    covariance = torch.zeros(channels, channels, 2 * radius + 1, 2 * radius + 1, dtype=torch.float64)
    covariance[:, :, radius, radius] = torch.eye(channels, dtype=torch.float64)
    return covariance


def _on_torus(
    kernel: Float[Tensor, "channel channel side side"], size: tuple[int, int]
) -> Float[Tensor, "channel channel height width"]:
    """Kernel, its origin in the middle, on a larger torus, its origin in the corner."""
    side = kernel.shape[-1]
    padded = torch.nn.functional.pad(kernel, (0, size[1] - side, 0, size[0] - side))
    return padded.roll((-(side // 2), -(side // 2)), (2, 3))


def _spectrum(
    covariance: Float[Tensor, "channel channel lag lag"], side: int
) -> Complex[Tensor, "side side channel channel"]:
    spectrum: Tensor = torch.fft.fft2(_on_torus(covariance.double(), (side, side)))
    return spectrum.permute(2, 3, 0, 1)


def _eigen(
    spectrum: Complex[Tensor, "side side channel channel"],
) -> tuple[Float[Tensor, "side side channel"], Complex[Tensor, "side side channel channel"]]:
    """Eigenvalues, negative ones set to zero, and eigenvectors of the Hermitian matrix at each frequency."""
    values, vectors = torch.linalg.eigh((spectrum + spectrum.mH) / 2)
    return values.clamp(min=0), vectors


def _positive(covariance: Float[Tensor, "channel channel lag lag"]) -> Float[Tensor, "channel channel lag lag"]:
    """Covariance without the negative eigenvalues of its spectrum, cut off at the same radius again."""
    lags = covariance.shape[-1]
    values, vectors = _eigen(_spectrum(covariance, 4 * lags))
    whole: Tensor = torch.fft.ifft2((vectors * values[..., None, :]) @ vectors.mH, dim=(0, 1)).real.permute(2, 3, 0, 1)
    return whole.roll((lags // 2, lags // 2), (2, 3))[..., :lags, :lags]
