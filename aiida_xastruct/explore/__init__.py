"""The explorer: a local web page on crystals, spectra, screenings and provenance, by NiceGUI (the extra `explore`)."""
