import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import Weights, WeightsEnum

from kennel.classifier.network.model import (
    Pretrained,
    build,
    check_train_layers,
    download,
    find_pretrained,
    freeze,
    freeze_backbone,
    head_parameters,
    load_backbone,
    outline,
    read_weights,
    set_training_mode,
    stage_names,
)
from kennel.contract.errors import ModelError

HEADS = {
    "resnet18": {"fc.weight", "fc.bias"},
    "mobilenet_v2": {"classifier.1.weight", "classifier.1.bias"},
    "squeezenet1_1": {"classifier.1.weight", "classifier.1.bias"},
    "vit_b_16": {"heads.head.weight", "heads.head.bias"},
    "swin_t": {"head.weight", "head.bias"},
    "densenet121": {"classifier.weight", "classifier.bias"},
    "inception_v3": {"fc.weight", "fc.bias"},
    "maxvit_t": {"classifier.5.weight"},
    "regnet_y_400mf": {"fc.weight", "fc.bias"},
}


@pytest.mark.parametrize("arch", HEADS)
def test_the_head_is_found_whatever_it_is_called(arch: str) -> None:
    assert head_parameters(arch) == HEADS[arch]


@pytest.mark.parametrize("arch", ["resnet18", "regnet_x_400mf", "swin_v2_t"])
def test_an_outline_has_every_name_and_shape_and_no_weights(arch: str) -> None:
    drawn, whole = outline(arch, 5), build(arch, 5)
    assert [(n, t.shape) for n, t in drawn.state_dict().items()] == [
        (n, t.shape) for n, t in whole.state_dict().items()
    ]
    assert all(parameter.is_meta for parameter in drawn.parameters())


def test_an_unknown_architecture_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Unknown architecture 'resnet19'. Did you mean 'resnet1"):
        build("resnet19", 2)


def test_backbone_weights_are_taken_and_a_foreign_head_is_left() -> None:
    source, model = build("resnet18", 1000), build("resnet18", 3)
    head = head_parameters("resnet18")
    fresh = load_backbone(model, Pretrained(source.state_dict(), "a test"), head)
    assert set(fresh) == head
    assert torch.equal(model.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])


def test_a_state_dict_without_a_head_is_welcome() -> None:
    source = {n: t for n, t in build("resnet18", 5).state_dict().items() if not n.startswith("fc.")}
    assert load_backbone(build("resnet18", 3), Pretrained(source, "a test"), head_parameters("resnet18")) == [
        "fc.weight",
        "fc.bias",
    ]


def test_a_head_of_the_same_shape_is_taken_too() -> None:
    source, model = build("resnet18", 3), build("resnet18", 3)
    wrapped = {f"module.{n}": t for n, t in source.state_dict().items()}  # as DistributedDataParallel saves it
    assert load_backbone(model, Pretrained(wrapped, "a test"), head_parameters("resnet18")) == []
    assert torch.equal(model.fc.weight, source.fc.weight)


def test_weights_of_another_architecture_are_refused_with_the_reason() -> None:
    pretrained = Pretrained(build("resnet18", 3).state_dict(), "file x.pth")
    with pytest.raises(ModelError, match="from file x.pth lack .* another architecture than MobileNetV2"):
        load_backbone(build("mobilenet_v2", 3), pretrained, head_parameters("mobilenet_v2"))
    with pytest.raises(ModelError, match="have conv1.weight"):
        state = build("resnet18", 3).state_dict() | {"conv1.weight": torch.zeros(1)}
        load_backbone(build("resnet18", 3), Pretrained(state, "a test"), head_parameters("resnet18"))


def test_a_frozen_backbone_does_not_change_in_training() -> None:
    model = build("resnet18", 3)
    head = head_parameters("resnet18")
    freeze_backbone(model, head)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    set_training_mode(model)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    model(torch.randn(4, 3, 64, 64)).sum().backward()
    optimizer.step()
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == head  # batch statistics included


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_training_from_a_stage_on_freezes_what_comes_before() -> None:
    model = build("resnet18", 3)
    freeze(model, "layer4", head_parameters("resnet18"))
    assert trainable(model) == {n for n, _ in model.named_parameters() if n.startswith(("layer4.", "fc."))}
    set_training_mode(model)
    assert model.layer4[0].bn1.training
    assert not model.layer3[0].bn1.training
    freeze(model, "layer4.1", head_parameters("resnet18"))
    assert trainable(model) == {n for n, _ in model.named_parameters() if n.startswith(("layer4.1.", "fc."))}
    freeze(model, "fc", head_parameters("resnet18"))
    assert trainable(model) == head_parameters("resnet18")
    freeze(model, "all", head_parameters("resnet18"))
    assert trainable(model) == {n for n, _ in model.named_parameters()}


