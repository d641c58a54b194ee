"""``vfl check``: what is valid is summarized, what is not ends with its own exit code and a remedy."""

import sys

import polars as pl
import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from support.federations.stagewise import stagewise_federation
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.party.config import load_party
from vfl.privacy.ledger.release import Purpose, Release

CLINIC = "clinic"
RELEASE = Release("job-1", "job", Purpose.TRAINING, 4, 0.4, 1.0, b"context")


@pytest.fixture
def check():
    """Exit code, and what was printed to either stream."""

    def run(*files):
        result = CliRunner().invoke(app, ["check", *map(str, files)])
        return result.exit_code, result.output

    return run


def test_every_valid_file_is_summarized(federation, check):
    federation.write()
    names = ((ACTIVE, "federation.toml"), (ACTIVE, "job.toml"), (ACTIVE, "party.toml"), (CLINIC, "party.toml"))
    files = [federation.path(name, file) for name, file in names]
    code, output = check(*files, federation.path(COORDINATOR, "coordinator.toml"))
    assert code == 0, output
    lines = [line for line in output.splitlines() if line.endswith(": valid")]
    of_table = "240 rows, 0 without an id, 3 features, bottom of width 4"
    left = "ledger: nothing released yet, 2 releases of a row needed, 1,000,000 allowed"
    assert "federation 'test', 2 parties, tls mutual: valid" in lines[0]
    assert (
        "job 'job', binary, 2 joint passes, 0 local epochs, K = 4, 2 releases of a training row, noise 0.00390625 on Z "
        "and 0.4 of its deviation, interaction rate 0.5 (0.5 as integers), trains the bottom of clinic, which learns "
        "labels by that, encrypted, 2 parties, ring 2^58 at 128 bits: valid" in lines[1]
    )
    assert f"party 'bank', active, {of_table}, {left}" in lines[2]
    assert f"party 'clinic', passive, {of_table}, {left}, its bottom trains, so it learns labels" in lines[3]
    assert lines[3].endswith("job 'job': valid")
    assert "coordinator settings, federation 'test': valid" in lines[4]


def test_what_may_vary_in_an_offered_job_is_shown(federation, check):
    rules = {"training.passes": {"max": 4}, "seed": True, "training.keep_best": [False]}
    federation.parties[CLINIC]["accept"] = rules
    federation.write()
    code, output = check(federation.path(CLINIC))
    assert code == 0, output
    for line in ("may differ in a job that the coordinator offers:", "training.passes: at most 4", "seed: any value",
                 "training.keep_best: false"):  # fmt: skip
        assert line in output


def test_a_key_that_may_not_vary_is_named(federation, check):
    federation.parties[CLINIC]["accept"] = {"interaction.protocol": True}
    federation.write()
    code, output = check(federation.path(CLINIC))
    assert code == 2
    assert "accept: 'interaction.protocol' is no key of job.toml that may vary" in " ".join(output.split())


def test_what_is_understood_of_a_table_is_shown(federation, check):
    rows = federation.tables[CLINIC].height
    federation.tables[CLINIC] = federation.tables[CLINIC].with_columns(
        serial=pl.Series([f"K-{row}" for row in range(rows)])
    )
    federation.write()
    code, output = check(federation.path(CLINIC, "party.toml"), federation.path(ACTIVE, "party.toml"))
    assert code == 0, output
    assert "nearly every text is different" in output
    assert "label: 0: " in output
    assert "hint: this job makes at most" in output


def _more_labels(federation):
    label = federation.parties[ACTIVE]["data"]["label_column"]
    federation.tables[ACTIVE] = federation.tables[ACTIVE].with_row_index().with_columns(
        (pl.col("index") % 3).alias(label)
    ).drop("index")  # fmt: skip


def _one_label(federation):
    label = federation.parties[ACTIVE]["data"]["label_column"]
    federation.tables[ACTIVE] = federation.tables[ACTIVE].with_columns(pl.lit(1).alias(label))


@pytest.mark.parametrize("change", [_more_labels, _one_label])
def test_labels_that_do_not_fit_the_task_are_found(federation, check, change):
    change(federation)
    federation.write()
    code, output = check(federation.path(ACTIVE, "party.toml"))
    assert code == 3
    assert "the labels do not fit the task of the job" in output


def _no_table(federation):
    del federation.tables[CLINIC]


def _no_data(federation):
    del federation.parties[CLINIC]["data"], federation.tables[CLINIC]


def _misspelt(federation):
    federation.parties[CLINIC]["policy"] = {"min_batchsize": 4}


def _label(federation):
    federation.parties[CLINIC]["data"]["label_column"] = "clinic_x0"


def _time(federation):
    federation.parties[CLINIC]["data"]["time_column"] = "clinic_x0"


def _plaintext(federation):
    federation.job["interaction"]["protocol"] = "plaintext"


def _ring(federation):
    federation.job["ring"] = {"primes": 12}


def _few_rows(federation):
    federation.tables[CLINIC] = federation.tables[CLINIC][:99]


def _allows_nobody(federation):
    federation.parties[CLINIC]["policy"]["allow_trainable"] = ["clinic"]


