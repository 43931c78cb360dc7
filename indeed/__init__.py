"""Interpretable image deep decomposition: an image as low-rank + sparse + noise, each part with its uncertainty.

A companion of the paper InDeed (arXiv 2501.01127). The parts, from the mathematics up, are ``bayes``, ``images``,
``networks``, ``learning``, ``data``, ``baselines`` and ``experiments``; each is loaded when it is first used.

>>> import indeed
>>> indeed.bayes.__name__
'indeed.bayes'
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_PARTS = ("bayes", "images", "networks", "learning", "data", "baselines", "experiments", "record", "figures", "cli")


def __getattr__(name: str) -> ModuleType:
    """Import a part of the library when it is first asked for."""
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
