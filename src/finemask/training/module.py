"""The LightningModule: it trains, and nothing else."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from finemask.config.config_files import allowed_targets
from finemask.config.moved_targets import with_present_targets
from finemask.errors import ConfigError, FinemaskError, WeightsError
from finemask.model.build import build_model
from finemask.model.devices.gpu.crossing import on_host
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.transfer import set_train_mode
from finemask.model.pretrained.weights import read_torch_file
from finemask.ops.wording import plural
from finemask.training.batch_parts import Batch, PartwiseModule
from finemask.training.callbacks.budget import SCHEDULE_STEPS, Budget
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.optim import SchedulerFactory, Unfreezing, cosine, parameter_groups
from finemask.training.shared_losses import nothing_to_learn, shared_losses, told_by_all
from finemask.types import Category, Detections, Target

log = logging.getLogger(__name__)

_MAX_NON_FINITE_STEPS = 10  # in a row: a training that cannot recover
_ENDLESS = 2**31  # steps: a schedule over so many holds the rate after the warm-up


class MaskRCNNModule(PartwiseModule):
    """Trains a Mask R-CNN that was built and loaded elsewhere; evaluates it by COCO's rules on the datamodule's splits.

    Args:
        model: in any mode; parameters that are not to be trained have ``requires_grad`` off.
        optimizer: called with parameter groups; its ``lr`` and ``weight_decay`` are given apart.
        scheduler: called with the optimiser and ``total_steps``.
        lr: learning rate of everything but the backbone's body.
        weight_decay: of weights of two and more dimensions.
        backbone_lr_scale: factor of ``lr`` for the body.
        seed: with the epoch, decides every random number that the model draws.
        layer_decay: see ``parameter_groups``.
        unfreezing: of parts of the backbone on a schedule.
        categories: in the order of the labels; by default those of the trainer's datamodule. Checkpoints name them, so
            that other trainings can take over rows by name.
        settings: plain values that checkpoints keep: what a resumed run is compared with.

    Attributes:
        settings: see above.
        renew_rates: a resumed run takes rates and decay from ``optimizer`` and ``scheduler``, not from its checkpoint.
    """

    def __init__(
        self,
        model: MaskRCNN,
        optimizer: Callable[..., Optimizer] = AdamW,
        scheduler: SchedulerFactory = cosine,
        lr: float = 5e-4,
        weight_decay: float = 0.05,
        backbone_lr_scale: float = 1.0,
        seed: int = 0,
        layer_decay: float = 1.0,
        unfreezing: Unfreezing | None = None,
        categories: Sequence[Category] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._lr = lr
        self._weight_decay = weight_decay
        self._backbone_lr_scale = backbone_lr_scale
        self._seed = seed
        self._layer_decay = layer_decay
        self._unfreezing = unfreezing
        self.categories = list(categories)
        self.settings = dict(settings or {})
        self.renew_rates = False
        self._own_groups: list[dict[str, Any]] = []
        self._non_finite_steps = 0
        self._learns: bool | None = None  # whether any batch since the last step had a loss that is finite

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # Lightning's takes the arguments that ours does not need
        cls, checkpoint_path: Path | str, map_location: Any = "cpu", trust: str | Collection[str] = (), **options: Any
    ) -> Self:
        """The module of a checkpoint, which holds the model's configuration and categories: nothing else is needed.

        Args:
            checkpoint_path: what a run or a trainer with this module wrote.
            map_location: device of the weights.
            trust: parts of your own that it may name, besides finemask's: dotted names, ``mylab.nets.Backbone``, or
                packages, ``mylab.*``. Losses and a sampler that are neither are only missed in training.
            **options: of the module, such as ``lr``: for a training that goes on.

        Raises:
            WeightsError: it cannot be read, or was written by a version that did not keep the configuration.
            ConfigError: it names a builder that is not allowed.
        """
        path = Path(checkpoint_path)
        content = read_torch_file(path)
        if not isinstance(content, dict) or "model_config" not in content:
            raise WeightsError(
                "it does not hold the configuration of its model",
                where=path,
                remedy="Take the run's model.safetensors, or start from its weights: model.weights=PATH.",
            )
        categories = [Category(**category) for category in content["categories"]]
        try:
            config = with_present_targets(content["model_config"])
            model = build_model(config, len(categories) + 1, allowed=allowed_targets(trust))
        except ConfigError as error:
            raise ConfigError(error.what, where=path, remedy=error.remedy) from error
        module = cls(model, categories=categories, settings=with_present_targets(content.get("settings")), **options)
        module.load_state_dict(content["state_dict"])
        return module.to(map_location)

    def configure_callbacks(self) -> list[pl.Callback]:
        """COCO evaluation, unless the trainer has one of its own."""
        if any(isinstance(callback, CocoEvaluation) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            return []
        return [CocoEvaluation()]

    def setup(self, stage: str) -> None:
        """Learns the categories from the datamodule, where it was not told them.

        Raises:
            ConfigError: the model was built for another number of them.
        """
        if not self.categories:
            self.categories = list(getattr(getattr(self.trainer, "datamodule", None), "categories", ()))
        num_classes = self.model.roi_heads.num_classes
        if self.categories and len(self.categories) + 1 != num_classes:
            raise ConfigError(
                f"the model was built for num_classes={num_classes}, the data have "
                f"{plural(len(self.categories), 'category', 'categories')} and background",
                remedy="Build it with num_classes=data.num_classes.",
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser over the trainable parameters, schedule stepped with it."""
        steps = min(self.trainer.estimated_stepping_batches, _ENDLESS)  # infinite where nothing bounds the training
        if any(isinstance(callback, Budget) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            steps = SCHEDULE_STEPS
        optimizer, scheduler = self.build_optimizer(max(1, int(steps)))
        self._own_groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def build_optimizer(self, total_steps: int) -> tuple[Optimizer, LambdaLR]:
        """Optimiser and schedule as a training of so many steps has them.

        Raises:
            ConfigError: they do not take what they are given.
        """
        groups = parameter_groups(self.model, self._lr, self._weight_decay, self._backbone_lr_scale, self._layer_decay)
        try:
            optimizer = self._optimizer(groups, lr=self._lr)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(str(error).splitlines()[0], where="optimizer") from error
        try:
            return optimizer, self._scheduler(optimizer, total_steps=total_steps)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error).splitlines()[0], where="scheduler") from error

    def set_rate(self, lr: float) -> None:
        """Another learning rate, of a training that has not begun."""
        self._lr = lr

    def on_train_start(self) -> None:
        """Every epoch leaves a trace, also where it has fewer steps than lie between two logged ones.

        The state of a resumed run's optimiser has brought its old rates back: the new ones, where there are such.
        """
        steps = int(min(1e9, self.trainer.num_training_batches)) // self.trainer.accumulate_grad_batches
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.trainer.log_every_n_steps = max(1, min(every, steps))  # type: ignore[attr-defined]
        if self.renew_rates:
            self._renew_rates()
        self.on_train_epoch_start()  # a run that is resumed in the midst of an epoch begins none

    def _renew_rates(self) -> None:
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        schedule.base_lrs = [own["initial_lr"] for own in self._own_groups]
        for group, own, factor in zip(
            schedule.optimizer.param_groups, self._own_groups, schedule.lr_lambdas, strict=True
        ):
            group.update(own, lr=own["initial_lr"] * factor(schedule.last_epoch))

    def on_train_epoch_start(self) -> None:
        """Training mode, but for batch norm layers that are frozen; parts of the backbone whose time has come."""
        if self._unfreezing is not None:
            self._unfreezing.start_epoch(self.current_epoch, alone=self.trainer.world_size == 1)
        set_train_mode(self.model)
        if self._unfreezing is not None:
            self._unfreezing.keep_statistics()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """What is frozen by the schedule is not moved."""
        if self._unfreezing is not None:
            self._unfreezing.drop_gradients()
        if self._learns is False:  # the zeros of several processes; the optimiser passes over what has no gradient
            for parameter in self.model.parameters():
                parameter.grad = None
        self._learns = None

    def losses_of(self, batch: Batch, batch_idx: int) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The sum of the losses; ``None``, which skips the step, if it is not finite; and all of them by name.

        On several processes the sum is what ``shared_losses`` makes of them, and all of them skip a step.
        """
        self._seed_step(batch_idx)
        images, targets = batch
        losses: dict[str, Tensor] = self.model(images, targets)
        if (processes := self.trainer.world_size) > 1:
            rows = {name: self.model.rows_of(name) for name in losses}
            total, of_all = shared_losses(losses, rows, processes)
        else:
            total, of_all = torch.stack(list(losses.values())).sum(), losses
        if not torch.isfinite(total):
            self._note_skipped(losses, targets)
            if processes == 1:
                return None, {}
            self._learns = bool(self._learns)
            return nothing_to_learn(self.model), {}
        self._non_finite_steps, self._learns = 0, True
        return total, {"loss": total, **of_all}

    def log_losses(self, losses: dict[str, Tensor], images: int) -> None:
        """As ``train/loss``, the sum, and its parts, at the steps that are logged."""
        if logs_this_step(self.trainer):
            values = torch.stack([value.detach() for value in losses.values()]).cpu()  # on a GPU one wait for all
            logged = {f"train/{name}": value for name, value in zip(losses, values, strict=True)}
            self.log_dict(logged, batch_size=images)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Detections of the batch; the evaluation callback takes them from here.

        They are those of prediction to the bit, whatever the training's precision and ``compile=`` are: metrics and
        thresholds of a model file are about the model that people load.
        """
        if not batch[0]:  # of several processes one may have no image left
            return []
        with torch.autocast(self.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
            detections: list[Detections] = self.model(batch[0])
        return on_host(detections)

    test_step = validation_step

    def _seed_step(self, batch_idx: int) -> None:
        """The model's random choices follow from (seed, epoch, batch, rank), so that a resumed run makes the same.

        Seeding an epoch is not enough: when a loader draws its own seed differs between a fresh and a resumed run.
        """
        text = f"{self._seed}/{self.current_epoch}/{batch_idx}/{self.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))

    def _note_skipped(self, losses: dict[str, Tensor], targets: Sequence[Target]) -> None:
        self._non_finite_steps += 1
        bad = [name for name, value in losses.items() if not torch.isfinite(value)]
        images = [target["image_id"] for target in targets]
        if (processes := self.trainer.world_size) > 1:
            told = [found for found in told_by_all((bad, images), processes) if found[0]]
            bad = list(dict.fromkeys(name for names, _ in told for name in names))
            images = [image for _, of_process in told for image in of_process]
        log.warning("step %d skipped: %s not finite on images %s", self.global_step, ", ".join(bad), images)
        if self._non_finite_steps >= _MAX_NON_FINITE_STEPS:
            raise FinemaskError(
                f"{', '.join(bad)} not finite for {_MAX_NON_FINITE_STEPS} steps in a row: the training has diverged",
                where=f"epoch {self.current_epoch}, step {self.global_step}",
                remedy="Lower optimizer.lr (a tenth is a good first try), or set trainer.gradient_clip_val=1; with "
                "trainer.precision=16-mixed try bf16-mixed or 32-true.",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing but plain values and tensors may be in there: it is loaded with ``weights_only=True``."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["finemask_version"] = 1
        checkpoint["model_config"] = self.model.config
        if self.categories:
            checkpoint["class_names"] = [category.name for category in self.categories]
            checkpoint["categories"] = [category._asdict() for category in self.categories]
        if self.settings:
            checkpoint["settings"] = self.settings


def logs_this_step(trainer: pl.Trainer) -> bool:
    """Whether this step's numbers will reach a logger. Lightning takes milliseconds to note what it then drops."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return (trainer.global_step + 1) % every == 0
