"""``indeed info``: how a checkpoint was made."""

import json
from dataclasses import dataclass

from indeed.cli.faults import Faults
from indeed.cli.paths import InputFile, check_file
from indeed.networks.checkpoint import read_record


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say how a checkpoint was made: network, preset, seed, data, commit, training record."""

    checkpoint: InputFile
    """Checkpoint file."""

    def run(self, faults: Faults) -> None:
        """Print the record as JSON."""
        check_file(self.checkpoint)
        print(json.dumps(read_record(self.checkpoint), indent=2))
