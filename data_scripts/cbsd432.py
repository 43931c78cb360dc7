"""CBSD432: the 432 photographs of BSDS500 that are not in CBSD68, as the JPEG files that Berkeley distributes."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

CBSD432 = PublicSet(
    name="cbsd432",
    home="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
    terms="""
    The Berkeley page: free to download for non-commercial research and educational purposes. Cite Arbelaez, Maire,
    Fowlkes and Malik, Contour detection and hierarchical image segmentation, IEEE TPAMI 33(5):898-916, 2011.
    """,
    sources=(
        Source(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
            size=70_763_455,
            checksum="sha256:97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",
        ),
    ),
    files=read_sha256(Path(__file__).parent / "sha256" / "cbsd432.csv"),  # which leaves out CBSD68
    sizes=frozenset({(481, 321), (321, 481)}),
    members=r"BSR/BSDS500/data/images/(?:train|val|test)/(\d+\.jpg)",
)

if __name__ == "__main__":
    sys.exit(command(CBSD432))
