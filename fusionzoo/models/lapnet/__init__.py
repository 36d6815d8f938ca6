"""LapNet: a Laplacian pyramid whose selection is learned by one small block for all levels."""
