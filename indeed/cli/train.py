"""``indeed train``: a denoiser, or a detector of anomalies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indeed.cli.faults import Faults
from indeed.cli.models import device_named
from indeed.cli.paths import Out, check_apart


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network and write its checkpoint; state and log stay in a folder beside it.

    A blind Gaussian denoiser, or with --task uad a detector of anomalies from good images alone.

    Under torchrun the processes share each batch: torchrun --standalone --nproc-per-node 8 -m indeed.cli train ... On
    SIGTERM the run is saved and ends with code 143; --resume goes on, also with another number of processes.
    """

    out: Out
    """Checkpoint to write, ending in .safetensors."""
    task: Literal["denoise", "uad"] = "denoise"
    """denoise; or uad, unsupervised anomaly detection."""
    preset: Literal["tiny", "cpu", "cpu-long", "paper"] = "cpu"
    """tiny: seconds, for tests; cpu: about an hour on one core; cpu-long: some five hours, to denoise; paper: section
    4.1 of the paper."""
    channels: Literal[1, 3] = 1
    """1 for grey, 3 for colour."""
    data: str | None = None
    """To denoise: bsd (Berkeley images under INDEED_DATA), embedded (installed photographs), bsd+embedded (the former
    and some of the latter), auto (default: what is there), or a folder. For uad: a folder of photographs of good parts,
    or with them in train/good or CATEGORY/train/good; a set under INDEED_DATA, or several joined by +; textures
    (default: installed photographs)."""
    white: int | Literal["auto"] | None = None
    """Value of white in 16-bit files of a folder, such as 4095 where a camera of 12 bits wrote them; auto: the smallest
    2^n - 1 that holds all their values. Default: as a file says, else 65535. A detector keeps it."""
    steps: int | None = None
    """Length of the run; default: the preset's."""
    stop_at: int | None = None
    """Step to end at while the learning rate is still high, for a checkpoint that another run will --start from."""
    patch_size: int | None = None
    """Side in pixels of the tiles that are trained on; default: the preset's."""
    max_rank: int | None = None
    """With --task uad: largest rank of the low-rank part; the lower it is, the less of a defect can hide there.
    Default: the preset's, for textures 8."""
    halvings: int | None = None
    """With --task uad: f_S is a U-Net that halves its maps so often, for surfaces with fine detail everywhere, such as
    fabric or stone. Default: 0, a ResNet; for textures 3."""
    learning_rate: float | None = None
    """Largest learning rate; default: the preset's."""
    start: Path | None = None
    """Checkpoint whose weights the run starts from, such as one trained on smaller patches."""
    batch_size: int | None = None
    """Samples of a step, over all processes; default: the preset's."""
    accumulate: int = 1
    """Micro-batches into which each process divides its part of the batch, to need less memory."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Type the network computes in; default: the preset's. On a GPU float32 means TF32 in convolutions."""
    compile: bool = False
    """Compile the network first; pays on GPUs and for large networks."""
    seed: int = 0
    """Seed of the initial weights, the patches and the noise."""
    resume: bool = False
    """Continue the run whose state is in the folder."""
    device: str = "auto"
    """Where the network is trained: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""

    def run(self, faults: Faults) -> None:
        """Train, and write the checkpoint."""
        from indeed.recipes.denoiser import train_denoiser
        from indeed.recipes.detector import train_detector
        from indeed.recipes.run import Run

        if self.out.is_dir():
            raise ValueError(f"{self.out}: is a folder, expected a file that ends in .safetensors")
        folder = self.out.with_suffix("")
        data = Path(self.data) if self.data else None
        images = [path for path in data.rglob("*") if path.is_file()] if data and data.is_dir() else []
        written = [self.out, *(folder / name for name in ("state.pt", "log.csv", "config.json", "started.json"))]
        check_apart([*(path for path in images if path not in written), *filter(None, [self.start])], written)
        asked = vars(self) | {"device": str(device_named(self.device))}
        run = Run(**{name: value for name, value in asked.items() if name != "task"})
        (train_denoiser if self.task == "denoise" else train_detector)(run)
