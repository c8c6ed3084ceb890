"""The commands of `emotion-export`, one module each."""
