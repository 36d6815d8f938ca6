"""SMFNet: a semantic-aware and multi-guided network for infrared-visible image fusion."""
