import pytest

from singdiffusion import SingDiffusion, tiny
from singdiffusion.web.studio import Studio, examples_of


@pytest.fixture(scope="session")
def studio():
    """The embedded model with both its modules, as ``singdiffusion serve`` has it."""
    modules = {name: SingDiffusion.from_pretrained(name) for name in ("tiny-unet", "tiny")}
    return Studio("tiny", tiny.load_pipeline(), modules, examples=examples_of("tiny"))
