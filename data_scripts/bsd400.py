"""BSD400: 400 grey training images of 180 x 180 pixels, cut from Berkeley photographs by the authors of DnCNN."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

BSD400 = PublicSet(
    name="bsd400_gray",
    home="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
    terms="""
    The Berkeley page: free to download for non-commercial research and educational purposes. The repository that holds
    the crops is under GPL-3.0 (its code). Cite Zhang et al., Beyond a Gaussian denoiser, IEEE Transactions on Image
    Processing, 2017.
    """,
    sources=(
        Source(
            "https://github.com/SaoYan/DnCNN-PyTorch/archive/6b0804951484eadb7f1ea24e8e5c9ede9bea485b.zip",
            name="DnCNN-PyTorch-6b08049.zip",
        ),
    ),
    files=read_sha256(Path(__file__).parent / "sha256" / "bsd400_gray.csv"),
    sizes=frozenset({(180, 180)}),
    members=r"[^/]+/data/train/(test_\d{3}\.png)",
)

if __name__ == "__main__":
    sys.exit(command(BSD400))
