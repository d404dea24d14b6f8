"""Parts of the demo: the profile it works in, the measured scans, and what it shows."""
