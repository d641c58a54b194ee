"""The documents do not drift from the repository: links, named code, error codes and configuration keys are right."""

import json
import re
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from vfl.audit.trail import AuditConfig
from vfl.checkpoints.config import CheckpointConfig
from vfl.configuration.federation import FederationConfig, PartyEntry, TlsFiles, TlsPolicy
from vfl.configuration.toml_files import Configuration
from vfl.coordinator.config import CoordinatorConfig
from vfl.data.config import DataConfig, IdRules
from vfl.errors import all_error_types
from vfl.he.parameters import RingSettings
from vfl.job.acceptance import Range
from vfl.job.config import JobConfig
from vfl.job.policy import PolicyConfig
from vfl.job.tables import (
    CheckpointPlan,
    InteractionConfig,
    ModelConfig,
    PrivacyConfig,
    SplitConfig,
    StatedOptimizer,
    StatedTop,
    TimeoutConfig,
    TrainingConfig,
)
from vfl.models.config import (
    CnnBottom,
    CustomBottom,
    EncodingsBottom,
    IdentityBottom,
    MlpBottom,
    TaskConfig,
)
from vfl.party.config import PartyConfig
from vfl.party.config import PrivacyConfig as PartyPrivacyConfig
from vfl.run_records.store import PartyRunsConfig, RunsConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "docs", "parties", "protos", "scripts", "tests", "vfl")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _links(path: Path) -> list[tuple[str, str]]:
    """Text and target of every link that stays in the repository."""
    found = _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return [(text, target) for text, target in found if not re.match(r"[a-z]+:", target)]


def _anchors(path: Path) -> set[str]:
    """Anchors of the headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _missing_names(text: str, path: Path) -> list[str]:
    """What a link text such as `EncryptedActive.forward` names and the file it leads to does not define."""
    source = path.read_text(encoding="utf-8")
    codes = [code for code in re.findall(r"`([\w.]+)`", text) if not code.endswith(".py")]
    names = [name for code in codes for name in code.split(".")]
    return [
        n for n in names if not re.search(rf"^\s*(?:(?:async )?def |class ){n}\b|^{n}\b.* = ", source, re.MULTILINE)
    ]


def _problem(document: Path, text: str, target: str) -> str | None:
    file, _, anchor = target.partition("#")
    path = (document.parent / file).resolve() if file else document
    if not path.exists() or ROOT not in (path, *path.parents):
        return f"{target}: no such file"
    if anchor and anchor not in _anchors(path):
        return f"{target}: no such heading"
    if path.suffix == ".py" and (missing := _missing_names(text, path)):
        return f"{target}: does not define {', '.join(missing)}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert [p for text, target in _links(document) if (p := _problem(document, text, target))] == []


def test_the_documents_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "SECURITY.md", "docs/tour.md", "docs/configuration.md", "docs/adr/README.md"} <= names
    assert sum(len(_links(path)) for path in DOCUMENTS) > 100


def test_every_decision_record_is_listed() -> None:
    records = {path.name for path in (ROOT / "docs" / "adr").glob("0*.md")}
    assert records == {target for _, target in _links(ROOT / "docs" / "adr" / "README.md")}


def test_exit_codes_are_documented() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", CONFIGURATION, re.MULTILINE)
    assert {code: int(number) for number, code in rows} == {
        code: error.exit_code for code, error in all_error_types().items()
    }


SECTIONS: dict[str, type[BaseModel]] = {
    "federation": FederationConfig,
    "federation: tls": TlsPolicy,
    "federation: parties": PartyEntry,
    "job": JobConfig,
    "job: task": TaskConfig,
    "job: model": ModelConfig,
    "job: model.top": StatedTop,
    "job: ids": IdRules,
    "job: training": TrainingConfig,
    "job: training.optimizer": StatedOptimizer,
    "job: interaction": InteractionConfig,
    "job: privacy": PrivacyConfig,
    "job: split": SplitConfig,
    "job: ring": RingSettings,
    "job: timeouts": TimeoutConfig,
    "job: checkpoints": CheckpointPlan,
    "party": PartyConfig,
    "party: data": DataConfig,
    "party: policy": PolicyConfig,
    "party: audit": AuditConfig,
    "party: accept": Range,
    "party: runs": PartyRunsConfig,
    "party: checkpoints": CheckpointConfig,
    "party: privacy": PartyPrivacyConfig,
    "party: tls": TlsFiles,
    "coordinator": CoordinatorConfig,
    "coordinator: runs": RunsConfig,
}
BOTTOMS: list[type[BaseModel]] = [EncodingsBottom, MlpBottom, CnnBottom, IdentityBottom, CustomBottom]


def _rows(text: str) -> dict[str, str]:
    """Key and default of every row of a table of keys."""
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE))


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "table"
    plain = value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(plain)}`"


def _expected(model: type[BaseModel]) -> dict[str, str]:
    return {
        spec.alias or name: _default(spec.get_default(call_default_factory=True))
        for name, spec in model.model_fields.items()
    }


def _section(heading: str) -> str:
    return re.split(r"^#+ ", CONFIGURATION.split(f"\n### {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("heading", SECTIONS)
def test_keys_and_defaults_are_documented(heading: str) -> None:
    assert _rows(_section(heading)) == _expected(SECTIONS[heading])


@pytest.mark.parametrize("model", BOTTOMS)
def test_keys_of_bottoms_are_documented(model: type[BaseModel]) -> None:
    kind = model.model_fields["kind"].default
    part = re.search(rf'^`kind = "{kind}"`(.*?)(?=^`kind|\Z)', _section("party: bottom"), re.MULTILINE | re.DOTALL)
    assert part is not None
    assert _rows(part.group(1)) == _expected(model)


def _nested(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    queue = [spec.annotation for spec in model.model_fields.values()]
    while queue:
        annotation = queue.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= _nested(annotation)
        queue += get_args(annotation)
    return found


def test_no_table_of_the_files_is_left_out() -> None:
    files: list[type[Configuration]] = [FederationConfig, JobConfig, PartyConfig, CoordinatorConfig]
    assert set().union(*(_nested(model) for model in files)) == {*SECTIONS.values(), *BOTTOMS}
