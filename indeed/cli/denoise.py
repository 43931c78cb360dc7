"""``indeed denoise``: images without their noise."""

from dataclasses import dataclass

from indeed.cli.adapt import Adaptation, report_line
from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithNoise
from indeed.cli.paths import InputFiles, Out, read_for, targets
from indeed.data.image_files import write_image
from indeed.learning.adaptation.config import adaptation_preset


@dataclass(frozen=True, kw_only=True)
class Denoise(WithNoise):
    """Denoise images: write L + S in the depth of the input, its alpha channel put back."""

    images: InputFiles
    """PNG, JPEG or TIFF files, 8 or 16 bit (TIFF also float)."""
    out: Out
    """File for one image, folder for several."""
    adapt: bool = False
    """Adapt the network to the noise of each image first, as the command adapt does by default."""

    def run(self, faults: Faults) -> None:
        """Denoise each image; with adaptation, by a network of its own."""
        models = Models(self)
        adaptation = Adaptation(adaptation_preset("replay"), self.seed) if self.adapt else None
        for path, target in targets(self.images, self.out).items():
            with faults.reported(path):
                picture = read_for(path, target)
                model = models(picture.channels)
                if adaptation:
                    ((model, row),) = adaptation(model, [self.observed(picture)], path.name)
                    print(report_line(path, row), flush=True)
                write_image(target, self.denoised(model, picture, path.name))
