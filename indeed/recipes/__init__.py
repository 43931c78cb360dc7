"""Layer 4: how every trained network is made, as data: a run in, a checkpoint with its record out."""
