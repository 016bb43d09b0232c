"""What is done with a whole store or a whole tree of files: save, restore, list, check."""
