"""``indeed denoise``: images without their noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indeed.cli.adapt import Adaptation, report_line
from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithNoise
from indeed.cli.paths import InputFiles, Out, check_apart, named_images, prepare, targets
from indeed.cli.planes import opened
from indeed.data.image_files import write_image
from indeed.data.picture import Picture
from indeed.data.stacks import TiffStack, write_stack
from indeed.learning.adaptation.config import adaptation_preset


@dataclass(frozen=True, kw_only=True)
class Denoise(WithNoise):
    """Denoise images: write L + S in the depth of the input, its alpha channel put back.

    A stack in a TIFF file is denoised plane by plane, and stays a stack.
    """

    images: InputFiles
    """PNG, JPEG, TIFF, BMP or WebP files, 8 or 16 bit (TIFF also float), or folders of them."""
    out: Out
    """File for one image, folder for several, which gets the folders of the images too."""
    page: int | None = None
    """The one plane of stacks to denoise, from 1 on."""
    adapt: bool = False
    """Adapt the network to the noise of each image first, as the command adapt does by default."""

    def run(self, faults: Faults) -> None:
        """Denoise each image; with adaptation, by a network of its own."""
        models = Models(self)
        adaptation = Adaptation(adaptation_preset("replay"), self.seed) if self.adapt else None
        images = named_images(self.images, self.out)
        written = targets(images, self.out)
        check_apart([*images, *([self.checkpoint] if self.checkpoint else [])], written.values())
        reader = self.reader(images)

        def denoised(picture: Picture, name: str) -> Picture:
            model = models(picture.channels)
            if adaptation:
                ((model, row),) = adaptation(model, [self.observed(picture)], name)
                print(report_line(name, row), flush=True)
            return self.denoised(model, picture, name)

        def planes(stack: TiffStack, name: Path) -> Iterator[Picture]:
            for index in range(len(stack)):
                yield denoised(reader.noted(stack[index]), f"{name} {index + 1}/{len(stack)}")

        for path, name in images.items():
            with faults.reported(path), opened(path, reader, self.page) as given:
                if isinstance(given, Picture):
                    prepare(written[path], given, self.out)
                    write_image(written[path], denoised(given, str(name)))
                else:
                    prepare(written[path], given[0], self.out)
                    write_stack(written[path], given, planes(given, name))
        reader.tell()
