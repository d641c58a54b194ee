"""Texts of other organizations reach terminals and logs as one harmless line."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vfl.cli import failures
from vfl.cli.logs import LogFormat, configure_logs
from vfl.errors import RemoteError
from vfl.runtime.foreign_text import printable, printable_fields, printable_lines
from vfl.runtime.logs import ROOT, get_logger

HOSTILE = "ok\x1b[2J\x1b]0;owned\x07\r\n12:00:00 [info] run finished\u202e\u2028\u200b\x9b31m"
DANGEROUS = "\x1b\x07\r\u202e\u2028\u200b\x9b"


@given(st.text())
def test_any_text_becomes_one_printable_line_of_bounded_length(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 500


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_all_text_in_a_value_becomes_printable(value):
    def texts(each):
        if isinstance(each, dict):
            return [found for item in each.items() for part in item for found in texts(part)]
        return [found for part in each for found in texts(part)] if isinstance(each, list) else [str(each)]

    assert all(text.isprintable() for text in texts(printable_fields(value)))


def test_lines_of_our_own_are_kept():
    assert printable_lines("a\nb\x1b[1m") == "a\nb [1m"


@pytest.fixture
def logger_restored():
    logger = logging.getLogger(ROOT)
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.mark.usefixtures("logger_restored")
@pytest.mark.parametrize("log_format", LogFormat)
def test_no_name_value_or_event_controls_the_log(capsys, log_format):
    configure_logs(log_format)
    get_logger("vfl.test").warning(HOSTILE, **{HOSTILE: HOSTILE, "metrics": {HOSTILE: 1.0}, "names": [HOSTILE]})
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert not set(DANGEROUS) & set(written)
    assert "\\u001b" not in written


def test_no_error_controls_the_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(failures, "errors_console", Console(file=stream, width=2000))
    failures.show_error(RemoteError("clinic", "data", HOSTILE.replace("\r\n", ""), remedy=HOSTILE), "stopped")
    assert not set(DANGEROUS) & set(stream.getvalue())
