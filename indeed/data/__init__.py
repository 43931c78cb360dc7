"""Layer 2: images in, images out."""
