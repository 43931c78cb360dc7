"""SIDD small: 160 pairs of smartphone photographs in sRGB (`*_NOISY_SRGB_*.PNG`, `*_GT_SRGB_*.PNG`)."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

SIDD_SMALL = PublicSet(
    name="sidd_small",
    home="https://www.eecs.yorku.ca/~kamel/sidd/dataset.php",
    terms="""
    The download page states the MIT License, as others who read it report; read it there before you use the images.
    Cite Abdelhamed, Lin and Brown, A high-quality denoising dataset for smartphone cameras, CVPR 2018.
    """,
    sources=(
        Source(
            "http://130.63.97.225/share/SIDD_Small_sRGB_Only.zip",  # York University; no https, so the checksum decides
            size=6_615_978_508,
            checksum="sha1:5a4aa6aa7abcf7b0b56c88ad578fea9a4ff77935",
        ),
    ),
    counts={r".*\.PNG": 320},
    members=r"SIDD_Small_sRGB_Only/Data/([^/]+)/((?:NOISY|GT)_SRGB_\d{3}\.PNG)",
    lands=r"\1_\2",
)

if __name__ == "__main__":
    sys.exit(command(SIDD_SMALL))
