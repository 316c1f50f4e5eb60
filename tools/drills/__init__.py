"""Drills: a live lab, load, something that is done to it, and verdicts."""
