"""Figures: what is drawn is decided once (`figure`, `contents`), and drawn by matplotlib for papers or by plotly for the screen."""
