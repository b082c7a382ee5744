"""ATS, our reading (Yang et al., 2021): a student learns from perturbed images to keep its teacher's features; the teacher is its average.

No code and no full text was at hand: the losses, the generator (DDAIG's) and every constant are our reading of the idea, and tables say
so. Ours too: the average's momentum rises to tau as in mean teachers (Tarvainen and Valpola, 2017), so that short runs have a teacher.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F

from clipdr.methods.erm import Erm
from clipdr.methods.perturbation import Generator


class Ats(Erm):
    """strength, width  : of the Generator
    tau              : momentum of the teacher
    feature_weight   : of the student's distance to the teacher's features
    generator_weight : of the distance that the generator seeks between the teacher's features of an image and of its perturbation
    warmup           : share of the training before the generator is trained (3 of 100 epochs)
    """

    reads = "photograph"

    def __init__(
        self,
        backbone,
        strength=0.3,
        tau=0.999,
        feature_weight=1.0,
        generator_weight=1.0,
        warmup=0.03,
        width=64,
    ):
        super().__init__(backbone)
        self.tau, self.warmup = tau, warmup
        self.feature_weight, self.generator_weight = feature_weight, generator_weight
        self.generator = Generator(strength, width)
        self.teacher_image = deepcopy(self.image).requires_grad_(False)
        self.teacher_head = deepcopy(self.head).requires_grad_(False)
        self.register_buffer("warm", torch.tensor(False))

    def begin(self, source):
        self.first = round(self.warmup * source.steps)
        self.warm.fill_(self.first == 0)

    def train(self, mode=True):
        """The teacher stays in evaluation mode: its batch norm uses the statistics copied from the student."""
        super().train(mode)
        self.teacher_image.eval()
        return self

    def forward(self, image):
        return self.teacher_head(self.teacher_image.pooled(image))

    def parameter_groups(self):
        student = [
            parameter
            for module in (self.image, self.head)
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        return {"generator": list(self.generator.parameters()), "main": student}

    def phases(self, batch):
        if self.warm:
            yield "generator", self.generator_loss(batch)
        yield "main", self.loss(batch)

    def generator_loss(self, batch):
        """Keep the teacher's grade, move its features, by a distance of at most 1."""
        new = self.teacher_image.pooled(self.generator(batch.image))
        moved = distance(self.teacher_image.pooled(batch.image), new)
        return {
            "generator_grade": F.cross_entropy(self.teacher_head(new), batch.grade),
            "generator_moved": -(self.generator_weight * moved).clamp(max=1),
        }

    def loss(self, batch):
        """The student's: the grade of both images, and the teacher's features of the photograph from the perturbed one."""
        with torch.no_grad():
            new = self.generator(batch.image)
            taught = self.teacher_image.pooled(batch.image)
        features, new_features = self.image.pooled(batch.image), self.image.pooled(new)
        return {
            "ce": F.cross_entropy(self.head(features), batch.grade),
            "ce_perturbed": F.cross_entropy(self.head(new_features), batch.grade),
            "feature": self.feature_weight * distance(taught, new_features),
        }

    @torch.no_grad()
    def after_step(self, step):
        """The teacher moves towards the student; its buffers (statistics of batch norm) are the student's."""
        self.warm.fill_(step >= self.first)
        tau = min(self.tau, 1 - 1 / (step + 1))
        for teacher, student in ((self.teacher_image, self.image), (self.teacher_head, self.head)):
            for kept, new in zip(teacher.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1 - tau)
            for kept, new in zip(teacher.buffers(), student.buffers(), strict=True):
                kept.copy_(new)


def distance(features, others):
    """Mean squared distance of two sets of features at unit length: (B, F), (B, F) -> scalar in 0..4."""
    return (F.normalize(features, dim=1) - F.normalize(others, dim=1)).square().sum(1).mean()
