"""The demo: every part at once, on real shared memory, with an oracle that a lost interrupt cannot fool."""
