"""``singdiffusion train`` with FSDP2 on CPU processes: accelerate allows it on GPUs only, so the group is declared one of GPUs."""

import os
import sys

from accelerate.state import DistributedType, PartialState

os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
_init = PartialState.__init__


def _as_gpus(self, *args, **kwargs):
    _init(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = _as_gpus

from singdiffusion.cli import main  # noqa: E402

sys.argv[0] = "singdiffusion"
main()
