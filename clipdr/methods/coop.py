"""CoOp (Zhou et al., 2022): both towers frozen, only the context before the grade's name is trained, by cross-entropy."""

from clipdr.methods.base import Method
from clipdr.models.prompts import Prompts, similarity


class CoOp(Method):
    reads = "feature"

    def __init__(self, backbone, context=16, context_init="", per_class=False, bank="B"):
        super().__init__(backbone)
        self.scale = backbone.scale
        self.prompts = Prompts(
            backbone.text, "names_frozen", context, context_init, per_class, bank
        )

    def forward(self, image):
        return similarity(self.image(image), self.prompts(), self.scale)
