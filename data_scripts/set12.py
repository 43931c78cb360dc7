"""Set12: 12 classic grey images, seven of 256 x 256 and five of 512 x 512 pixels."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

SET12 = PublicSet(
    name="set12",
    home="https://github.com/cszn/FFDNet",
    terms="""
    Classic test images; no licence is stated where they are distributed. Cite Zhang et al., Beyond a Gaussian denoiser,
    IEEE Transactions on Image Processing, 2017, for the choice of the 12.
    """,
    sources=(
        Source(
            "https://github.com/cszn/FFDNet/archive/e787f46df2f374ff3591186706229cb9a0591fea.zip",
            name="FFDNet-e787f46.zip",
        ),
    ),
    files=read_sha256(Path(__file__).parent / "sha256" / "set12.csv"),
    sizes=frozenset({(256, 256), (512, 512)}),
    members=r"[^/]+/testsets/Set12/(\d\d\.png)",
)

if __name__ == "__main__":
    sys.exit(command(SET12))
