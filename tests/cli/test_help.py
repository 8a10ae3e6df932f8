"""``--help`` on a terminal of 80 columns: whole sentences, and examples that can be copied."""

import re
import shlex

import pytest
import typer

from ..commands import cli
from .test_flags import GROUP


def commands(group=GROUP, words=()):
    """(words, command) of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(commands())


def help_of(*words):
    return cli(*words, "--help", COLUMNS="80")[0]


@pytest.mark.parametrize("words", [(), ("evaluate",)], ids=["singdiffusion", "evaluate"])
def test_each_command_has_a_whole_sentence(words):
    listed = help_of(*words).partition("Commands:\n")[2].rstrip().splitlines()
    group = GROUP.commands[words[0]] if words else GROUP
    assert len(listed) == len(group.commands)
    for line in listed:
        assert re.fullmatch(r"  [a-z]+ +[A-Z`].*[^.]\.", line), line
        assert len(line) <= 80


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_each_command_has_an_example_that_can_be_copied(words):
    shown = help_of(*words)
    found = re.search(r"^ *Example:\n((?: +.*\\\n)* +.*\n)", shown, re.M)
    assert found, shown
    assert max(map(len, found[1].splitlines())) <= 80
    typed = shlex.split(found[1].replace("\\\n", " "))
    assert tuple(typed[: len(words) + 1]) == ("singdiffusion", *words)
    COMMANDS[words].make_context(
        words[-1], typed[len(words) + 1 :], parent=typer.Context(GROUP)
    )  # every option is known
