"""Atari games: recorded with an emulator, objects from its memory, motion from the pixels."""
