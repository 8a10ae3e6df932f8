"""The cost model: docs/scale.md is what its command writes from the counts and the stored measurements."""

import pytest

from benchmarks.scale.__main__ import MEASURED, PAGE
from benchmarks.scale.counts import counted, published_share
from benchmarks.scale.page import page
from singdiffusion.reading import read_json


@pytest.mark.slow
def test_the_page_has_the_figures_of_the_command():
    flops = counted()
    assert PAGE.read_text() == page({"flops": flops, "published_share": published_share(flops)} | read_json(MEASURED))
