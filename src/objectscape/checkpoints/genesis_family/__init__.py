"""One module per family of the GENESIS code base; `objectscape.checkpoints.genesis` chooses between them."""
