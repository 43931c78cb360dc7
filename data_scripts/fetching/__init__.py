"""What the scripts share: downloads that are whole and verified, or not there at all."""
