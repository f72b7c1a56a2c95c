"""Other engines' exports read as Radbridge files. Nothing of an export is run; what is not understood is told."""
