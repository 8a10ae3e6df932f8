"""The cost model behind ``docs/scale.md``: FLOPs, bytes, memory and network of encoding and training at the size of SD-1.5 and SDXL."""
