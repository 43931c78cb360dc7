"""PolyU: 100 pairs of camera noise, 512 x 512 pixels (`*_real.JPG` noisy, `*_mean.JPG` the mean of many shots)."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

POLYU = PublicSet(
    name="polyu",
    home="https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
    terms="""
    Copyright 2018, The Hong Kong Polytechnic University. License.txt: redistribution, use or modification solely for
    non-commercial purposes (teaching, academic research, public demonstrations, personal experimentation), keeping its
    notice; it lands beside the images. Cite Xu et al., Real-world noisy image denoising: a new benchmark,
    arXiv:1804.02603, 2018.
    """,
    sources=(
        Source(
            "https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset/archive/"
            "3af0f2646b267a00446fe4b7113a15e67bc80b4e.zip",
            name="PolyU-3af0f26.zip",
        ),
    ),
    files=read_sha256(Path(__file__).parent / "sha256" / "polyu.csv"),
    sizes=frozenset({(512, 512)}),
    members=r"[^/]+/(?:CroppedImages/([^/]+_(?:real|mean)\.JPG)|(License\.txt|Readme\.txt))",
    lands=r"\1\2",
)

if __name__ == "__main__":
    sys.exit(command(POLYU))
