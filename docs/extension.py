"""Extend Markdown for the site (zensical.toml): formulas become MathML, plots get their dark form, captions stand below pictures.

The pages themselves stay plain Markdown: ``$...$`` and ``$$...$$``, one picture per plot, and a caption is a paragraph in italics below.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as etree
from pathlib import Path

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor
from markdown.treeprocessors import Treeprocessor

HERE = Path(__file__).parent
PUNCTUATION = ".,;:!?)]"
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'  # HTML does without, and ElementTree would prefix every tag


class Formulas(Treeprocessor):
    """Replace what pymdownx.arithmatex marks, LaTeX between \\(...\\) or \\[...\\], by MathML."""

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex":
                latex = html.unescape(element.text or "")
                display = "block" if latex.startswith("\\[") else "inline"
                formula = mathml(latex[2:-2].strip(), display)
                element.text = None
                element.append(formula)
                if display == "inline":  # a comma stays on the line of its formula
                    text = element.tail or ""
                    element.tail = text.lstrip(PUNCTUATION)
                    formula.tail = text[: len(text) - len(element.tail)]


def mathml(latex: str, display: str) -> etree.Element:
    """Return a ``<math>`` element.

    Args:
        display: "inline" or "block".

    Raises:
        ValueError: a command of the formula is unknown.
    """
    element = etree.fromstring(convert(latex, display=display).replace(NAMESPACE, ""))
    unknown = [part.text for part in element.iter() if (part.text or "").startswith("\\")]
    if unknown:
        raise ValueError(f"{latex}: {unknown[0]} is unknown")
    element.set("alttext", latex)
    return element


class Plots(Treeprocessor):
    """Show ``NAME-dark.svg`` on dark pages where there is one beside ``NAME.svg``."""

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            for place, image in reversed(list(enumerate(parent))):
                name, dot, kind = image.get("src", "").rpartition(".")
                if image.tag == "img" and dot and (HERE / f"{name}-dark.{kind}").is_file():
                    other = etree.Element("img", dict(image.attrib))
                    other.tail, image.tail = image.tail, None
                    for form, end in ((image, f".{kind}#only-light"), (other, f"-dark.{kind}#only-dark")):
                        form.set("class", "plot")
                        form.set("src", name + end)
                    parent.insert(place + 1, other)


class Captions(Treeprocessor):
    """Make a figure of a paragraph of pictures and the paragraph in italics below it; figures without text between stand in a row."""

    def run(self, root: etree.Element) -> None:
        rows: list[etree.Element] = []
        elements = list(root)
        root[:] = []
        while elements:
            element = elements.pop(0)
            if elements and is_only(element, "img") and is_only(elements[0], "em") and len(elements[0]) == 1:
                if not rows or root[-1] is not rows[-1]:
                    rows.append(etree.SubElement(root, "div", {"class": "figures"}))
                rows[-1].append(figure(element, elements.pop(0)[0]))
            else:
                root.append(element)


def figure(pictures: etree.Element, caption: etree.Element) -> etree.Element:
    """Return a ``<figure>`` of a paragraph of pictures and an ``<em>``."""
    made = etree.Element("figure")
    for part, tag in ((pictures, "div"), (caption, "figcaption")):
        part.tag, part.tail = tag, None
        made.append(part)
    return made


class Links(Treeprocessor):
    """Let a picture that is not a plot open by itself, where a phone can enlarge it."""

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            for place, image in enumerate(parent):
                if image.tag == "img" and image.get("class") != "plot" and parent.tag != "a":
                    link = etree.Element("a", {"href": image.get("src", "")})
                    link.tail, image.tail = image.tail, None
                    link.append(image)
                    parent[place] = link


class Names(Postprocessor):
    """Let a long name in the first column of a table break between its words: ``EulerDiscreteScheduler``."""

    def run(self, text: str) -> str:
        first = r"(?<=<tr>\n<td><code>)\w+(?=</code>)"
        return re.sub(first, lambda name: re.sub(r"(?<=[a-z])(?=[A-Z])", "<wbr>", name[0]), text)


def is_only(paragraph: etree.Element, tag: str) -> bool:
    """Return whether a paragraph holds elements of one tag and no text between them."""
    text = (paragraph.text or "") + "".join(child.tail or "" for child in paragraph)
    return (
        paragraph.tag == "p"
        and len(paragraph) > 0
        and not text.strip()
        and all(child.tag == tag for child in paragraph)
    )


class Site(Extension):
    """All of these, after the inline patterns."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.treeprocessors.register(Formulas(md), "formulas", 8)
        md.treeprocessors.register(Plots(md), "plots", 7)
        md.treeprocessors.register(Captions(md), "captions", 6)
        md.treeprocessors.register(Links(md), "links", 5)
        md.postprocessors.register(Names(md), "names", 5)


def makeExtension(**options: str) -> Site:
    """Return the extension; Markdown looks for this name."""
    return Site(**options)
