"""DIV2K: 800 training and 100 validation photographs of about 2040 x 1400 pixels, high resolution only."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

HOME = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
TERMS = """
    The page: "this dataset is made available for academic research purpose only. All the images are collected from the
    Internet, and the copyright belongs to the original owners." Cite Agustsson and Timofte, NTIRE 2017 challenge on
    single image super-resolution: dataset and study, CVPR Workshops 2017.
    """

# Sizes and checksums as TensorFlow Datasets publishes them: tensorflow_datasets/datasets/div2k/checksums.tsv
DIV2K = PublicSet(
    name="div2k",
    home=HOME,
    terms=TERMS,
    sources=(
        Source(
            f"{HOME}DIV2K_train_HR.zip",
            size=3_530_603_713,
            checksum="sha256:9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
        ),
    ),
    files={f"{number:04}.png": None for number in range(1, 801)},
    members=r"DIV2K_train_HR/(\d{4}\.png)",
)
DIV2K_VALID = PublicSet(
    name="div2k_valid",
    home=HOME,
    terms=TERMS,
    sources=(
        Source(
            f"{HOME}DIV2K_valid_HR.zip",
            size=448_993_893,
            checksum="sha256:20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
        ),
    ),
    files={f"{number:04}.png": None for number in range(801, 901)},
    members=r"DIV2K_valid_HR/(\d{4}\.png)",
)

if __name__ == "__main__":
    sys.exit(command(DIV2K, DIV2K_VALID))
