"""CBSD68 and BSD68: 68 scenes of 481 x 321 pixels in colour, and the same in grey; one archive has both."""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

HERE = Path(__file__).parent
HOME = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/"
TERMS = """
    The Berkeley page: free to download for non-commercial research and educational purposes. Cite Martin et al.,
    A database of human segmented natural images, ICCV 2001, and for the choice of the 68 Roth and Black, CVPR 2005.
    """
FFDNET = Source(
    "https://github.com/cszn/FFDNet/archive/e787f46df2f374ff3591186706229cb9a0591fea.zip", name="FFDNet-e787f46.zip"
)
SIZES = frozenset({(481, 321), (321, 481)})

CBSD68 = PublicSet(
    name="cbsd68",
    home=HOME,
    terms=TERMS,
    sources=(FFDNET,),
    files=read_sha256(HERE / "sha256" / "cbsd68.csv"),
    sizes=SIZES,
    members=r"[^/]+/testsets/CBSD68/(\d+\.png)",
)
BSD68 = PublicSet(
    name="bsd68",
    home=HOME,
    terms=TERMS,
    sources=(FFDNET,),
    files=read_sha256(HERE / "sha256" / "bsd68.csv"),
    sizes=SIZES,
    members=r"[^/]+/testsets/BSD68/(test\d+\.png)",
)

if __name__ == "__main__":
    sys.exit(command(CBSD68, BSD68))
