"""ME R-CNN: several box heads, each for its own kind of region, assigned by shape or by a learnt network."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from finemask.model.box_predictor.box_branch import POOLED_BOX, BoxBranch, BoxContext, box_losses
from finemask.model.box_predictor.linear import LinearBoxPredictor
from finemask.model.samplers import Sample


class ExpertBoxPredictor(BoxBranch, LinearBoxPredictor):
    """Mixture of box heads; derived classes assign RoIs to them.

    Every expert is a box head; the first is the model's, the others begin as copies of it, so that before the first
    step, whatever weights were loaded, all of them together are the plain model.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        num_experts: E.
        predictor: ``shared``: one for all experts, or ``own``: one for each.

    Raises:
        ValueError: no expert, or another word for ``predictor``.
    """

    def __init__(self, in_channels: int, num_classes: int, num_experts: int = 3, predictor: str = "shared") -> None:
        super().__init__(in_channels, num_classes)
        if num_experts < 1 or predictor not in ("shared", "own"):
            raise ValueError(f"num_experts is at least 1, predictor shared or own, not {num_experts} and {predictor}")
        self.num_experts = num_experts
        self.heads = nn.ModuleList()  # of all experts but the first
        self.predictors = nn.ModuleList()  # of all experts but the first, if each has its own
        for _ in range(num_experts - 1 if predictor == "own" else 0):
            own = LinearBoxPredictor(in_channels, num_classes)
            own.load_state_dict({name: value for name, value in self.state_dict().items() if name in own.state_dict()})
            self.predictors.append(own)

    def attach(self, box_head: nn.Module, channels: int) -> None:
        """See ``BoxBranch``."""
        self.heads.extend(deepcopy(box_head) for _ in range(self.num_experts - 1))

    def seeds(self) -> dict[str, str]:
        """See ``BoxBranch``."""
        copies = [("heads", "box_head", part) for part in self.heads.named_children()]
        copies += [("predictors", "box_predictor", part) for part in self.predictors.named_children()]
        return {
            f"box_predictor.{group}.{number}.{name}": f"{plain}.{name}"
            for group, plain, (number, part) in copies
            for name in part.state_dict()
        }

    def expert(self, context: BoxContext, number: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [R, C, 7, 7] to one expert's logits [R, K + 1] and deltas [R, 4 (K + 1)]."""
        head = self.heads[number - 1] if number else context.box_head
        predictor = self.predictors[number - 1] if number and len(self.predictors) else self
        logits, deltas = predictor(head(pooled))
        return logits.float(), deltas.float()

    def routed(self, context: BoxContext, pooled: Tensor, assignment: Tensor) -> tuple[Tensor, Tensor]:
        """Every RoI's logits and deltas by the expert that it is assigned to.

        Args:
            context: of the batch.
            pooled: [R, C, 7, 7].
            assignment: int64 [R], 0..E-1.

        Returns:
            Logits [R, K + 1] and deltas [R, 4 (K + 1)]. An expert without any RoI takes part with none, so that its
            parameters have a gradient, of zeros, on each process of a distributed training.
        """
        rows = [torch.where(assignment == number)[0] for number in range(self.num_experts)]
        parts = [self.expert(context, number, pooled[chosen]) for number, chosen in enumerate(rows)]
        back = torch.cat(rows).argsort()
        logits, deltas = (torch.cat(part)[back] for part in zip(*parts, strict=True))
        return logits, deltas


SQUARE, WIDE, TALL = 0, 1, 2  # numbers of the experts


