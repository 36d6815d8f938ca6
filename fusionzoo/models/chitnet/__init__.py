"""CHITNet: complementary to harmonious information transfer network."""
