"""The teachers of a run at work: where they are, whose encoder they use, and what they say of a batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PreTrainedModel

from seq2seq_distill.config import EnsembleConfig
from seq2seq_distill.data.teacher_cache import unpack
from seq2seq_distill.data.teacher_inputs import teacher_batch
from seq2seq_distill.losses.chunks import Ensemble, Head
from seq2seq_distill.losses.sparse import SparseTeacher
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.utils.constants import IGNORE_INDEX

T = TypeVar("T")


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teachers say of a batch; N is its number of labels."""

    distributions: tuple[Head, Tensor] | Ensemble | SparseTeacher
    """The teacher's head and hidden states [N, H]; several teachers as one; or cached outputs."""
    forward_pass: ForwardPass | None
    """The teacher's, of an ensemble the first one's; None where outputs are cached."""


class TeacherRunner:
    """Runs the teachers of a student; all of them are frozen, and none is a submodule of the module that holds this.

    Args:
        student: if its encoder is frozen and equals the encoder of every teacher, one encoder pass serves both.
        by_task: the teacher of each task; None where the batches bring its cached outputs.
        extra_teachers: teachers of the same vocabulary that form an ensemble with the only one of `by_task`.
        ensemble: how they are combined.
        separate_inputs: whether the batches bring sources for the teachers alone, see `teacher_batch`.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        by_task: Sequence[Teacher | None],
        extra_teachers: Sequence[Teacher] = (),
        ensemble: EnsembleConfig | None = None,
        separate_inputs: bool = False,
    ) -> None:
        self._by_task = tuple(by_task)
        self.teachers: tuple[Teacher, ...] = tuple(dict.fromkeys(filter(None, by_task)))
        """Those of the tasks, each once."""
        self.extra_teachers = tuple(extra_teachers)
        self._ensemble = ensemble or EnsembleConfig()
        self.shares_encoder = (
            bool(self.teachers)
            and not separate_inputs
            and all(encoder_is_shared(student, teacher.model) for teacher in self.teachers)
        )
        """Whether one encoder pass serves the student and its teachers."""
        if self.shares_encoder:
            for teacher in self.teachers:
                teacher.share_encoder(student.get_encoder())

    @property
    def models(self) -> list[PreTrainedModel]:
        """Of the tasks' teachers."""
        return [teacher.model for teacher in self.teachers]

    # Placement

    def to(self, device: torch.device, *, sharded: bool = False) -> None:
        """Move the teachers to a device; those of which a sharded copy runs stay where they are."""
        for teacher in () if sharded else self.teachers:
            teacher.to(device, encoder=not self.shares_encoder)
        for teacher in self.extra_teachers:
            teacher.to(device)

    def shard(self, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
        """Spread the teachers over the processes of `mesh`."""
        for teacher in self.teachers:
            teacher.shard(mesh, policy)

    def drop_shards(self) -> None:
        """Let whole models run again."""
        for teacher in self.teachers:
            teacher.drop_shards()

    # Outputs

    def run(
        self,
        batch: Batch,
        student: ForwardPass,
        features: Iterable[Feature],
        function: Callable[[TeacherOutputs], T],
    ) -> T:
        """Call `function` with what the teachers of the batch's task say, and return its result.

        A function, since the head of a sharded teacher is whole only while the teacher is gathered.

        Args:
            batch: [B, ...] fields; `task` is the number of its task, 0 if missing.
            student: the student's pass, whose decoder inputs the teachers get.
            features: inner states of the (first) teacher to capture.
            function: computes the losses.
        """
        teacher = self._by_task[batch.get("task", 0)]
        if teacher is None:
            return function(TeacherOutputs(SparseTeacher(*unpack(batch)), None))
        return teacher.run_gathered(lambda: function(self._outputs(teacher, batch, student, frozenset(features))))

    def _outputs(
        self, teacher: Teacher, batch: Batch, student: ForwardPass, features: frozenset[Feature]
    ) -> TeacherOutputs:
        forward_pass = self._forward_pass(teacher, batch, student, features)
        first = (forward_pass.head, forward_pass.hidden)
        if not self.extra_teachers:
            return TeacherOutputs(first, forward_pass)
        members = [first, *(self._ensemble_member(extra, batch, student) for extra in self.extra_teachers)]
        weights = self._ensemble.weights or [1.0] * len(members)
        return TeacherOutputs(Ensemble(members, weights, self._ensemble.combine), forward_pass)

    @torch.no_grad()
    def _forward_pass(
        self, teacher: Teacher, batch: Batch, student: ForwardPass, features: frozenset[Feature]
    ) -> ForwardPass:
        shared = {f: student.features[f] for f in features if self.shares_encoder and f.side == "encoder"}
        inputs = teacher_batch(batch)
        with capture_features(teacher.running, features - shared.keys(), inputs["attention_mask"].shape[1]) as captured:
            state = student.encoder_state if self.shares_encoder else teacher.encode(inputs)
            hidden = teacher.decode(inputs, state, student.decoder_input_ids)
        return ForwardPass(
            head=forward.output_head(teacher.running),
            encoder_state=state,
            decoder_input_ids=student.decoder_input_ids,
            hidden=hidden[batch["labels"] != IGNORE_INDEX],
            labels=student.labels,
            features=captured | shared,
        )

    def _ensemble_member(self, teacher: Teacher, batch: Batch, student: ForwardPass) -> tuple[Head, Tensor]:
        inputs = teacher_batch(batch)
        hidden = teacher.decode(inputs, teacher.encode(inputs), student.decoder_input_ids)
        return forward.output_head(teacher.model), hidden[batch["labels"] != IGNORE_INDEX]


def encoder_is_shared(student: PreTrainedModel, teacher: PreTrainedModel) -> bool:
    """Whether the student's encoder is frozen and has exactly the weights of the teacher's."""
    weights, expected = student.get_encoder().state_dict(), teacher.get_encoder().state_dict()
    return (
        not any(parameter.requires_grad for parameter in student.get_encoder().parameters())
        and architectures.architecture_of(student) == architectures.architecture_of(teacher)
        and weights.keys() == expected.keys()
        and all(
            weight.shape == expected[name].shape and torch.equal(weight, expected[name])
            for name, weight in weights.items()
        )
    )
