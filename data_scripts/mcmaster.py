"""McMaster: 18 colour images of 500 x 500 pixels, made to judge demosaicking."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

MCMASTER = PublicSet(
    name="mcmaster",
    home="https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
    terms="""
    No licence is known to us. Cite Zhang, Wu, Buades and Li, Color demosaicking by local directional interpolation and
    nonlocal adaptive thresholding, Journal of Electronic Imaging 20(2), 2011. The archive has a password, which its
    page publishes.
    """,
    sources=(
        Source(
            "https://www4.comp.polyu.edu.hk/~cslzhang/DATA/McM.zip",
            size=11_411_330,
            checksum="sha256:6c3eaba44ab5801f155cc470d12125d5fe18f6f2fbaad363353e5e92667023c1",
        ),
    ),
    files=read_sha256(Path(__file__).parent / "sha256" / "mcmaster.csv"),
    sizes=frozenset({(500, 500)}),
    members=r"McM/(\d+\.tif)",
    password="McM_CDM",
)

if __name__ == "__main__":
    sys.exit(command(MCMASTER))
