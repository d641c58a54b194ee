from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_ACTIVE: _ClassVar[Role]
    ROLE_PASSIVE: _ClassVar[Role]
    ROLE_COORDINATOR: _ClassVar[Role]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_BOTTOM_FORWARD: _ClassVar[Phase]
    PHASE_INTERACTION_FORWARD: _ClassVar[Phase]
    PHASE_TOP: _ClassVar[Phase]
    PHASE_INTERACTION_BACKWARD: _ClassVar[Phase]
    PHASE_BOTTOM_BACKWARD: _ClassVar[Phase]
    PHASE_SCORE: _ClassVar[Phase]
    PHASE_RESIDUALS: _ClassVar[Phase]
    PHASE_WEIGHT_STEP: _ClassVar[Phase]
    PHASE_KEEP: _ClassVar[Phase]
    PHASE_LOCAL_EPOCH: _ClassVar[Phase]
    PHASE_MARK_BEST: _ClassVar[Phase]
    PHASE_RESTORE_BEST: _ClassVar[Phase]

class Split(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_UNSPECIFIED: _ClassVar[Split]
    SPLIT_TRAIN: _ClassVar[Split]
    SPLIT_VALIDATION: _ClassVar[Split]
    SPLIT_TEST: _ClassVar[Split]
ROLE_UNSPECIFIED: Role
ROLE_ACTIVE: Role
ROLE_PASSIVE: Role
ROLE_COORDINATOR: Role
PHASE_UNSPECIFIED: Phase
PHASE_BOTTOM_FORWARD: Phase
PHASE_INTERACTION_FORWARD: Phase
PHASE_TOP: Phase
PHASE_INTERACTION_BACKWARD: Phase
PHASE_BOTTOM_BACKWARD: Phase
PHASE_SCORE: Phase
PHASE_RESIDUALS: Phase
PHASE_WEIGHT_STEP: Phase
PHASE_KEEP: Phase
PHASE_LOCAL_EPOCH: Phase
PHASE_MARK_BEST: Phase
PHASE_RESTORE_BEST: Phase
SPLIT_UNSPECIFIED: Split
SPLIT_TRAIN: Split
SPLIT_VALIDATION: Split
SPLIT_TEST: Split

class StepKey(_message.Message):
    __slots__ = ("run", "step", "attempt")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: int
    attempt: int
    def __init__(self, run: _Optional[str] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class CheckpointId(_message.Message):
    __slots__ = ("step", "attempt", "digest")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    step: int
    attempt: int
    digest: str
    def __init__(self, step: _Optional[int] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("split", "epoch", "index")
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    split: Split
    epoch: int
    index: int
    def __init__(self, split: _Optional[_Union[Split, str]] = ..., epoch: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class OfferRequest(_message.Message):
    __slots__ = ("run", "attempt", "digest", "protocol_version", "job", "text")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    digest: str
    protocol_version: str
    job: str
    text: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ..., protocol_version: _Optional[str] = ..., job: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class OfferReply(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("run", "attempt", "digest", "protocol_version", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    digest: str
    protocol_version: str
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ..., protocol_version: _Optional[str] = ..., job: _Optional[str] = ...) -> None: ...

class PrepareReply(_message.Message):
    __slots__ = ("party", "role", "rows", "dropped", "checkpoints")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    party: str
    role: Role
    rows: int
    dropped: int
    checkpoints: _containers.RepeatedCompositeFieldContainer[CheckpointId]
    def __init__(self, party: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., rows: _Optional[int] = ..., dropped: _Optional[int] = ..., checkpoints: _Optional[_Iterable[_Union[CheckpointId, _Mapping]]] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("run", "attempt", "checkpoint", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    checkpoint: CheckpointId
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., checkpoint: _Optional[_Union[CheckpointId, _Mapping]] = ..., job: _Optional[str] = ...) -> None: ...

class RestoreReply(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...

class AlignRequest(_message.Message):
    __slots__ = ("run", "attempt", "count_only", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    COUNT_ONLY_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    count_only: bool
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., count_only: _Optional[bool] = ..., job: _Optional[str] = ...) -> None: ...

class AlignReply(_message.Message):
    __slots__ = ("rows", "train_rows", "validation_rows", "test_rows", "width")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_ROWS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_ROWS_FIELD_NUMBER: _ClassVar[int]
    TEST_ROWS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    rows: int
    train_rows: int
    validation_rows: int
    test_rows: int
    width: int
    def __init__(self, rows: _Optional[int] = ..., train_rows: _Optional[int] = ..., validation_rows: _Optional[int] = ..., test_rows: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class BeginRequest(_message.Message):
    __slots__ = ("run", "attempt", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class BeginReply(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...

class RunPhaseRequest(_message.Message):
    __slots__ = ("key", "phase", "batch", "job")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    key: StepKey
    phase: Phase
    batch: Batch
    job: str
    def __init__(self, key: _Optional[_Union[StepKey, _Mapping]] = ..., phase: _Optional[_Union[Phase, str]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., job: _Optional[str] = ...) -> None: ...

class RunPhaseReply(_message.Message):
    __slots__ = ("seconds", "bytes_sent", "bytes_received", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    bytes_sent: int
    bytes_received: int
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, seconds: _Optional[float] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("run", "split", "epoch", "attempt", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    split: Split
    epoch: int
    attempt: int
    job: str
    def __init__(self, run: _Optional[str] = ..., split: _Optional[_Union[Split, str]] = ..., epoch: _Optional[int] = ..., attempt: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class ScoreReply(_message.Message):
    __slots__ = ("metrics",)
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("key", "durable", "job")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    key: StepKey
    durable: bool
    job: str
    def __init__(self, key: _Optional[_Union[StepKey, _Mapping]] = ..., durable: _Optional[bool] = ..., job: _Optional[str] = ...) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: CheckpointId
    def __init__(self, checkpoint: _Optional[_Union[CheckpointId, _Mapping]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("run", "attempt", "checkpoint", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    checkpoint: CheckpointId
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., checkpoint: _Optional[_Union[CheckpointId, _Mapping]] = ..., job: _Optional[str] = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("run", "attempt", "progressing", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESSING_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    progressing: _containers.RepeatedScalarFieldContainer[str]
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., progressing: _Optional[_Iterable[str]] = ..., job: _Optional[str] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("party", "doing", "progress", "waiting_for", "waiting_seconds")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    WAITING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    party: str
    doing: str
    progress: int
    waiting_for: str
    waiting_seconds: float
    def __init__(self, party: _Optional[str] = ..., doing: _Optional[str] = ..., progress: _Optional[int] = ..., waiting_for: _Optional[str] = ..., waiting_seconds: _Optional[float] = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("run", "origin", "code", "reason", "attempt", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    origin: str
    code: str
    reason: str
    attempt: int
    job: str
    def __init__(self, run: _Optional[str] = ..., origin: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ..., attempt: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class AbortReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FinishRequest(_message.Message):
    __slots__ = ("run", "attempt", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class FinishReply(_message.Message):
    __slots__ = ("party", "bytes_sent", "bytes_received", "peak_memory_bytes", "certified_lipschitz")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_LIPSCHITZ_FIELD_NUMBER: _ClassVar[int]
    party: str
    bytes_sent: int
    bytes_received: int
    peak_memory_bytes: int
    certified_lipschitz: float
    def __init__(self, party: _Optional[str] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., certified_lipschitz: _Optional[float] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("run", "attempt", "job")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: str
    attempt: int
    job: str
    def __init__(self, run: _Optional[str] = ..., attempt: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...
