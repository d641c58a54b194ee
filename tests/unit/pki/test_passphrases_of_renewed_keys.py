"""A renewed key whose passphrase is unknown: nobody is asked while a process serves others."""

import getpass
import sys

import pytest
from support.logs import captured_logs

from vfl.errors import ConfigError
from vfl.pki.credentials import Credentials


class _Terminal:
    def isatty(self):
        return True


@pytest.fixture
def asked(monkeypatch):
    """The prompts at a terminal where somebody types 'first'."""
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return "first"

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys, "stdin", _Terminal())
    return prompts


def renew(issuer, files, passphrase):
    renewed = issuer.files("bank", passphrase=passphrase)
    for source, target in ((renewed.key, files.key), (renewed.certificate, files.certificate)):
        source.replace(target)


@pytest.mark.parametrize("before", [None, b"first"], ids=["was not encrypted", "was encrypted otherwise"])
def test_a_renewed_key_never_asks(issuer, mutual, asked, before):
    files = issuer.files("bank", passphrase=before)
    credentials = Credentials(files, mutual, "bank")
    asked.clear()
    serial = credentials.certificate.serial_number
    renew(issuer, files, b"second")
    with captured_logs() as logs:
        for _ in range(3):
            credentials.refresh()
    assert asked == []
    assert credentials.certificate.serial_number == serial, "the previous files stay in use"
    (reason,) = [entry["reason"] for entry in logs if entry["event"] == "changed certificate files are not used"]
    assert "passphrase" in reason
    assert "What to do" in reason


def test_what_was_typed_at_the_start_opens_a_renewed_key(issuer, mutual, asked):
    files = issuer.files("bank", passphrase=b"first")
    credentials = Credentials(files, mutual, "bank")
    assert len(asked) == 1
    renew(issuer, files, b"first")
    credentials.refresh()
    assert len(asked) == 1
    assert credentials.generation == 1


def test_without_any_standard_input_the_start_says_so(issuer, mutual, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="its passphrase is unknown"):
        Credentials(issuer.files("bank", passphrase=b"first"), mutual, "bank")
