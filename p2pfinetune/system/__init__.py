"""What the library asks of the operating system: files that last, names of paths, streams, another interpreter."""
