"""What other people wrote reaches the terminal without control codes."""

import pytest

from deploy.commands import progress
from deploy.terminal_text import escape, printable, printable_lines


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shoe.jpg", "shoe.jpg"),
        ("sch\u00f6n \u9774 \U0001f469\u200d\U0001f3a8.jpg",) * 2,
        ("\x1b]0;owned\x07.jpg", "\\x1b]0;owned\\x07.jpg"),
        ("a\nfailed b.jpg", "a\\nfailed b.jpg"),
        ("\x9b31m.jpg", "\\x9b31m.jpg"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("b\udce4d.jpg", "b\\xe4d.jpg"),
        ("\ud800.jpg", "\\ud800.jpg"),
    ],
)
def test_a_name_is_shown_without_control_codes(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert escape(name).replace("\\[", "[") == shown
    assert printable_lines(f"{name[:0]}one\ntwo") == "one\ntwo"


def test_a_table_shows_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    progress.print_table(["name"], [["a\x1b[2Jb\nc"]])
    assert r"a\x1b[2Jb\nc" in capsys.readouterr().out
