"""The study: decides what to ask the engine, never counts a cycle."""
