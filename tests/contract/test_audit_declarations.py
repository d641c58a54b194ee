"""Every kind of message says what protects it and what it is, so that no audit log is silent about a new one."""

import pytest

from vfl.audit.words import MEANINGS, meaning
from vfl.ids import Role
from vfl.messages import CONTROL_TYPES, MESSAGE_TYPES, ControlMessage, Protection

EVERY = MESSAGE_TYPES | CONTROL_TYPES


@pytest.mark.parametrize("kind", EVERY)
def test_every_message_type_has_a_protection_and_words(kind):
    message = EVERY[kind]
    assert isinstance(getattr(message, "protection", None), Protection), f"{message.__name__} lacks 'protection'"
    words = MEANINGS[kind]
    assert meaning(kind, "clinic", "bank", passive=2)
    assert ("NOT PROTECTED" in words) == (message.protection is Protection.CLEAR)


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_every_data_message_says_between_whom_it_goes(kind):
    assert MESSAGE_TYPES[kind].routes
    assert (Role.ACTIVE, Role.ACTIVE) not in MESSAGE_TYPES[kind].routes
    assert Role.COORDINATOR not in {role for route in MESSAGE_TYPES[kind].routes for role in route}


def test_words_are_for_kinds_that_exist():
    assert MEANINGS.keys() == EVERY.keys()
    assert len(EVERY) == len(MESSAGE_TYPES) + len(CONTROL_TYPES)


def test_every_control_type_is_in_the_catalog():
    assert {t.__name__ for t in ControlMessage.__subclasses__()} == {t.__name__ for t in CONTROL_TYPES.values()}


def test_control_messages_are_meant_to_be_read():
    assert {message.protection for message in CONTROL_TYPES.values()} == {Protection.PUBLIC}
