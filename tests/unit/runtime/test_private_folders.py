"""Where a process puts sockets that only this user may reach."""

import os
import stat
import tempfile

import pytest

from vfl.errors import ConfigError
from vfl.runtime.private.folders import MAX_SOCKET_PATH, temporary_folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two places for the folder; ``/tmp`` is not one."""
    first, second = tmp_path / "run", tmp_path / "temporary"
    first.mkdir(mode=0o700)
    second.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(first))
    monkeypatch.setattr(tempfile, "tempdir", str(second))
    return first, second


def test_only_this_user_can_enter_it_whatever_the_umask_is_and_it_does_not_stay(places):
    before = os.umask(0)
    try:
        with temporary_folder() as folder, temporary_folder() as other:
            assert folder != other
            assert folder.parent == places[0]
            state = folder.stat()
            assert (stat.S_IMODE(state.st_mode), state.st_uid) == (0o700, os.geteuid())
            (folder / "socket").touch()
    finally:
        os.umask(before)
    assert not list(places[0].iterdir())


def test_it_does_not_stay_after_an_error(places):
    with pytest.raises(RuntimeError), temporary_folder():
        raise RuntimeError
    assert not list(places[0].iterdir())


def _others_may_write(first):
    first.chmod(0o777)


def _others_may_rename_it(first):
    first.parent.chmod(0o770)


def _absent(first):
    first.rmdir()


def _a_link_to_where_others_may_write(first):
    first.rmdir()
    target = first.parent / "target"
    target.mkdir()
    target.chmod(0o777)
    first.symlink_to(target)


@pytest.mark.parametrize("unsafe", [_others_may_write, _absent, _a_link_to_where_others_may_write])
def test_a_place_where_others_could_put_a_folder_of_their_own_is_not_used(places, unsafe):
    unsafe(places[0])
    with temporary_folder() as folder:
        assert folder.parent == places[1]


def test_neither_is_one_in_a_folder_where_others_may_rename_it(places):
    _others_may_rename_it(places[0])
    with temporary_folder() as folder:  # neither of the two
        assert str(folder.parent) == "/tmp"  # noqa: S108  # where it goes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_neither_is_one_of_another_user(places):
    os.chown(places[0], 65534, 65534)
    with temporary_folder() as folder:
        assert folder.parent == places[1]


def test_the_sticky_bit_is_enough_as_for_tmp(places):
    places[0].chmod(0o1777)
    with temporary_folder() as folder:
        assert folder.parent == places[0]


@pytest.mark.parametrize("name", ["x" * MAX_SOCKET_PATH, "a%20b", "a b", "a#b"])
def test_a_path_that_is_no_name_of_a_socket_is_not_used(places, monkeypatch, name):
    place = places[0] / name
    place.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    with temporary_folder() as folder:
        assert folder.parent == places[1]
        assert len(str(folder / "socket")) <= MAX_SOCKET_PATH


def test_without_any_such_place_the_error_says_what_to_do(places, monkeypatch):
    monkeypatch.setattr(
        tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(ConfigError, match="other users of this machine cannot reach") as caught, temporary_folder():
        pass
    assert "set XDG_RUNTIME_DIR" in caught.value.remedy
    assert f"{places[0]}: Permission denied" in caught.value.detail
    assert str(places[0]) not in caught.value.summary
