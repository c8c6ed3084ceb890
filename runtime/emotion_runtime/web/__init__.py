"""The web page of a run and its interface for programs: `--serve HOST:PORT`, extra `web`."""
