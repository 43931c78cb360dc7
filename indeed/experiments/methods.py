"""The methods and data sets of the tables by name: their titles in figures, and what the paper's tables call them."""

from collections.abc import Mapping
from typing import NamedTuple

from indeed.images.shifts import SHIFTS


class Named(NamedTuple):
    """What a method or a data set is called."""

    title: str
    """In figures."""
    paper: str | None = None
    """In the paper's tables, where it is there."""
    kind: str = ""
    """Which methods share a colour, where that is not each alone."""


def titles(named: Mapping[str, Named]) -> dict[str, str]:
    """Titles in figures, by name."""
    return {name: of.title for name, of in named.items()}


TABLE4_METHODS = {
    "noisy": Named("noisy"),
    "tv": Named("total variation"),
    "nlm": Named("non-local means"),
    "wavelet": Named("wavelets"),
    "bm3d": Named("BM3D", "CBM3D"),
    "dncnn": Named("DnCNN, 30 min", "CDnCNN"),
    "indeed_budget": Named("InDeed, 30 min"),
    "indeed": Named("InDeed", "InDeed"),
}
"""Table 4; the paper's names are those of its colour numbers.

``dncnn`` and ``indeed_budget`` are the two of :mod:`indeed.recipes.equal_budget`, ``indeed`` is the shipped model.
"""

_PLAIN, _PAPER, _CONTROL, _MATCHED = "not adapted", "the paper's terms", "controls", "matched replay"
TABLE5_METHODS = {
    "noisy": Named("noisy input", None, _PLAIN),
    "tv": Named("total variation", None, _PLAIN),
    "bm3d": Named("BM3D", None, _PLAIN),
    "indeed": Named("InDeed, not adapted", "InDeed", _PLAIN),
    "ag_s": Named("AG (S)", "InDeedAG", _PAPER),
    "ag_l": Named("AG (L)", "InDeedAG-L", _PAPER),
    "ag_ls": Named("AG (LS)", "InDeedAG-LS", _PAPER),
    "oag_reset": Named("OAG, reset", "InDeedOAG", _PAPER),
    "oag_carried": Named("OAG, carried over", "InDeedOAG", _PAPER),
    "oag_fast": Named("OAG, default's rate", None, _PAPER),
    "gains": Named("gains only", None, _CONTROL),
    "neighbor2neighbor": Named("Neighbor2Neighbor", None, _CONTROL),
    "noise2self": Named("Noise2Self", None, _CONTROL),
    "replay_white": Named("replay, white noise", None, _CONTROL),
    "replay_carried": Named("matched replay, carried over", None, _MATCHED),
    "replay": Named("matched replay (default)", None, _MATCHED),
}
"""Table 5; the paper's text does not say whether OAG resets the network.

``noisy`` is the observation, ``indeed`` the network as it is. The classical methods are told the level of the noise
that is estimated from the image. ``ag``: the paper's terms over all images of a cell. ``oag``: over one image, from the
original weights or from those of the image before; ``oag_fast`` has the steps and rate of the default. Controls, as
long as the default: ``gains`` alone, on the paper's terms, at TENT's rate; self-supervised fine-tuning;
``replay_white`` of the training's noise. ``replay`` is the default: of photographs with noise of the law that is
estimated from the image, where :func:`indeed.learning.adaptation.noise_replay.law_to_replay` relies on it.
"""
ORACLE = "oracle"
"""The default of Table 5, stopped at the best of the steps looked at by the clean image: no method, a yardstick."""
TABLE5_SUMMARISED = TABLE5_METHODS | {ORACLE: Named("default, best step (oracle)", None, _MATCHED)}
"""The methods of Table 5, and the yardstick."""

_TITLES = {"jpeg": "JPEG", "poisson_gaussian": "Poisson-Gaussian"}
TABLE5_SETS = {
    "polyu": Named("PolyU", "PolyU"),
    "polyu_white": Named("PolyU references, white"),
    "sidd_small": Named("SIDD", "SIDD"),
} | {name: Named(_TITLES.get(name, name.replace("_", " "))) for name in SHIFTS}
"""Data sets of Table 5. ``polyu_white`` are the clean references of PolyU with the noise of the shift ``white``: the
in-distribution reference of Fig. 5 and 6."""

TABLE6_METHODS = {
    "mean": Named("mean image"),
    "pca": Named("PCA"),
    "rpca": Named("robust PCA"),
    "autoencoder": Named("autoencoder"),
    "draem": Named("DRAEM", "DRAEM"),
    "indeed_separate": Named("InDeed, this set alone"),
    "indeed": Named("InDeed", "InDeed"),
}
"""Tables 6 and 7. ``indeed_separate`` is an InDeed for one of the unified sets alone, beside that of all."""

ADAPTED_METHODS = {
    "indeed": Named("InDeed, not adapted", "InDeed"),
    "ag_s": Named("AG", "InDeedAG"),
    "oag_s": Named("OAG", "InDeedOAG"),
    "ag_s_fast": Named("AG, rate of replay"),
    "replay_training": Named("replay, noise of the training"),
    "replay": Named("matched replay"),
}
"""The adaptations of the detectors.

``ag_s``: the paper's terms for f_S over all images of a set, at its rate. ``oag_s``: over one image, from the original
weights each time. ``ag_s_fast``: as ``ag_s``, at the rate of replay. ``replay``: one adaptation to the set, on the
detector's own task over the good images of the set, with noise of the law that is estimated from the test images.
``replay_training``: the same with the noise of the training, a control.
"""
CHECKED = "checked"
"""The default: ``replay``, whose weights are kept only if they have the higher average precision on synthetic anomalies
over good images held out, with noise of the estimated law. A row of it is one of ``replay`` or of ``indeed``."""
ADAPTED_SUMMARISED = ADAPTED_METHODS | {CHECKED: Named("matched replay, checked (default)")}
"""The adaptations of the detectors, and the default."""
