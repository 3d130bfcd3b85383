"""Numbers on their way from an accelerator to the host, with a stand-in for the accelerator."""

import torch

from meta_lr import host


class Device:
    """Numbers on a device, that write down what is asked of them."""

    device = torch.device("cuda")

    def __init__(self, log):
        self.log = log

    def to(self, where, non_blocking):
        self.log.append(("copy", where, non_blocking))
        return torch.tensor([1.0, 2.0])

    def tolist(self):
        self.log.append("wait for the device")
        return [1.0, 2.0]


def test_numbers_are_copied_at_once_and_read_when_their_copy_is_complete(monkeypatch):
    log = []

    class Event:
        def __init__(self, device):
            log.append(("event", device.type))

        def record(self, stream):
            log.append(("record", stream))

        def synchronize(self):
            log.append("wait for the copy")

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: f"of {device}")
    monkeypatch.setattr(host, "Tensor", Device)
    numbers = Device(log)
    assert host.send(numbers) is numbers
    assert log == [("copy", "cpu", True), ("event", "cuda"), ("record", "of cuda")]
    assert host.receive(numbers) == [1.0, 2.0]
    assert log[3:] == ["wait for the copy"]
    assert host.receive(numbers) == [1.0, 2.0], "it can be read again"
    assert log[4:] == ["wait for the copy"]
    assert host.receive(Device(log)) == [1.0, 2.0], "as after a resume"
    assert log[5:] == ["wait for the device"]


def test_numbers_on_the_host_are_what_they_are():
    assert host.receive((1.0, 2.0)) == (1.0, 2.0)
