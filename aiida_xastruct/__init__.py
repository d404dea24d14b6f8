"""XAStruct as an AiiDA plugin: crystals to X-ray absorption spectra, and back to local structure."""

__version__ = "0.1.0"
