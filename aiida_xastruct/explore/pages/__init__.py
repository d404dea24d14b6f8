"""The explorer's pages, each with `register`."""
