"""Kodak24: 24 colour photographs of 768 x 512 pixels, and with --crop their 500 x 500 centres.

Some papers (FFDNet, VIRNet) call the centres "Kodak24"; say which one a number belongs to.
"""

import sys
from pathlib import Path

from fetching.checksums import read_sha256
from fetching.download import Source
from fetching.public_sets import PublicSet, command

FILES = read_sha256(Path(__file__).parent / "sha256" / "kodak24.csv")

KODAK24 = PublicSet(
    name="kodak24",
    home="https://r0k.us/graphics/kodak/",
    terms="""
    The page says of the images: "It is my understanding they have been released by the Eastman Kodak Company for
    unrestricted usage."
    """,
    sources=tuple(
        Source(f"https://r0k.us/graphics/kodak/kodak/{name}", checksum=f"sha256:{value}")
        for name, value in FILES.items()
    ),
    files=FILES,
    sizes=frozenset({(768, 512), (512, 768)}),
    crop=500,
)

if __name__ == "__main__":
    sys.exit(command(KODAK24))
