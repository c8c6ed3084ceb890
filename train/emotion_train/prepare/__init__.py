"""From videos and captions to shards of clips (paper Sec. 3.1)."""
