"""What every argument of every shipped part takes: the keys that stand beside a ``_target_``.

Written like ``finemask.config.keys``; above the arguments stands whose they are, by the last word of the ``_target_``
(``AdamW()``). A part of somebody's own is not in here: what it takes, it says itself.
"""

ARGUMENTS = """
[CocoDataModule()]
root train images: path!
val: null | path!
test: null | path
image augment: null | keys
batch_size: auto | 1..1000000
eval_batch_size: null | 1..1000000
num_workers: auto | 0..1024
pin_memory: auto | flag
min_visible_px: 0..
max_instances: null | 1..
empty_images: keep | drop | 0.0..1.0
repeat_threshold: null | >0.0..1.0
held_out: null | text
allow_missing_categories check: flag!
cache: auto | path | null
seed: 0..4294967295
[draw_shapes()]
output: path!
images: 2..
size: 64..4096
seed: 0..4294967295
[Trainer()]
accelerator: text!
devices: -1 | 1.. | [0..] | text!
num_nodes: 1..100000
strategy: text | keys
precision: auto | 32-true | bf16-mixed | 16-mixed | bf16-true | 16-true | 64-true | 32 | 16!
max_epochs: -1 | 1.. | null!
max_steps: -1 | 1..!
max_time: null | duration | keys
gradient_clip_val: null | 0.0..!
accumulate_grad_batches log_every_n_steps: 1..
check_val_every_n_epoch: 1..!
limit_train_batches limit_val_batches: 1.. | >0.0..1.0
deterministic: flag | warn
benchmark: null | flag
fast_dev_run: flag | 1..
detect_anomaly: flag
overfit_batches: 0.. | 0.0..1.0
profiler: null | simple | advanced | pytorch | keys
[SGD() AdamW()]
lr: >0.0..1000.0!
weight_decay: null | 0.0..1000.0!
foreach fused: null | flag
[SGD()] momentum: 0.0..1.0
nesterov: flag
[cosine() multistep()]
warmup: 0.0..1.0
max_warmup_steps: 0..
[cosine()] final: 0.0..1.0
[multistep()] milestones: [>0.0..1.0]*
gamma: >0.0..1000.0
[LearningRateMonitor()] logging_interval: null | step | epoch
[ValidationPictures()]
count: 0..
threshold: 0.0..1.0
[EarlyStopping()]
monitor: text!
mode: max | min
patience: 1..
check_finite: flag
[CsvLogger()] path: path!
[TensorBoard()]
save_dir: null | path!
monitor: text
name version: any
[WeightsAndBiases()]
run_dir: null | path
project: text
name: null | text
offline: flag
[MLflow()]
run_dir output: null | path
experiment: text
name tracking_uri: null | text
[TensorBoardLogger()]
save_dir: null | path!
name version: any
[resnet_fpn() mobilenet_fpn() timm_fpn() torchvision_fpn() small_fpn()]
name: text!
out_channels: 1..16384
norm: auto | frozen_bn | bn | sync_bn | gn!
norm_eps: >0.0..1.0
fpn_norm: none | bn | sync_bn | gn
[small_fpn()] channels: [1..16384]4
[fpn_anchors()]
sizes: [>0.0..100000.0]
aspect_ratios: [>0.0..1000.0]
fit: default | auto
[two_mlp()] representation_size: 1..16384
[conv_fc()]
channels: [1..16384]
representation_size: 1..16384
[mask_convs()]
channels: [1..16384]
norm: none | bn
[CosineBoxPredictor()] scale: >0.0..1000000.0
[CascadeBoxPredictor()]
iou_thresholds: [>0.0..1.0]
bbox_reg_weights: [[>0.0..]4]
[IterativeBoxPredictor()]
passes: 1..1000
vote_iou_thresh: 0.0..1.0
[multi_expert()]
assign: aspect | learned
predictor: shared | own
aspect_thresh: 1.0..1000.0
num_experts: 2..1000
hidden_channels: 1..16384
warmup_steps: 0..
balance: 0.0..1000000.0
mixing: hard | soft
[DeepFCNMaskPredictor()]
depth: 1..64
norm: gn | bn | none
[MaskIoUMaskPredictor()]
pyramid_channels representation_size: 1..16384
channels: [1..16384]
loss_weight: 0.0..1000000.0
[PointRendMaskPredictor()]
pyramid_channels point_channels: 1..16384
point_depth: 1..64
train_points: 1..100000
oversample: 1.0..1000.0
importance: 0.0..1.0
subdivisions: 1..8
test_points: 1..1000000
loss_weight: 0.0..1000000.0
[CrossEntropyLoss()] class_weights: null | auto | [0.0..]
[FocalLoss()]
gamma: 0.0..100.0
class_weights: null | auto | [0.0..]
[LabelSmoothingLoss()]
smoothing: 0.0..1.0
class_weights: null | auto | [0.0..]
[SmoothL1BoxLoss()]
beta: >0.0..1000.0
weight: 0.0..1000000.0
[L1BoxLoss() GIoUBoxLoss() DIoUBoxLoss() CIoUBoxLoss() BCEMaskLoss()] weight: 0.0..1000000.0
[BoundaryMaskLoss()]
weight boundary_weight: 0.0..1000000.0
width: 1..14
[DiceBCEMaskLoss()]
bce_weight dice_weight: 0.0..1000000.0
smooth: >0.0..1000000.0
[EdgeMaskLoss()] bce_weight edge_weight emphasis: 0.0..1000000.0
exponent: 1.0..16.0
[RandomSampler() OHEMSampler()]
batch_size_per_image: 1..1000000
positive_fraction: 0.0..1.0
[NMS() ClassAgnosticNMS()] iou_thresh: 0.0..1.0
[MaskNMS()] iou_thresh box_iou_thresh: 0.0..1.0
candidates: 1.0..1000.0
class_agnostic: flag
[SoftNMS()] method: linear | gaussian
iou_thresh min_score: 0.0..1.0
sigma: >0.0..1000.0
[AlbumentationsAugmentation() TorchAugmentation()] transforms: [keys]*
[LargeScaleJitter()]
size: 32..16384
scale: [>0.0..100.0]2
[Mosaic()]
size: 32..16384
probability: 0.0..1.0
centre: [0.0..1.0]2
zoom: [>0.0..100.0]2
[CopyPaste()]
probability min_visible: 0.0..1.0
images max_instances: 1..
blend_px: 0.0..1000.0
"""
