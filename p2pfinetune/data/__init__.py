"""From the user's files to token splits: files -> documents -> splits -> memory-mapped tokens."""
