"""Where shards run: this process's threads, local processes, or a Ray cluster."""
