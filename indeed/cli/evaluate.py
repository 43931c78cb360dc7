"""``indeed evaluate``: how well a network denoises clean images to which noise is added."""

import csv
from dataclasses import dataclass
from pathlib import Path

from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithModel, bar_label
from indeed.cli.paths import InputFile, images_in
from indeed.data.image_files import read_image
from indeed.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Evaluate(WithModel):
    """Add noise to each clean image of a folder, denoise it, and report PSNR and SSIM for each and their means."""

    folder: InputFile
    """Folder of clean PNG, JPEG or TIFF images."""
    sigma: float = 25.0
    """Standard deviation of the noise, 0..255."""
    csv: Path | None = None
    """Table to write, one row for each image."""

    def run(self, faults: Faults) -> None:
        """Print a line for each image and their means, and write the table if it is asked for."""
        from indeed.networks.figures_of_merit import FiguresOfMerit, figures_of_merit, mean_figures

        def line(name: str, merits: FiguresOfMerit) -> str:
            return (
                f"{name:<24} {merits.psnr_noisy:8.2f} {merits.psnr_low_rank:8.2f} {merits.psnr:8.2f} {merits.ssim:8.4f}"
            )

        images = images_in(self.folder)
        if self.csv and not self.csv.parent.is_dir():
            raise ValueError(f"{self.csv}: got a name in no folder, expected an existing one")
        models = Models(self)
        rows: dict[str, FiguresOfMerit] = {}
        print(f"{'image':<24} {'noisy':>8} {'L':>8} {'L + S':>8} {'SSIM':>8}")
        for path in images:
            with faults.reported(path):
                clean = read_image(path).tensor()
                rows[path.name] = figures_of_merit(
                    models(clean.shape[0]),
                    clean,
                    self.sigma,
                    self.seed,
                    overlap=self.overlap,
                    progress=bar_label(path.name),
                )
                print(line(path.name, rows[path.name]), flush=True)
        if rows:
            print(line("mean", mean_figures(list(rows.values()))))
            if self.csv:
                with atomic_write(self.csv) as temporary, temporary.open("w", newline="") as file:
                    writer = csv.DictWriter(file, ["image", "sigma", "seed", *FiguresOfMerit._fields])
                    writer.writeheader()
                    for name, merits in rows.items():
                        given = {"image": name, "sigma": self.sigma, "seed": self.seed}
                        writer.writerow(given | merits._asdict())