class AspectExperts(ExpertBoxPredictor):
    """An expert each for square, wide and tall RoIs, after ME R-CNN.

    Lee, Eum & Kwon 2017, "ME R-CNN: Multi-Expert R-CNN for Object Detection" (arXiv 1704.01069v1), has experts for
    horizontally elongated, square-like and vertically elongated RoIs. What separates the three is not in what we could
    read of it: this is our reconstruction. The same proposals are used in training and in evaluation.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        predictor: ``shared``: one for all experts, or ``own``: one for each.
        aspect_thresh: an RoI is wide if its width over height is larger, tall if it is smaller than the inverse.

    Raises:
        ValueError: a threshold below 1.
    """

    def __init__(
        self, in_channels: int, num_classes: int, predictor: str = "shared", aspect_thresh: float = 2**0.5
    ) -> None:
        super().__init__(in_channels, num_classes, num_experts=3, predictor=predictor)
        if aspect_thresh < 1:
            raise ValueError(f"aspect_thresh is at least 1, not {aspect_thresh}")
        self.aspect_thresh = aspect_thresh

    def predict(self, context: BoxContext, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See ``BoxBranch``."""
        return self.routed(context, context.pool(boxes), expert_by_aspect(torch.cat(boxes), self.aspect_thresh))


def expert_by_aspect(boxes: Tensor, aspect_thresh: float) -> Tensor:
    """Boxes [R, 4], xyxy px, to the number of the expert for their shape, int64 [R]."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    wide, tall = width > aspect_thresh * height, height > aspect_thresh * width
    return SQUARE + WIDE * wide.long() + TALL * tall.long()


_BETA = 1 / 9  # where smooth L1 turns linear, as in the plain loss


class LearnedExperts(ExpertBoxPredictor):
    """Experts with an expert assignment network (EAN), after ME R-CNN.

    Lee, Eum & Kwon, "ME R-CNN" (arXiv 1704.01069v3), learn the assignment "without any supervision of expert
    assignment", end to end. Their loss is not in what we could read of it; what follows is our reconstruction. The
    network is a small one on the pooled feature, through which no gradient flows back. Its target is the expert whose
    classification and box loss of the RoI is least; RoIs on which all experts are equally good teach it nothing, and a
    term for balance (Fedus et al. 2021, arXiv 2101.03961, equation 4) keeps it from choosing one expert always: it is
    the balanced choice of a network with random weights that tells equal experts apart. In the first steps every RoI
    trains all experts; after these, the one that the network chooses. In training all experts see all RoIs.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        predictor: ``shared``: one for all experts, or ``own``: one for each.
        num_experts: E.
        hidden_channels: width of the network.
        warmup_steps: training batches in which every RoI trains all experts.
        balance: factor of the term for balance.
        mixing: in evaluation, ``hard``: the chosen expert decides, or ``soft``: all do, by their probability.

    Raises:
        ValueError: another word for ``mixing``.
    """

    num_batches_tracked: Tensor  # torch's name for a count of training batches

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        predictor: str = "shared",
        num_experts: int = 3,
        hidden_channels: int = 64,
        warmup_steps: int = 500,
        balance: float = 0.01,
        mixing: str = "hard",
    ) -> None:
        super().__init__(in_channels, num_classes, num_experts, predictor)
        if mixing not in ("hard", "soft"):
            raise ValueError(f"mixing is hard or soft, not {mixing}")
        self.hidden_channels = hidden_channels
        self.warmup_steps = warmup_steps
        self.balance = balance
        self.mixing = mixing
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def attach(self, box_head: nn.Module, channels: int) -> None:
        """See ``BoxBranch``."""
        super().attach(box_head, channels)
        self.assigner = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * POOLED_BOX**2, self.hidden_channels),
            nn.ReLU(),
            nn.Linear(self.hidden_channels, self.num_experts),
        )

    def predict(self, context: BoxContext, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See ``BoxBranch``."""
        pooled = context.pool(boxes)
        choice = self.assigner(pooled).float()
        if self.mixing == "hard":
            return self.routed(context, pooled, choice.argmax(dim=1))
        logits, deltas = self._all(context, pooled)
        share = choice.softmax(dim=1).t()[..., None]  # [E, R, 1]
        return (share * logits).sum(dim=0), (share * deltas).sum(dim=0)

    def losses(self, context: BoxContext, samples: list[Sample]) -> dict[str, Tensor]:
        """See ``BoxBranch``."""
        pooled = context.pool([sample.boxes for sample in samples])
        logits, deltas = self._all(context, pooled)
        choice = self.assigner(pooled.detach()).float()
        if int(self.num_batches_tracked) < self.warmup_steps:
            each = [
                box_losses(context.box_loss, context.box_coder, *of_expert, samples)
                for of_expert in zip(logits, deltas, strict=True)
            ]
            found = {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}
        else:
            rows = torch.arange(len(pooled), device=pooled.device)
            chosen = choice.argmax(dim=1)
            found = box_losses(context.box_loss, context.box_coder, logits[chosen, rows], deltas[chosen, rows], samples)
        self.num_batches_tracked += 1
        costs = roi_costs(context, logits.detach(), deltas.detach(), samples)
        return found | {"loss_expert_assignment": assignment_loss(choice, costs, self.balance)}

    def _all(self, context: BoxContext, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [E, R, K + 1] and deltas [E, R, 4 (K + 1)] of all experts."""
        each = [self.expert(context, number, pooled) for number in range(self.num_experts)]
        logits, deltas = (torch.stack(part) for part in zip(*each, strict=True))
        return logits, deltas


def roi_costs(context: BoxContext, logits: Tensor, deltas: Tensor, samples: list[Sample]) -> Tensor:
    """Classification and box loss of every expert on every RoI alone, float [R, E].

    Always cross entropy and smooth L1, whatever the model's loss: that is asked for its mean over a batch only.
    """
    labels = torch.cat([sample.labels for sample in samples])
    boxes = torch.cat([sample.boxes for sample in samples])
    gt_boxes = torch.cat([sample.gt_boxes for sample in samples])
    wanted = context.box_coder.encode_single(gt_boxes, boxes)
    rows = torch.arange(len(labels), device=labels.device)
    costs = []
    for its_logits, its_deltas in zip(logits, deltas, strict=True):
        of_label = its_deltas.reshape(len(labels), its_logits.shape[1], 4)[rows, labels]
        off = functional.smooth_l1_loss(of_label, wanted, beta=_BETA, reduction="none").sum(dim=1)
        costs.append(functional.cross_entropy(its_logits, labels, reduction="none") + torch.where(labels > 0, off, 0.0))
    return torch.stack(costs, dim=1)


def assignment_loss(choice: Tensor, costs: Tensor, balance: float) -> Tensor:
    """The loss of the network that assigns experts.

    Args:
        choice: logits [R, E].
        costs: of every expert on every RoI, [R, E].
        balance: factor of the second term.

    Returns:
        Cross entropy with the cheapest expert, over RoIs whose experts differ; plus E · Σ (share of RoIs that choose
        e) · (mean probability of e), which is least when all experts are chosen equally often. Zero without RoIs.
    """
    if not len(choice):
        return choice.sum() * 0.0
    num_experts = choice.shape[1]
    differ = costs.amax(dim=1) > costs.amin(dim=1)
    entropy = functional.cross_entropy(choice, costs.argmin(dim=1), reduction="none")
    share = functional.one_hot(choice.argmax(dim=1), num_experts).float().mean(dim=0)
    evenness = num_experts * (share * choice.softmax(dim=1).mean(dim=0)).sum()
    return (entropy * differ).sum() / differ.sum().clamp(min=1) + balance * evenness


def multi_expert(
    in_channels: int,
    num_classes: int,
    assign: str = "aspect",
    predictor: str = "shared",
    aspect_thresh: float = 2**0.5,
    num_experts: int = 3,
    hidden_channels: int = 64,
    warmup_steps: int = 500,
    balance: float = 0.01,
    mixing: str = "hard",
) -> ExpertBoxPredictor:
    """ME R-CNN's box predictor (arXiv 1704.01069), as far as it can be reconstructed.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        assign: ``aspect``, by the shape of an RoI (see ``AspectExperts``), or ``learned`` (see ``LearnedExperts``).
        predictor: ``shared``: one for all experts, or ``own``: one for each.
        aspect_thresh: of ``aspect``.
        num_experts: of ``learned``; ``aspect`` has three.
        hidden_channels: of ``learned``.
        warmup_steps: of ``learned``.
        balance: of ``learned``.
        mixing: of ``learned``.

    Raises:
        ValueError: an unknown word, or a number that cannot be meant.
    """
    if assign == "learned":
        return LearnedExperts(
            in_channels, num_classes, predictor, num_experts, hidden_channels, warmup_steps, balance, mixing
        )
    if assign != "aspect":
        raise ValueError(f"assign is aspect or learned, not {assign}")
    if num_experts != 3:
        raise ValueError(f"assign=aspect has 3 experts, not {num_experts}; assign=learned may have any number")
    return AspectExperts(in_channels, num_classes, predictor, aspect_thresh)
