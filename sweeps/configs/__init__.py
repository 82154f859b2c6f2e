"""One TOML file, one question; the comment on top asks it."""
