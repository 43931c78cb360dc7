"""Severstal: 12568 photographs of steel sheets, 1600 x 256 pixels, four classes of defects in 6666 of them."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

from indeed.data.anomaly_readers import severstal_set

HOME = "https://www.kaggle.com/c/severstal-steel-defect-detection/data"

SEVERSTAL = PublicSet(
    name="severstal",
    folder="uad/severstal",
    home=HOME,
    terms="""
    The rules of the competition, which its page shows and asks you to accept; we have not read them. Cite Severstal:
    Steel defect detection, Kaggle, 2019. The images for testing have no public labels and are left out.
    """,
    login=True,
    sources=(Source(HOME, name="severstal-steel-defect-detection.zip"),),
    counts={r"train_images/\w+\.jpg": 12_568, r"train\.csv": 1},
    sizes=frozenset({(1600, 256)}),
    members=r"(train_images/\w+\.jpg|train\.csv)",
    accepts=severstal_set,
)

if __name__ == "__main__":
    sys.exit(command(SEVERSTAL))
