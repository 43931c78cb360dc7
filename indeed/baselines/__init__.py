"""What a user would pick instead: classical decompositions and denoisers, behind one interface."""

from indeed.baselines.decompositions import DECOMPOSITIONS, Parts, decompose
from indeed.baselines.denoisers import DENOISERS, denoise

__all__ = ["DECOMPOSITIONS", "DENOISERS", "Parts", "decompose", "denoise"]