def test_a_stage_is_a_whole_name_and_not_its_beginning() -> None:
    model = build("mobilenet_v2", 3)
    freeze(model, "features.1", head_parameters("mobilenet_v2"))
    assert not any(name.startswith("features.0.") for name in trainable(model))
    assert any(name.startswith("features.1.") for name in trainable(model))


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "vit_b_16", "swin_t", "googlenet", "regnet_y_400mf"])
def test_modules_are_registered_in_the_order_of_the_forward_pass(arch: str) -> None:
    """What `freeze` relies on: a gradient never has to pass a frozen stage to reach a trainable one."""
    model = outline(arch).to("meta")
    called: list[str] = []
    for name in stage_names(model):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    model.eval()(torch.empty(2, 3, 224, 224, device="meta"))
    assert called == stage_names(model)


def test_a_stage_that_is_not_there_is_answered_with_the_nearest_and_all_stages() -> None:
    with pytest.raises(ModelError) as caught:
        check_train_layers("resnet18", "layer5")
    assert str(caught.value) == (
        "Hyperparameter 'train_layers' has value 'layer5', which ResNet does not have. Did you mean 'layer4'? "
        "Use all, head, or a stage: conv1, bn1, layer1, layer2, layer3, layer4, fc."
    )
    with pytest.raises(ModelError, match=r"or a stage: features\.0, .*features\.18, classifier\."):
        check_train_layers("mobilenet_v2", "xyz")
    with pytest.raises(ModelError, match="relu"):
        check_train_layers("resnet18", "relu")  # has no weights
    for known in ("all", "head", "layer2"):
        check_train_layers("resnet18", known)


def weights(folder: Path, name: str, model: nn.Module) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / name)
    return folder


def test_sources_of_weights_are_tried_in_order(tmp_path: Path) -> None:
    model = build("squeezenet1_1", 2)
    channel = weights(tmp_path / "channel", "any.pth", model)
    baked = {"KENNEL_PRETRAINED_DIR": str(weights(tmp_path / "baked", "squeezenet1_1.pth", model))}
    both = find_pretrained("auto", "squeezenet1_1", channel, baked)
    image = find_pretrained("auto", "squeezenet1_1", None, baked)
    assert both is not None
    assert both.source == "channel 'pretrained', file any.pth"
    assert image is not None
    assert image.source == "the image, file squeezenet1_1.pth"
    assert find_pretrained("none", "squeezenet1_1", channel, baked) is None


def test_a_chosen_source_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no channel named 'pretrained'"):
        find_pretrained("channel", "resnet18", None, {})
    with pytest.raises(ModelError, match="no weights for 'resnet18' were baked"):
        find_pretrained("image", "resnet18", None, {"KENNEL_PRETRAINED_DIR": str(tmp_path)})


@pytest.mark.parametrize("names", [[], ["a.pth", "b.pt"]])
def test_the_pretrained_channel_must_hold_one_file(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="exactly one weights file"):
        find_pretrained("auto", "resnet18", tmp_path, {})


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("owned"),))  # type: ignore[return-value]


def test_a_pickle_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(ModelError, match=r"Cannot read the weights in .*evil\.pth"):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_a_whole_checkpoint_is_unwrapped_and_other_things_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "b.pth")
    assert read_weights(tmp_path / "a.pth").keys() == {"a"}
    with pytest.raises(ModelError, match="is not a state dict"):
        read_weights(tmp_path / "b.pth")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WeightsEnum]]:
    """A local server in the place of torchvision's: gives weights under a name with the digest that it is told."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))

    def publish(digest: str) -> WeightsEnum:
        torch.save({"weight": torch.ones(2)}, folder / "w.pth")
        data = (folder / "w.pth").read_bytes()
        name = f"net-{digest or hashlib.sha256(data).hexdigest()[:8]}.pth"
        (folder / name).write_bytes(data)
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        kind: type[WeightsEnum] = WeightsEnum("Local", {"DEFAULT": Weights(url=url, transforms=None, meta={})})  # type: ignore[assignment, call-arg, arg-type]
        return kind["DEFAULT"]

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield publish
        server.shutdown()
        thread.join()


def test_published_weights_are_fetched_and_checked(published: Callable[[str], WeightsEnum]) -> None:
    fetched = download(published(""))
    assert torch.equal(fetched.state["weight"], torch.ones(2))
    assert fetched.source.startswith("torchvision's download")


def test_weights_of_another_digest_are_refused(published: Callable[[str], WeightsEnum]) -> None:
    with pytest.raises(ModelError, match="Cannot download .* invalid hash value"):
        download(published("00000000"))
