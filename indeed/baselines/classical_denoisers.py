"""One interface for the classical denoisers of photographs: ``denoise_classically(y, method, sigma)``.

All are told the standard deviation of the noise. Their free constants were chosen for grey centres of 128 pixels of
eight embedded photographs (all but camera, chelsea, china, flower, hubble and retina) at 10, 25 and 50 grey levels of
noise, by the mean PSNR; no test image had a part in it.
"""

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from indeed.checks import expect, finite, one_of
from indeed.types import Images

Array = Float[np.ndarray, "height width channel"]


def total_variation(y: Array, sigma: float) -> Array:
    """Total variation by Chambolle's algorithm, each channel by itself, with weight ``0.9 sigma``."""
    from skimage.restoration import denoise_tv_chambolle

    options = {"eps": 1e-5, "max_num_iter": 1000, "channel_axis": -1}
    return _same_shape(denoise_tv_chambolle(y, weight=0.9 * sigma, **options), y)  # type: ignore[no-untyped-call]


def non_local_means(y: Array, sigma: float) -> Array:
    """Non-local means of patches of 7 pixels within 6 pixels, with cut-off ``0.6 sigma``."""
    from skimage.restoration import denoise_nl_means

    options = {"patch_size": 7, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
    return _same_shape(denoise_nl_means(y, h=0.6 * sigma, sigma=sigma, **options), y)


def wavelet(y: Array, sigma: float) -> Array:
    """Soft threshold of wavelet coefficients (symlets of order 4, at most four levels) with the BayesShrink rule.

    Raises
    ------
    ValueError
        If a side is shorter than the 14 pixels that one level needs.
    """
    import pywt
    from skimage.restoration import denoise_wavelet

    height, width, channels = y.shape
    levels = min(4, pywt.dwt_max_level(min(height, width), "sym4"))
    expect(levels >= 1, "y", f"{height} x {width} pixels", "sides of at least 14 for one level of wavelets")
    options = {"wavelet": "sym4", "wavelet_levels": levels, "method": "BayesShrink", "mode": "soft", "channel_axis": -1}
    return _same_shape(denoise_wavelet(y, sigma=sigma, rescale_sigma=True, convert2ycbcr=channels == 3, **options), y)


def bm3d(y: Array, sigma: float) -> Array:
    """Block matching and 3-D filtering, if the user has installed the package ``bm3d`` of its authors.

    Its licence allows non-commercial use only, so it is not a dependency and does not ship:
    ``pip install bm3d`` is the user's decision.

    Raises
    ------
    ModuleNotFoundError
        If ``bm3d`` is not installed.
    """
    try:
        package = import_module("bm3d")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the method bm3d needs the package bm3d, whose licence (non-commercial use only) forbids shipping it; "
            "if that suits you: pip install bm3d"
        ) from error
    return _same_shape(package.bm3d(y[..., 0], sigma) if y.shape[2] == 1 else package.bm3d_rgb(y, sigma), y)


DENOISERS: Mapping[str, Callable[[Array, float], Array]] = MappingProxyType(
    {"tv": total_variation, "nlm": non_local_means, "wavelet": wavelet, "bm3d": bm3d}
)
"""The methods by name, as functions of one (height, width, channel) image."""


def denoise_classically(y: Images, method: str, sigma: float) -> Images:
    """Denoised images by a classical method, computed on the CPU in double precision.

    Parameters
    ----------
    y
        Images in [0, 1], grey or colour, with noise unclipped.
    method
        ``tv``, ``nlm``, ``wavelet``, or ``bm3d`` if it is installed.
    sigma
        Standard deviation of the noise in the unit of ``y``: 25 grey levels are 25 / 255.

    Returns
    -------
    Images of the type and on the device of ``y``.

    Raises
    ------
    TypeError
        If ``y`` is not of a floating-point type.
    ValueError
        If the method is unknown, ``y`` is not finite or not grey or colour, or ``sigma`` is not positive.
    ModuleNotFoundError
        If the method is ``bm3d`` and it is not installed.
    """
    one_of(DENOISERS, method=method)
    if not y.is_floating_point():
        raise TypeError(f"y: got {y.dtype}, expected a floating-point type")
    expect(y.ndim == 4 and y.shape[1] in (1, 3), "y", f"shape {tuple(y.shape)}", "(batch, 1 or 3, height, width)")
    finite(y=y)
    expect(0 < sigma < math.inf, "sigma", sigma, "a finite positive standard deviation")
    arrays = y.detach().double().permute(0, 2, 3, 1).cpu().numpy()
    clean = [torch.from_numpy(DENOISERS[method](np.ascontiguousarray(array), sigma)) for array in arrays]
    return torch.stack(clean).permute(0, 3, 1, 2).to(y).contiguous() if clean else y.clone()


def _same_shape(image: Any, y: Array) -> Array:
    # some of them drop the channel of a grey image
    return np.asarray(image, dtype=np.float64).reshape(y.shape)
