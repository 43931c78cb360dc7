"""``indeed evaluate``: how well a network denoises clean images to which noise is added."""

from dataclasses import dataclass
from pathlib import Path

from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithModel, bar_label, denoisers
from indeed.cli.paths import InputFile, check_apart, check_file, images_in
from indeed.data.folders import shown
from indeed.tables import ResumableTable, data_hash


@dataclass(frozen=True, kw_only=True)
class Evaluate(WithModel):
    """Add noise to each clean image of a folder, denoise it, and report PSNR and SSIM for each and their means."""

    folder: InputFile
    """Folder of clean PNG, JPEG, TIFF, BMP or WebP images, searched with the folders inside it."""
    sigma: float = 25.0
    """Standard deviation of the noise, 0..255."""
    csv: Path | None = None
    """Table to write, one row for each image. A run that was stopped goes on: what the table has from the same image,
    settings and checkpoint is not computed again."""

    def run(self, faults: Faults) -> None:
        """Print a line for each image and their means, and write the table if it is asked for."""
        from indeed.networks.figures_of_merit import FiguresOfMerit, figures_of_merit, mean_figures

        def line(name: str, merits: FiguresOfMerit) -> str:
            return (
                f"{shown(name):<24} {merits.psnr_noisy:8.2f} {merits.psnr_low_rank:8.2f} {merits.psnr:8.2f}"
                f" {merits.ssim:8.4f}"
            )

        check_file(self.folder)
        images = images_in(self.folder, deep=True)
        table = None
        if self.csv:
            if not self.csv.parent.is_dir():
                raise ValueError(f"{self.csv}: got a name in no folder, expected an existing one")
            if self.csv.is_dir():
                raise ValueError(f"{self.csv}: is a folder, expected a file")
            check_apart([*images, *denoisers(self.checkpoint)], [self.csv])
            columns = {"sigma", "seed", *FiguresOfMerit._fields}
            made_by = data_hash(denoisers(self.checkpoint))
            table = ResumableTable(self.csv, made_by, columns, by="name", file="image", content="data_hash")
        models = Models(self)
        reader = self.reader(images)
        settings = {
            "sigma": self.sigma,
            "seed": self.seed,
            "overlap": self.overlap,
        } | reader.settings
        rows: list[FiguresOfMerit] = []
        print(f"{'image':<24} {'noisy':>8} {'L':>8} {'L + S':>8} {'SSIM':>8}")
        for path in images:
            with faults.reported(path):
                name = str(path.relative_to(self.folder))
                found = table.find(path, name, **settings) if table else None
                if found:
                    merits = FiguresOfMerit(*(float(found[field]) for field in FiguresOfMerit._fields))
                else:
                    picture = reader(path)
                    clean = picture.tensor()
                    merits = figures_of_merit(
                        models(clean.shape[0]),
                        clean,
                        self.sigma,
                        self.seed,
                        overlap=self.overlap,
                        progress=bar_label(name),
                    )
                    if table:
                        table.put(path, name, **merits._asdict(), white=picture.white, **settings)
                rows.append(merits)
                print(line(name, merits), flush=True)
        if rows:
            print(line("mean", mean_figures(rows)))
        reader.tell()
