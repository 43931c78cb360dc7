"""MOOD, brain: 800 normal volumes of magnetic resonance, and toy cases with masks, how many is not known to us."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

from indeed.data.anomaly_readers import mood_set

HOME = "https://www.synapse.org/Synapse:syn21343101/wiki/599515"

MOOD = PublicSet(
    name="mood",
    folder="uad/mood",
    home=HOME,
    terms="""
    The terms are those of the challenge's page, which asks for an account; we have not read them. Cite Zimmerer et al.,
    MOOD 2020, a public benchmark for out-of-distribution detection and localization on medical images, IEEE
    Transactions on Medical Imaging 41(10), 2022. The abdominal part is not used here.
    """,
    login=True,
    sources=tuple(Source(f"{HOME}#{name}", name=name) for name in ("brain_train.zip", "brain_toy.zip")),
    counts={r"brain_train/\d+\.nii\.gz": 800},  # the toy cases: each must have its mask and its digit
    members=r"(brain_train/\d+\.nii\.gz|toy(?:_label/pixel)?/toy_\d+\.nii\.gz|toy_label/sample/toy_\d+\.nii\.gz\.txt)",
    accepts=mood_set,
)

if __name__ == "__main__":
    sys.exit(command(MOOD))
