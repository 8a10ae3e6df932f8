"""Figures of the paper, to be drawn behind one's own.

[SD] Zhang, Yin, Li, Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024, arXiv 2403.08381.
"""

from __future__ import annotations

GUIDANCE = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)

# [SD]'s figure of the Pareto curves: (CLIP score, FID) by guidance scale, 30,000 COCO captions. READ OFF THE AUTHORS' PLOT: FID is
# uncertain by about 0.1, and no table of these figures was published.
PARETO: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "sd-1.5": {
        "off": (
            (28.80, 17.1), (29.68, 12.3), (30.47, 9.9), (30.80, 10.4), (30.96, 11.2), (31.07, 12.1), (31.11, 12.7), (31.17, 13.5),
        ),
        "on": (
            (29.39, 11.8), (30.09, 9.7), (30.72, 9.7), (30.96, 10.8), (31.14, 11.9), (31.21, 12.9), (31.24, 13.6), (31.31, 14.3),
        ),
    },
    "sd-2.0-base": {
        "off": (
            (29.40, 13.4), (30.19, 10.0), (30.93, 9.4), (31.24, 10.2), (31.41, 11.4), (31.50, 12.2), (31.57, 13.1), (31.61, 13.7),
        ),
        "on": (
            (29.86, 10.2), (30.52, 8.8), (31.12, 9.6), (31.39, 10.9), (31.53, 12.0), (31.62, 13.0), (31.68, 13.6), (31.73, 14.4),
        ),
    },
}  # fmt: skip
SOURCE = "read off the authors' plot (arXiv 2403.08381), about 0.1 uncertain"
