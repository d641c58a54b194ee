from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Check(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_UNSPECIFIED: _ClassVar[Check]
    CHECK_FILES: _ClassVar[Check]
    CHECK_CERTIFICATE: _ClassVar[Check]
    CHECK_REVOCATION: _ClassVar[Check]
    CHECK_TABLE: _ClassVar[Check]
    CHECK_LISTEN: _ClassVar[Check]
    CHECK_NAME: _ClassVar[Check]
    CHECK_CONNECTION: _ClassVar[Check]
    CHECK_TLS: _ClassVar[Check]
    CHECK_ANSWER: _ClassVar[Check]
    CHECK_VERSION: _ClassVar[Check]
    CHECK_JOB: _ClassVar[Check]
    CHECK_CLOCK: _ClassVar[Check]
    CHECK_STATE: _ClassVar[Check]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_OK: _ClassVar[Verdict]
    VERDICT_WARNING: _ClassVar[Verdict]
    VERDICT_PROBLEM: _ClassVar[Verdict]

class Activity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVITY_UNSPECIFIED: _ClassVar[Activity]
    ACTIVITY_WAITING: _ClassVar[Activity]
    ACTIVITY_BUSY: _ClassVar[Activity]
    ACTIVITY_STOPPED: _ClassVar[Activity]
CHECK_UNSPECIFIED: Check
CHECK_FILES: Check
CHECK_CERTIFICATE: Check
CHECK_REVOCATION: Check
CHECK_TABLE: Check
CHECK_LISTEN: Check
CHECK_NAME: Check
CHECK_CONNECTION: Check
CHECK_TLS: Check
CHECK_ANSWER: Check
CHECK_VERSION: Check
CHECK_JOB: Check
CHECK_CLOCK: Check
CHECK_STATE: Check
VERDICT_UNSPECIFIED: Verdict
VERDICT_OK: Verdict
VERDICT_WARNING: Verdict
VERDICT_PROBLEM: Verdict
ACTIVITY_UNSPECIFIED: Activity
ACTIVITY_WAITING: Activity
ACTIVITY_BUSY: Activity
ACTIVITY_STOPPED: Activity

class DiagnoseRequest(_message.Message):
    __slots__ = ("probe_peers", "digest")
    PROBE_PEERS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    probe_peers: bool
    digest: str
    def __init__(self, probe_peers: _Optional[bool] = ..., digest: _Optional[str] = ...) -> None: ...

class DiagnoseReply(_message.Message):
    __slots__ = ("party", "protocol_version", "package_version", "digest", "time", "activity", "findings")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    party: str
    protocol_version: str
    package_version: str
    digest: str
    time: float
    activity: Activity
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, party: _Optional[str] = ..., protocol_version: _Optional[str] = ..., package_version: _Optional[str] = ..., digest: _Optional[str] = ..., time: _Optional[float] = ..., activity: _Optional[_Union[Activity, str]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("source", "target", "check", "verdict", "summary", "side", "remedy", "code")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    check: Check
    verdict: Verdict
    summary: str
    side: str
    remedy: str
    code: str
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., check: _Optional[_Union[Check, str]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., summary: _Optional[str] = ..., side: _Optional[str] = ..., remedy: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...
