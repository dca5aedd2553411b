"""What every key of every verb takes, in the language of ``finemask.config.kinds``.

They stand here together, since a key's kind is the same wherever it is set: typed, in an experiment, in an own file or
in a run's ``config.yaml``. A line is keys and their kind, with ``!`` behind it where the key must be there. Above them
stands whose keys they are: of a verb, named as its file in configs (``data_check``), or of a section in it
(``evaluate.data``); of a section in any verb (``.image``). What the shipped parts take stands in ``part_arguments.py``.

A test asks for an entry for every shipped key.
"""

from finemask.config.part_arguments import ARGUMENTS

_OF_VERBS = """
[train data_preview plan sweep]
name monitor: text!
output: path!
seed: 0..4294967295!
prepare: null | keys!
resume: null | auto | path!
mode: max | min!
max_detections: auto | 1..!
threshold: auto | 0.0..1.0!
backend: fast | pycocotools!
learning_curve: null | [>0.0..1.0]!
folds: null | 2..
find_lr: flag
seeds: 1..
group_by: text | [text]
budget: null | time_span
checkpoint_every: time_span
recompute_backbone: flag
compile: null | default | reduce-overhead | max-autotune!
run_dir: null | path!
plan: auto | none
planned: null | [keys]*
data augment model transfer optimizer scheduler trainer callbacks logger: keys!
preset: keys
[evaluate predict serve demo]
suppression: null | nms | class_agnostic | soft_linear | soft_gaussian | mask | mask_agnostic!
nms_thresh: null | 0.0..1.0!
detections_per_img: null | 1..!
tta: null | flip | 32..8192 | [flip | 32..8192]!
tile: null | auto | 64..65535!
overlap: 0.0..0.9!
[evaluate predict] refine: null | sobel!
[evaluate data_suspects export]
data: keys!
split: train | val | test!
[evaluate data_suspects]
predictions annotations images: null | path!
output: path!
device: device!
trust: text | [text]*!
batch_size: 1..!
num_workers: auto | 1..1024!
[evaluate.data data_suspects.data export.data]
root train val test: null | path!
images: path!
image: keys
[evaluate]
model: null | path!
iou_types: auto | bbox | segm | [bbox | segm | boundary]!
max_detections: auto | 1..!
threshold: auto | model | 0.0..1.0!
operating_iou: >0.0..1.0!
backend: fast | pycocotools!
[compare] a b output: path!
annotations images: null | path!
split: val | test!
iou_types: auto | bbox | segm | [bbox | segm]!
max_detections: auto | 1..!
examples: 0..!
[predict serve demo export share info] model: path!
[predict serve demo export share benchmark] trust: text | [text]*!
[predict serve demo]
image: keys!
threshold: auto | best_f1 | precision_90 | recall_90 | 0.0..1.0 | scores!
device: device!
[predict]
batch_size: 1..!
engine: local | ray!
ray: keys!
output: path!
source save: path | [path]!
annotations: null | path!
pixel_size: null | auto | text!
color_by: instance | class!
stride: 1..!
fps: null | >0.0..!
max_frames: null | 1..!
skip_existing allow_private_urls: flag!
[export] format: onnx | openvino | torch_export | torchscript | torchvision!
precision: fp32 | fp16 | int8!
output: null | path!
images: null | path | [path]!
[serve demo]
host: path!
port: 0..65535!
token: null | text!
token_file label_studio_url label_studio_files: null | path!
anonymous allow_urls: flag!
allowed_hosts cors_origins: [text]*!
at_once queue_size max_mb max_megapixels buffer_mb max_connections: 1..!
timeout_s: >0.0..3600.0!
log: lines | json | none!
[demo] browser: flag!
[share]
to: path!
license: null | text!
pictures: null | path | [path]!
private: flag!
[info doctor] json: flag!
[config] action: text!
name: null | text!
destination config_dir: null | path!
[benchmark] work: [data | train | predict | evaluate]!
images objects batch_size rounds: 1..!
height width: 32..16384!
device: device!
precision: auto | 32-true | bf16-mixed | 16-mixed!
model_file output: null | path!
seed: 0..4294967295!
augment model: keys!
[data_check]
annotations: path | [path]!
images: null | path | [null | path]!
fix: null | path | [path]!
suspects report: null | path!
strict remove open_images: flag!
crowds: keep | objects | all!
boxes: keep | rectangle | drop!
image: keys!
min_size max_size: 32..16384!
detection_cap: auto | 1..!
[data_convert]
source output: path!
format: auto | coco | yolo | voc | labelme | cvat | via | mask_png!
to: coco | yolo | labelme | mask_png!
images: link | copy | none!
boxes: keep | rectangle | drop!
crowds: keep | objects | all!
remove: flag!
tolerance_px: 0.0..100.0!
image_root: null | path!
classes: null | text | [text]!
attribute: null | text!
mask_values: auto | instance | class_instance!
[data_preview]
output: path!
n: 1..!
split: train | val | test!
epoch: 0..!
color_by: auto | instance | class!
[launcher]
cluster: slurm | local!
submitit_folder: path!
name: text
timeout_min nodes tasks_per_node cpus_per_task array_parallelism: 1..
gpus_per_node: null | 0..
mem_gb: null | >0.0..
partition qos account: null | text
setup: [text]*
additional_parameters: keys
[sweep.space] augment transfer: any
[sweep.space.optimizer] lr weight_decay: any
[sweep.space.optimizer.lr sweep.space.optimizer.weight_decay] times: [>0.0..]2
[sweep]
space: keys!
trials: 1..!
jobs: 1..1024!
startup: 1..!
prune: flag!
confirm: 0..1000!
[data_split]
annotations output: path!
images: null | path!
fractions: [>0.0..1.0]!
folds: null | 2..!
group_by: text | [text]!
stratify: flag!
seed: 0..4294967295!
[data_stats]
annotations output: path!
images: null | path!
image model: keys!
sample: null | 1..!
[data_suspects]
model: null | path | [path]!
min_score: 0.0..1.0!
max_suspects: 1..!
[data_synth]
output: path!
images: 2..!
size: 64..4096!
seed: 0..4294967295!
val_fraction: 0.0..1.0!
[data_tile]
annotations images: path | [path]!
output: path!
size: 16..65535!
image: keys!
overlap: 0.0..0.9!
min_visible: 0.0..1.0!
slivers: ignore | drop!
empty_tiles: keep | drop | 0.0..1.0!
format: auto | png | jpg!
quality: 1..100!
reader: auto | pillow | vips!
seed: 0..4294967295!
[.image .data.image]
page: null | 0..!
range: null | auto | full | image | [number]2!
channels: null | 0.. | [0..]1 | [0..]3!
[.ray]
address: null | text!
workers: auto | 1..!
cpus: >0.0..!
gpus: 0.0..!
chunk: 1..!
[.preset]
name: text
batch_size: 1..
[.model]
name: text!
preset: null | text
weights: path!
class_transfer: auto | none | keys
min_size: 32..16384 | [32..16384]!
max_size: 32..16384!
clahe: 0.0..1000.0
image_mean: [0.0..1.0]3!
image_std: [>0.0..10.0]3!
backbone anchors rpn box_head mask_head roi_heads box_predictor mask_predictor box_loss mask_loss sampler: keys!
class_loss suppression: keys
[.model.rpn]
conv_depth: 1..16!
pre_nms_top_n_train pre_nms_top_n_test post_nms_top_n_train post_nms_top_n_test batch_size_per_image: 1..1000000!
nms_thresh fg_iou_thresh bg_iou_thresh positive_fraction score_thresh: 0.0..1.0!
[.model.roi_heads]
sampling_ratio: 1..16!
canonical_scale: >0.0..16384.0
fg_iou_thresh bg_iou_thresh score_thresh nms_thresh: 0.0..1.0!
bbox_reg_weights: [>0.0..]4!
detections_per_img: auto | 1..1000000!
[.transfer]
trainable_stages: 0..5!
freeze: [pattern]*
unfreeze: [0.0..]*
backbone_lr_scale: 0.0..
layer_decay: >0.0..1.0
[.callbacks] learning_rate pictures curves early_stopping: null | keys
[.logger] csv tensorboard wandb mlflow: null | keys
"""


def _tables(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    holders: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith("["):
            head, _, line = line[1:].partition("]")
            holders = head.split()
        keys, _, kind = line.partition(": ")
        for holder in holders:
            found.setdefault(holder, {}).update(dict.fromkeys(keys.split(), kind))
    return found


KINDS = _tables(_OF_VERBS + ARGUMENTS)