def _device(federation):
    federation.parties[CLINIC]["device"] = "abacus"


@pytest.mark.parametrize(
    ("change", "code", "says", "remedy"),
    [
        (_no_table, 3, "the configured table does not exist", "correct 'path'"),
        (_no_data, 2, "data: missing", "add the key 'data'"),
        (_misspelt, 2, "policy.min_batchsize: unknown key", "write 'min_batch_size'"),
        (_label, 2, "is passive but configures a label column", "remove data.label_column"),
        (_time, 2, "is passive but configures a time column", "remove data.time_column"),
        (_plaintext, 8, "sends activations and gradients unencrypted", "policy.allow_unencrypted"),
        (_ring, 7, "not 128-bit secure", "fewer primes"),
        (_few_rows, 8, "only 99 rows are aligned, fewer than 100", "policy.min_aligned_rows"),
        (_allows_nobody, 2, "policy.allow_trainable is set at a passive party", "remove it"),
        (_device, 2, "the configured device cannot be used", 'device = "cpu"'),
    ],
)
def test_a_party_that_could_not_take_part_is_given_the_reason(federation, check, change, code, says, remedy):
    change(federation)
    got, output = check(federation.write().path(CLINIC))
    assert (got, says in output, remedy in output) == (code, True, True), output


def test_a_policy_that_allows_somebody_unknown_is_refused(federation, check):
    federation.parties[ACTIVE]["policy"]["allow_trainable"] = ["clinic", "clinik"]
    code, output = check(federation.write().path(ACTIVE))
    assert code == 2
    assert "clinik; the passive parties are clinic" in output


@pytest.mark.parametrize(
    ("rate", "code", "says"),
    [
        (None, 0, "interaction rate 768 (as an integer within 5 % for up to 629,145 training rows)"),
        (
            1e-9,
            7,
            "interaction.learning_rate 1e-09 cannot be represented as an integer for any number of training rows",
        ),
    ],
)
def test_the_rate_of_a_stagewise_job_is_shown_or_refused(tmp_path, check, rate, code, says):
    federation = stagewise_federation(tmp_path)
    if rate is not None:
        federation.job["interaction"]["learning_rate"] = rate
    got, output = check(federation.write().path(ACTIVE, "job.toml"))
    assert (got, says in output) == (code, True), output
    assert code or "K = 2, 2 releases of a training row" in output


def test_what_the_ledger_leaves_is_shown_and_a_copy_put_back_is_noticed(federation, check):
    federation.parties[CLINIC]["policy"]["max_releases_per_row"] = 4
    config = load_party(federation.write().path(CLINIC)).config
    config.open_ledger().close()
    before = config.privacy.ledger.read_bytes()
    with config.open_ledger() as ledger:
        for at in range(3):
            ledger.charge([b"1", b"2"][: 1 + at % 2], [bytes([at]) * 32] * (1 + at % 2), RELEASE)
    code, output = check(federation.path(CLINIC))
    assert code == 0
    assert "2 rows released, 3 times at most, 2 more releases of a row needed, 4 allowed: 1 rows have too few" in output
    config.privacy.ledger.write_bytes(before)
    code, output = check(federation.path(CLINIC))
    assert (code, "it was put back from a copy" in output) == (24, True), output


MAKE = "from torch import nn\ndef make(inputs, width):\n    "
LINEAR = "nn.Linear(inputs.numeric_width, width{})"


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (MAKE + f"return nn.Sequential({LINEAR.format('')}, nn.Tanh())", 0, "bottom of width 4"),
        (MAKE + f"return nn.Sequential({LINEAR.format(' + 1')}, nn.Tanh())", 5, "expected (rows, 4)"),
        (MAKE + f"return {LINEAR.format('')}", 5, "is not within [-1, 1]"),
        (MAKE + "raise SystemExit", 5, "own_nets.py, line 3, in make"),
        (MAKE + "return nn.Linear(99, width)", 5, "raised an exception in its forward pass"),
        ("import own_absent_nets", 5, "own_nets.py, line 1"),
        ("", 2, "'make' is missing"),
        (None, 2, "No module named 'own_nets'"),
    ],
)
def test_a_custom_bottom_is_imported_from_beside_the_file_and_tried(federation, check, code, exit_code, says):
    federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": "own_nets:make"}
    federation.write()
    if code is not None:
        federation.path(CLINIC, "own_nets.py").write_text(f"{code}\n", encoding="utf-8")
    got, output = check(federation.path(CLINIC))
    sys.modules.pop("own_nets", None)
    assert (got, says in output) == (exit_code, True), output


def test_rows_of_the_table_are_passed_through_the_bottom(federation, check):
    federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": "own_nets:Mlp"}
    code = "from torch import nn\nclass Mlp(nn.Sequential):\n    def __init__(self, inputs, width):\n"
    code += "        super().__init__(nn.Linear(3, width), nn.Tanh())\n    def forward(self, numeric):\n"
    code += "        if len(numeric) == 240: raise ValueError('many rows')\n        return super().forward(numeric)\n"
    federation.write().path(CLINIC, "own_nets.py").write_text(code, encoding="utf-8")
    got, output = check(federation.path(CLINIC))
    sys.modules.pop("own_nets", None)
    assert (got, "ValueError: many rows" in output) == (5, True), output


