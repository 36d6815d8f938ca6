"""DIDFuse: deep image decomposition for infrared and visible image fusion."""
