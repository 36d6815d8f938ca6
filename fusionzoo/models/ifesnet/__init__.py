"""IFESNet: interactive feature embedding for infrared and visible image fusion."""
