"""TensorRT at run time: the GPU, the cache of engines, one engine, and the builder in another process."""