def test_a_certificate_of_another_party_is_found(federation, check):
    path = federation.write().path(CLINIC)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("certificates/clinic/", "certificates/bank/"), encoding="utf-8")
    code, output = check(path)
    assert code == 2
    assert "the certificate is not for this party of this federation" in output


def test_the_certificate_of_the_coordinator_is_checked_against_the_job_beside_it(federation, check):
    path = federation.write().path(COORDINATOR, "coordinator.toml")
    assert check(path)[0] == 0
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("certificates/coordinator/", "certificates/bank/"), encoding="utf-8")
    code, output = check(path)
    assert code == 2
    assert "the certificate is not for this party of this federation" in output
    path.write_text("", encoding="utf-8")
    assert "set tls.ca, tls.certificate and tls.key in coordinator.toml" in check(path)[1]


def test_a_coordinator_file_without_a_federation_says_what_to_name(federation, check, tmp_path):
    path = federation.write().path(COORDINATOR, "coordinator.toml")
    alone = tmp_path / "away" / "from" / "coordinator.toml"
    alone.parent.mkdir(parents=True)
    alone.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    code, output = check(alone)
    assert code == 2
    assert "name federation.toml or job.toml in the same command" in output
    assert check(alone, federation.path(ACTIVE))[0] == 0
    alone.write_text("", encoding="utf-8")
    assert check(alone) == (0, f"{alone}: coordinator settings: valid\n")


def test_all_files_are_checked_and_the_first_failure_is_the_exit_code(federation, check, tmp_path):
    _no_table(federation)
    federation.write()
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ", encoding="utf-8")
    good = federation.path(ACTIVE)
    code, output = check(federation.path(CLINIC), broken, tmp_path / "absent.toml", good)
    assert code == 3
    for says in ("the configured table does not exist", "not valid TOML", "is missing", "party 'bank', active"):
        assert says in output


@pytest.mark.parametrize("parties", [2])
def test_the_files_that_the_demo_writes_are_valid(tmp_path, check, parties):
    result = CliRunner().invoke(app, ["demo", "--only-write", "--out", str(tmp_path), "--parties", str(parties)])
    assert result.exit_code == 0, result.output
    written = sorted(tmp_path.rglob("*.toml"))
    assert [path.name for path in written].count("party.toml") == parties
    code, output = check(*written)
    assert code == 0, output


@pytest.mark.parametrize(
    ("by", "column", "code", "says", "remedy"),
    [
        (
            "time",
            None,
            2,
            "splits the rows by time, and party 'bank' configures no time column",
            "set data.time_column",
        ),
        ("random", "bank_x0", 2, "configures a time column, and the job does not split", "remove data.time_column"),
        ("label", "bank_x0", 2, "configures a time column, and the job does not split", 'split.by = "time"'),
        ("time", "opened", 3, "configured columns are missing from the table", "correct the names"),
    ],
)
def test_a_split_that_does_not_fit_the_active_party_is_found(federation, check, by, column, code, says, remedy):
    federation.job["split"]["by"] = by
    if column is not None:
        federation.parties[ACTIVE]["data"]["time_column"] = column
    got, output = check(federation.write().path(ACTIVE))
    assert (got, says in output, remedy in output) == (code, True, True), output


def test_classes_that_may_be_absent_from_a_part_are_named(federation, check):
    bank = federation.tables[ACTIVE]
    labels = [*["common"] * (bank.height - 43), *["less common"] * 40, *["rare"] * 3]
    federation.tables[ACTIVE] = bank.with_columns(defaulted=pl.Series(labels))
    federation.job["task"] = {"kind": "multiclass", "classes": 3}
    federation.job["split"]["by"] = "label"
    code, output = check(federation.write().path(ACTIVE))
    assert code == 0, output
    expected = (
        "hint: class 'rare' has 3 of 240 rows, too few for one in each part of the split: validation and test may"
    )
    assert expected in output
    assert "'less common' has" not in output


def test_rows_that_have_the_same_time_as_a_border_are_counted(federation, check):
    bank = federation.tables[ACTIVE]
    federation.tables[ACTIVE] = bank.with_columns(opened=pl.Series([2023] * 100 + [2024] * (bank.height - 100)))
    federation.job["split"]["by"] = "time"
    federation.parties[ACTIVE]["data"]["time_column"] = "opened"
    code, output = check(federation.write().path(ACTIVE), federation.path(ACTIVE, "job.toml"))
    assert code == 0, output
    assert "rows split by time, which the active party tells the others, encrypted" in output
    assert "hint: 140 rows have the time at which the train rows end: which of them are in it is drawn" in output


def test_a_class_of_few_rows_is_worth_a_hint(federation, check):
    bank = federation.tables[ACTIVE]
    federation.tables[ACTIVE] = bank.with_columns(defaulted=pl.Series([0] * (bank.height - 6) + [1] * 6))
    code, output = check(federation.write().path(ACTIVE))
    assert code == 0, output
    assert "hint: class '1' has only 6 rows" in " ".join(output.split())
