"""What the first step, training and encoding cost on a GPU, measured on networks of full size with random weights.

    python -m benchmarks.gpu --json build/gpu.json                        # measure; ten minutes on one NVIDIA H200
    python -m benchmarks.gpu --small --json build/gpu-small.json          # the same code on tiny networks on a CPU, a minute: a test
    python -m benchmarks.gpu --write docs/gpu.json --out docs/gpu.md      # write the page from the figures

A full run needs one NVIDIA GPU with 80 GB of memory or more, some 32 GB of the host's memory and 4 GB of disk (both estimated), and no
network. Batches that do not fit into the GPU's memory are replaced by smaller ones: training SD-1.5 in batches of 64 takes 89 GiB.
``--sections`` measures some sections only, and ``--add NOTE`` adds them to the figures of an earlier run on the same kind of card.

Each section measures by itself: a row that fails records its error, and the others still run. The JSON file is written again after every
row. Times are those of the host's clock between two synchronisations, after a warm-up. Ratios are taken within one run, and within one
round where several things run in turn.

- ``first_step``: a guided base step and the first step, from prompt embeddings to the state at the first timestep.
- ``parts``: the parts of the decoder's first step, and its kernels, copies and synchronisations.
- ``text``: the text encoders.
- ``decoder``, ``unet``: training by the project's own loop on synthetic shards; the decoder's step also without the loop.
- ``format``: training of a U-Net with channels-last weights and with the default order.
- ``encoder``: the VAE's encoder alone, and ``singdiffusion encode`` from JPEG files to a shard.
- ``picture``: a whole call of a pipeline, with SingDiffusion and without.
"""
