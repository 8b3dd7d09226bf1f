"""What a base model is, how it is loaded and run, and the adapter that is trained upon it."""
