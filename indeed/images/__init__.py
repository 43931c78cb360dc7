"""Pure operations on image tensors: noise, overlapped tiles, metrics."""
