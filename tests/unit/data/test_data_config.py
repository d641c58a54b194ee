import pytest
from pydantic import ValidationError

from vfl.data.config import ColumnKind, DataConfig


def test_plain_values_as_they_come_from_a_file():
    config = DataConfig.model_validate(
        {"path": "a.csv", "id_column": " id ", "columns": {" age ": "numeric"}, "drop": ["note"]}
    )
    assert config.id_column == "id"
    assert config.columns == {"age": ColumnKind.NUMERIC}
    assert config.drop == ("note",)
    assert config.format == "auto"


@pytest.mark.parametrize(
    "wrong",
    [
        {"unknown": 1},
        {"id_column": " "},
        {"format": "excel"},
        {"columns": {"a": "ordinal"}},
        {"label_column": "id"},
        {"columns": {"id": "numeric"}},
        {"drop": ["y"], "label_column": "y"},
        {"drop": ["a", "a"]},
        {"columns": {"a": "numeric"}, "drop": ["a"]},
    ],
)
def test_contradictions_are_refused(wrong):
    with pytest.raises(ValidationError):
        DataConfig.model_validate({"path": "a.csv", "id_column": "id"} | wrong)


def test_config_cannot_be_changed():
    config = DataConfig(path="a.csv", id_column="id")
    with pytest.raises(ValidationError):
        config.id_column = "other"
