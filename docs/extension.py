"""Extend Markdown for the site (zensical.toml): formulas become MathML, plots get their dark form, captions stand below pictures.

The pages themselves stay plain Markdown: ``$...$`` and ``$$...$$``, one picture per plot, and a caption is a paragraph in italics below.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as etree
from pathlib import Path

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

HERE = Path(__file__).parent
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'  # HTML does without, and ElementTree would prefix every tag


class Formulas(Treeprocessor):
    """Replace what pymdownx.arithmatex marks, LaTeX between \\(...\\) or \\[...\\], by MathML."""

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex":
                latex = element.text or ""
                display = "block" if latex.startswith("\\[") else "inline"
                element.text = None
                element.append(mathml(latex[2:-2].strip(), display))


def mathml(latex: str, display: str) -> etree.Element:
    """Return a ``<math>`` element; display is "inline" or "block"."""
    element = etree.fromstring(convert(latex, display=display).replace(NAMESPACE, ""))
    element.set("alttext", latex)
    return element


class Plots(Treeprocessor):
    """Show ``NAME-dark.svg`` on dark pages where there is one beside ``NAME.svg``."""

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            for place, image in reversed(list(enumerate(parent))):
                name, dot, kind = image.get("src", "").rpartition(".")
                if image.tag == "img" and dot and (HERE / f"{name}-dark.{kind}").is_file():
                    other = copy.copy(image)
                    image.tail = None
                    for form, end in ((image, f".{kind}#only-light"), (other, f"-dark.{kind}#only-dark")):
                        form.set("class", "plot")
                        form.set("src", name + end)
                    parent.insert(place + 1, other)


class Captions(Treeprocessor):
    """Make a figure of a paragraph of pictures and the paragraph in italics below it."""

    def run(self, root: etree.Element) -> None:
        for pictures, caption in list(zip(list(root), list(root)[1:], strict=False)):
            if is_only(pictures, "img") and is_only(caption, "em") and len(caption) == 1:
                figure = etree.Element("figure")
                figure.tail = caption.tail
                root.insert(list(root).index(pictures), figure)
                for part, tag in ((pictures, "div"), (caption[0], "figcaption")):
                    part.tag, part.tail = tag, None
                    figure.append(part)
                root.remove(pictures)
                root.remove(caption)


def is_only(paragraph: etree.Element, tag: str) -> bool:
    """Return whether a paragraph holds elements of one tag and no text between them."""
    text = (paragraph.text or "") + "".join(child.tail or "" for child in paragraph)
    return paragraph.tag == "p" and len(paragraph) > 0 and not text.strip() and all(child.tag == tag for child in paragraph)


class Site(Extension):
    """All three, after the inline patterns."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.treeprocessors.register(Formulas(md), "formulas", 8)
        md.treeprocessors.register(Plots(md), "plots", 7)
        md.treeprocessors.register(Captions(md), "captions", 6)


def makeExtension(**options: str) -> Site:
    """Return the extension; Markdown looks for this name."""
    return Site(**options)
