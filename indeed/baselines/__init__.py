"""What a user would pick instead: classical decompositions and denoisers, behind one interface."""

from indeed.baselines.classical_denoisers import DENOISERS, denoise_classically
from indeed.baselines.decompositions import DECOMPOSITIONS, Parts, decompose_classically

__all__ = ["DECOMPOSITIONS", "DENOISERS", "Parts", "decompose_classically", "denoise_classically"]
