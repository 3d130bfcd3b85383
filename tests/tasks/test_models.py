"""The networks: known numbers of weights, shapes for every image size, and what they refuse."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from meta_lr.tasks.models import (
    CNN3,
    MLP,
    LeNet,
    ResNet,
    ResNet18,
    WideResNet,
    torchvision_model,
)

TINY_WIDE = functools.partial(WideResNet, depth=10, widen_factor=2, dropout=0.3)
SMALL = [MLP, LeNet, CNN3, functools.partial(ResNet, depth=8), TINY_WIDE]


def _name(model):
    return getattr(model, "func", model).__name__


def _count(model):
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("model", "channels", "size", "classes", "weights"),
    [
        (functools.partial(MLP, hidden=()), 1, 8, 10, 650),
        (functools.partial(MLP, hidden=(300, 100)), 1, 28, 10, 266_610),
        (LeNet, 1, 28, 10, 61_706),
        (LeNet, 1, 32, 10, 61_706),
        (LeNet, 3, 32, 10, 62_006),
        (CNN3, 3, 32, 10, 89_578),
        (functools.partial(ResNet, depth=20), 3, 32, 10, 269_722),
        (functools.partial(ResNet, depth=32), 3, 32, 10, 464_154),
        (functools.partial(ResNet, depth=110), 3, 32, 10, 1_727_962),
        (ResNet18, 3, 32, 10, 11_173_962),
        (functools.partial(WideResNet, depth=16, widen_factor=4), 3, 32, 10, 2_748_890),
        (WideResNet, 3, 32, 10, 36_479_194),
        (functools.partial(torchvision_model, name="resnet18"), 3, 224, 1000, 11_689_512),
    ],
    ids=lambda value: _name(value) if callable(value) else str(value),
)
def test_number_of_weights_is_the_published_one(model, channels, size, classes, weights):
    assert _count(model(in_channels=channels, image_size=size, num_classes=classes)) == weights


@pytest.mark.parametrize("model", SMALL, ids=_name)
@pytest.mark.parametrize("size", [12, 15, 28, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_size_gives_logits(model, size, channels):
    network = model(in_channels=channels, image_size=size, num_classes=7)
    assert network(torch.rand(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("model", SMALL, ids=_name)
def test_memory_order_of_the_input_does_not_matter(model):
    network = model(in_channels=3, image_size=16, num_classes=4).double().eval()
    images = torch.rand(5, 3, 16, 16, dtype=torch.float64)
    other = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images), network(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", SMALL, ids=_name)
def test_second_derivatives_exist(model):
    network = model(in_channels=1, image_size=12, num_classes=3).double().eval()
    loss = network(torch.rand(4, 1, 12, 12, dtype=torch.float64)).square().mean()
    weights = list(network.parameters())
    first = torch.autograd.grad(loss, weights, create_graph=True)
    norm = sum(gradient.square().sum() for gradient in first)
    second = torch.autograd.grad(norm, weights, materialize_grads=True)
    assert all(gradient.isfinite().all() for gradient in second)
    assert any(gradient.abs().sum() > 0 for gradient in second)


@pytest.mark.parametrize("depth", [8, 20, 32])
def test_resnet_has_as_many_layers_as_its_depth_says(depth):
    network = ResNet(in_channels=3, image_size=32, num_classes=10, depth=depth)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize("depth", [10, 28])
def test_wide_resnet_has_as_many_layers_as_its_depth_says(depth):
    network = WideResNet(in_channels=3, image_size=32, num_classes=10, depth=depth, widen_factor=2)
    # The paper counts the shortcuts' convolutions and not the linear layer.
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == depth


def test_resnet_shortcut_takes_every_second_pixel_and_adds_zeros():
    network = ResNet(in_channels=3, image_size=8, num_classes=10, depth=8).eval()
    block = network.layers[4]
    nn.init.zeros_(block.residual[-1].weight)
    images = torch.rand(2, 16, 8, 8)
    result = block(images)
    assert result.shape == (2, 32, 4, 4)
    assert torch.equal(result[:, :16], images[:, :, ::2, ::2])
    assert not result[:, 16:].any()


def test_cnn3_halves_the_image_three_times_rounding_as_caffe_does():
    network = CNN3(in_channels=3, image_size=32, num_classes=10)
    pools = [m for m in network.features if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    sides = [32]
    for pool in pools:
        sides.append(pool(torch.rand(1, 1, sides[-1], sides[-1])).shape[-1])
    assert sides == [32, 16, 8, 4]


@pytest.mark.parametrize(
    "model",
    [functools.partial(MLP, dropout=0.5), TINY_WIDE],
    ids=_name,
)
def test_dropout_acts_in_train_mode_only(model):
    network = model(in_channels=1, image_size=8, num_classes=3)
    images = torch.rand(4, 1, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_torchvision_model_without_auxiliary_outputs():
    network = torchvision_model(name="googlenet", in_channels=3, image_size=64, num_classes=5)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    ("model", "image", "words"),
    [
        (functools.partial(ResNet, depth=18), (3, 32), "depth=18.*6n\\+2"),
        (functools.partial(ResNet, depth=2), (3, 32), "depth=2.*6n\\+2"),
        (functools.partial(WideResNet, depth=20), (3, 32), "depth=20.*6n\\+4"),
        (functools.partial(WideResNet, widen_factor=0), (3, 32), "widen_factor=0.*at least 1"),
        (functools.partial(WideResNet, dropout=1.0), (3, 32), "dropout=1.0.*\\[0, 1\\)"),
        (functools.partial(MLP, hidden=(8, 0)), (3, 32), "hidden=\\[8, 0\\].*at least 1"),
        (functools.partial(MLP, dropout=-0.1), (3, 32), "dropout=-0.1"),
        (LeNet, (1, 8), "image_size=8.*at least 12"),
        (CNN3, (1, 7), "image_size=7.*at least 8"),
        (functools.partial(torchvision_model, name="resnet81"), (3, 32), "'resnet81'.*resnet"),
        (functools.partial(torchvision_model, name="resnet18"), (1, 32), "needs 3 channels"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(model, image, words):
    channels, size = image
    with pytest.raises(ValueError, match=words):
        model(in_channels=channels, image_size=size, num_classes=10)
