"""The trained model is on the disk when the coordinator hears that it is saved: nobody saves it again."""

from vfl.party.roles.saving import _write_all


def test_files_are_flushed_before_they_get_their_names_and_the_names_after(tmp_path, flushed):
    directory = tmp_path / "model" / "job-1"
    _write_all(directory, {"model.safetensors": b"tensors", "model.json": b"{}"})
    assert flushed == [".model.safetensors.draft", ".model.json.draft", "job-1", "model"]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        "model.safetensors": b"tensors",
        "model.json": b"{}",
    }
