"""The look of every page that a report writes; one place for it."""

from __future__ import annotations

from ... import plots

# CSS class -> (light, dark) colour of what was painted without, with the first module, and with further remedies
COLORS = dict(
    zip(
        ("off", "on", *(f"series-{i}" for i in range(2, len(plots.SERIES)))),
        (both for name, both in plots.COLORS.items() if name not in ("ink", "paper")),
        strict=True,
    )
)


def series(index: int) -> str:
    """Return the CSS class of the index-th set of pictures on a page: ``off``, ``on``, ``series-2`` and so on."""
    names = list(COLORS)
    return names[index] if index < len(names) else names[2 + (index - 2) % (len(names) - 2)]


def _colors() -> str:
    """The colours as CSS variables, ``--off`` and so on, and the shapes of a histogram that use them."""
    light, dark = (" ".join(f"--{name}: {both[which]};" for name, both in COLORS.items()) for which in (0, 1))
    shapes = " ".join(f".histogram .{name} {{ fill: var(--{name}); stroke: var(--{name}) }}" for name in COLORS)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{shapes}\n"


_PAGE = """:root { color-scheme: light dark; --ink: #1c1917; --soft: #57534e; --paper: #fafaf9; --card: #ffffff; --line: #e7e5e4;
  --real: #57606a }
@media (prefers-color-scheme: dark) { :root { --ink: #f5f5f4; --soft: #a8a29e; --paper: #171615; --card: #211f1e;
  --line: #3a3735; --real: #b3bac3 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 40px 20px 64px }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 12px; letter-spacing: -.02em }
h2 { font-size: 1.15rem; margin: 0 0 14px }
p { max-width: 72ch; margin: 0 0 12px }
.scroll { overflow-x: auto; margin: 0 0 24px } .title { color: var(--soft); font-size: .92rem; margin: 24px 0 8px; max-width: none }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 9px 14px; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child { text-align: left; font-weight: 500; white-space: normal; min-width: 200px } td:last-child { white-space: normal }
thead th { font-size: .86rem; font-weight: 600; color: var(--soft); white-space: normal; vertical-align: bottom }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 22px; margin: 22px 0 }
figure { margin: 0 }
.row { display: grid; grid-template-columns: 148px 1fr; gap: 14px; align-items: center; margin: 0 0 10px }
.row figcaption { color: var(--soft); font-size: .86rem; overflow-wrap: anywhere }
.pictures { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 6px }
.pictures img { width: 100%; height: auto; display: block; border-radius: 5px; outline: 1px solid var(--line) }
.captions { align-items: end } .captions span { font-size: .72rem; line-height: 1.25; color: var(--soft); overflow-wrap: anywhere }
.plot svg { width: 100%; height: auto; max-width: 560px; display: block; margin: 0 auto }
.histogram { width: 100%; max-width: 760px; height: auto; margin: 20px auto 0; display: block }
.histogram text { fill: var(--soft); font-size: 12px } .histogram .axis { stroke: var(--line) }
.histogram polygon { fill-opacity: .28; stroke-width: 1.6 } .histogram.many polygon { fill-opacity: 0 }
.histogram .real { stroke: var(--real); stroke-width: 2; stroke-dasharray: 5 4 }
.key { display: flex; flex-wrap: wrap; gap: 6px 20px; max-width: none; font-size: .9rem; color: var(--soft) }
.key span::before { content: ""; display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; background: var(--c) }
.notes { margin: 0; padding-left: 20px } .notes li { margin: 0 0 6px; max-width: 76ch }
details { margin: 26px 0 0; color: var(--soft) } summary { cursor: pointer } pre { overflow-x: auto; font-size: .8rem }
code { font-size: .86em; overflow-wrap: anywhere }
@media (max-width: 600px) { main { padding: 26px 14px 48px } section { padding: 16px }
  th, td { padding: 8px 6px; font-size: .8rem } th { white-space: normal }
  th:first-child { min-width: 96px; position: sticky; left: 0; background: var(--paper) }
  .row { grid-template-columns: 1fr; gap: 4px } .pictures { grid-template-columns: repeat(4, 1fr) }
  .histogram text { font-size: 21px } }
"""

STYLE = plots.css() + _colors() + _PAGE
