"""What TensorBoard can read of a run's configuration."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from finemask.training.tensorboard import TensorBoard


def test_the_configuration_is_there_as_text_and_as_hyperparameters_beside_the_metric(tmp_path):
    board = TensorBoard(str(tmp_path), monitor="val/bbox_AP")
    board.log_hyperparams({"seed": 3, "optimizer": {"lr": 0.5, "fused": None, "betas": [0.9, 0.99]}, "empty": {}})
    board.log_metrics({"val/bbox_AP": 0.25}, step=7)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("configuration/text_summary")
    assert "    lr: 0.5\n" in text.tensor_proto.string_val[0].decode()
    content = events.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert start["optimizer.lr"].number_value == 0.5
    assert start["seed"].number_value == 3
    assert start["optimizer.fused"].string_value == "None"
    assert start["optimizer.betas"].string_value == "[0.9, 0.99]"
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["val/bbox_AP"]
    values = [(event.step, event.value) for event in events.Scalars("val/bbox_AP")]
    assert values == [(7, 0.25)], "no made-up value before the first step"
