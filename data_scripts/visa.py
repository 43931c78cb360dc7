"""VisA: 12 kinds of objects, 9621 good and 1200 defective photographs, masks, and the split of its authors."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

from indeed.data.anomaly_readers import visa_set

KINDS = "candle|capsules|cashew|chewinggum|fryum|macaroni1|macaroni2|pcb1|pcb2|pcb3|pcb4|pipe_fryum"

VISA = PublicSet(
    name="visa",
    folder="uad/visa",
    home="https://github.com/amazon-science/spot-diff",
    terms="""
    The repository: "The data is released under the CC BY 4.0 license." Cite Zou, Jeong, Pemula, Zhang and Dabeer,
    SPot-the-difference self-supervised pre-training for anomaly detection and segmentation, ECCV 2022.
    """,
    # Size and checksum as those who have the file publish them, see README.md (h).
    sources=(
        Source(
            "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            size=1_929_840_640,
            checksum="sha256:2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        ),
    ),
    counts={
        r"\w+/Data/Images/Normal/\w+\.JPG": 9621,
        r"\w+/Data/Images/Anomaly/\w+\.JPG": 1200,
        r"\w+/Data/Masks/Anomaly/\w+\.png": 1200,
    },
    members=rf"(?:\./)?((?:{KINDS})/Data/(?:Images|Masks)/(?:Normal|Anomaly)/\w+\.(?:JPG|png)|split_csv/1cls\.csv)",
    accepts=visa_set,
)

if __name__ == "__main__":
    sys.exit(command(VISA))
