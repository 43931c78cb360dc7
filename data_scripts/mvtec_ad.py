"""MVTec AD: 15 kinds of objects and surfaces, 3629 good images to train on, 1725 to test on, masks of the defects."""

import sys

from fetching.download import Source
from fetching.public_sets import PublicSet, command

from indeed.data.anomaly_readers import folder_set

HOME = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
KINDS = "bottle|cable|capsule|carpet|grid|hazelnut|leather|metal_nut|pill|screw|tile|toothbrush|transistor|wood|zipper"

MVTEC_AD = PublicSet(
    name="mvtec_ad",
    folder="uad/mvtec_ad",
    home=HOME,
    terms="""
    CC BY-NC-SA 4.0, copyright 2019 MVTec Software GmbH: not for commercial use. Cite Bergmann, Fauser, Sattlegger and
    Steger, MVTec AD, a comprehensive real-world dataset for unsupervised anomaly detection, CVPR 2019.
    """,
    # Behind a form; size and checksum as those who have the file publish them, see README.md (g).
    login=True,
    sources=(
        Source(
            HOME,
            size=5_264_982_680,
            checksum="sha256:cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
            name="mvtec_anomaly_detection.tar.xz",
        ),
    ),
    counts={
        r"\w+/train/good/\d+\.png": 3629,
        r"\w+/test/good/\d+\.png": 467,
        r"\w+/test/(?!good/)\w+/\d+\.png": 1258,
        r"\w+/ground_truth/\w+/\d+_mask\.png": 1258,
    },
    members=rf"(?:\./)?((?:{KINDS})/(?:train|test|ground_truth)/\w+/\w+\.png|(?:\w+/)?(?:license|readme)\.txt)",
    accepts=folder_set,
)

if __name__ == "__main__":
    sys.exit(command(MVTEC_AD))
