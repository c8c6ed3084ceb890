"""Video clips stored as shards: the format, its writer, its reader, and training batches."""
